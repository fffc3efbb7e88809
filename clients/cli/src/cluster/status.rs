//! `triggers cluster status`: the nodes of a cluster and the owners of partitions, as one node sees
//! them.
//!
//! The exit code is 0 whether the cluster is healthy or not. The output names partitions without an
//! owner; alerts judge that.

use super::super::connection::AdminArguments;
use super::super::exit::CommandResult;
use super::super::output;
use super::super::table::Table;
use super::view::View;
use clap::Args;

/// Arguments of `triggers cluster status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers cluster status
  triggers cluster status --admin-url http://10.0.0.1:9090 --partitions

LINK is whether the answering node reaches the node; BEAT-AGE is the time since its last \
heartbeat.")]
pub struct StatusArguments {
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Show the owner of each partition as well
    #[arg(long)]
    pub partitions: bool,
    /// Print the node's answer instead of tables
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Asks the node and prints its answer.
pub async fn run(arguments: &StatusArguments) -> CommandResult {
    let (view, reply) = View::ask(&arguments.admin.client()?).await?;
    if arguments.json {
        return output::json_text(reply.text()?);
    }
    output::line(&members(&view).to_string())?;
    output::line(&format!("\n{}", summary(&view)))?;
    if arguments.partitions {
        output::line(&format!("\n{}", owners(&view)))?;
    }
    Ok(())
}

/// The nodes, in the order of their names.
pub(super) fn members(view: &View) -> Table {
    let unknown = || "-".to_owned();
    let mut sorted: Vec<_> = view.members.iter().collect();
    sorted.sort_by_key(|member| (&member.name, &member.incarnation));
    let names = "NAME STATE LINK BEAT-AGE PARTITIONS SHARE ADDRESS VERSION";
    let mut table = Table::new(names.split(' '));
    for member in sorted {
        table.row([
            member.name.clone(),
            member.state.clone(),
            member.link.clone().unwrap_or_else(unknown),
            member.beat_age_ms.map_or_else(unknown, |age| format!("{:.1} s", age as f64 / 1_000.0)),
            member.partitions_owned.to_string(),
            share(member.partitions_owned, view.partitions.count),
            member.address.clone().unwrap_or_else(unknown),
            member.version.clone().unwrap_or_else(unknown),
        ]);
    }
    table
}

/// A summary of the partitions, with a second line if some have no owner.
pub(super) fn summary(view: &View) -> String {
    let partitions = &view.partitions;
    let (owned, count) = (view.owned(), partitions.count);
    let epochs = format!("epochs {} to {}", partitions.epoch_min, partitions.epoch_max);
    let mut text = format!("partitions: {owned} of {count} owned, {epochs}");
    let unowned = view.unowned();
    if !unowned.is_empty() {
        text.push_str(&format!("\nwithout owner: {}", ranges(&unowned)));
    } else if owned < count {
        text.push_str(&format!("\nwithout owner: {}", count - owned));
    }
    text
}

/// The owner of each partition.
pub(super) fn owners(view: &View) -> Table {
    let mut table = Table::new(["PARTITION", "OWNER", "EPOCH", "INCARNATION"]);
    for one in &view.partitions.owners {
        table.row([
            one.partition.to_string(),
            one.owner.clone().unwrap_or_else(|| "-".to_owned()),
            one.epoch.to_string(),
            one.incarnation.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn share(owned: u64, count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", owned as f64 * 100.0 / count as f64),
    }
}

/// Writes ascending numbers as ranges, such as `1-3, 7`.
fn ranges(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let run = |run: &[u64]| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u64::to_string).collect(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}
