//! `triggers cluster drain`: marks a node as draining, and optionally waits until others own its
//! partitions.
//!
//! The node keeps serving and fails its readiness check, so that load balancers turn away. The wait
//! ends at the timeout at the latest, which is a failure. A node that does not answer is asked
//! again, since it may be busy. Only a restart of the node ends a drain.

use super::super::connection::AdminArguments;
use super::super::exit::{CommandError, CommandResult};
use super::super::output;
use super::view::View;
use clap::Args;
use std::time::Duration;
use triggers_client::{Call, Client};

/// Pause between two questions to the node.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `triggers cluster drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  triggers cluster drain --wait && systemctl restart triggers

The node serves on while others take over its partitions. With --wait the exit code is 1 if it \
still \
owns some when the time is up.")]
pub struct DrainArguments {
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Wait until the node owns no partition
    #[arg(long)]
    pub wait: bool,
    /// Longest wait, in seconds
    #[arg(long, value_name = "N", default_value_t = 120, requires = "wait")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// Asks the node to drain, and waits if requested.
///
/// # Errors
/// Why the node cannot be reached; `CommandError::Failed` if it still owns partitions at the
/// timeout.
pub async fn run(arguments: &DrainArguments) -> CommandResult {
    let client = arguments.admin.client()?;
    client.send::<()>(Call::post(&["cluster", "drain"])).await?;
    if !arguments.wait {
        return output::line("draining");
    }
    wait(&client, Duration::from_secs(arguments.timeout), POLL_INTERVAL).await?;
    output::line("drained")
}

/// Waits until the node owns nothing.
pub(super) async fn wait(client: &Client, timeout: Duration, interval: Duration) -> CommandResult {
    let mut last = "no answer".to_owned();
    let mut owned_before = None;
    let drained = async {
        loop {
            match View::ask(client).await {
                Ok((view, _)) => {
                    let Some(owned) = view.owned_by_node() else {
                        let text = "the node does not say what it owns";
                        return Err(CommandError::Failed(text.to_owned()));
                    };
                    if owned == 0 {
                        return Ok(());
                    }
                    last = remaining(&view, owned);
                    if owned_before.replace(owned) != Some(owned) {
                        output::progress(&last);
                    }
                }
                Err(error) if error.is_temporary() => last = error.to_string(),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(interval).await;
        }
    };
    let outcome = tokio::time::timeout(timeout, drained).await;
    output::progress_end();
    outcome.unwrap_or_else(|_| {
        Err(CommandError::Failed(format!("not drained within {} s: {last}", timeout.as_secs())))
    })
}

fn remaining(view: &View, owned: u64) -> String {
    let takers = if view.others_up() == 0 { ", and no other node is up to take over" } else { "" };
    format!("it owns {owned} of {} partitions{takers}", view.partitions.count)
}
