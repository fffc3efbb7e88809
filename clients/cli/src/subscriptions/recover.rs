//! `triggers subscriptions recover`: sends a subscription what it has missed.
//!
//! One request recovers some events and says where it stopped; the command repeats it from there.

use clap::Args;
use serde_json::json;

use triggers_client::Client;
use triggers_client::api::SubscriptionRecovery;
use triggers_protocol::Timestamp;

use super::super::exit::CommandResult;
use super::super::output;

/// Arguments of `triggers subscriptions recover`.
#[derive(Debug, Args)]
pub struct RecoverArguments {
    /// The subscription's id
    #[arg(value_name = "ID")]
    id: String,
    /// Only events accepted from this time on, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    since: Timestamp,
    /// Only count the events
    #[arg(long)]
    dry_run: bool,
    /// Go on where an earlier command was stopped
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub(super) async fn run(
    client: &Client,
    arguments: &RecoverArguments,
    json: bool,
) -> CommandResult {
    let RecoverArguments { id, since, dry_run, cursor } = arguments;
    let mut recovery = SubscriptionRecovery { since: *since, cursor: cursor.clone() };
    let mut recovered = 0;
    loop {
        let answer = match client.recover_subscription(id, *dry_run, &recovery).await {
            Ok(reply) => reply.decode()?,
            Err(error) => {
                if let Some(cursor) = &recovery.cursor {
                    let cursor = output::printable(cursor);
                    output::note(&format!("{recovered} so far; to go on: --cursor {cursor}"));
                }
                return Err(error.into());
            }
        };
        recovered += answer.recovered;
        if !answer.has_more {
            break;
        }
        recovery.cursor = answer.cursor.or(recovery.cursor);
    }
    let text = match dry_run {
        true => format!("{recovered} events would be recovered"),
        false => format!("recovered {recovered} events"),
    };
    output::result(json, &json!({ "dry_run": dry_run, "recovered": recovered }), &text)
}
