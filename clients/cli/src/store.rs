//! `triggers store …`: the data directory of the embedded engine.
//!
//! `check` and `stats` read the directory of a stopped node. `backup` asks a running node, on its
//! admin listener, to copy its own. Damage is reported with the file that has it, and exit code 1.
//! Existing files are never overwritten.

use super::connection::AdminArguments;
use super::exit::{CommandError, CommandResult};
use super::output;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;
use triggers_client::Call;
use triggers_node::admin::{Backup, BackupRequest};
use triggers_store::kv::embedded::{Inspection, RecoveryReport, inspect};

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The commands on a data directory.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Read all of a stopped node's data directory, and check that it is intact
    Check(DirectoryArguments),
    /// Show how much is in a stopped node's data directory
    Stats(DirectoryArguments),
    /// Have a running node copy its data into a new directory of its machine
    Backup(BackupArguments),
}

/// Arguments of `triggers store check` and `stats`.
#[derive(Debug, Args)]
pub struct DirectoryArguments {
    /// Data directory of a stopped node
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `triggers store backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  triggers store backup /var/backups/triggers-2026-11-25

The copy is one state of the store and a data directory of its own: to restore it, start a node \
on it.")]
pub struct BackupArguments {
    /// Where the copy goes: a directory that is empty or not there yet
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    #[command(flatten)]
    pub admin: AdminArguments,
}

/// Runs one command on a data directory.
///
/// # Errors
/// The damage found, or the node's error.
pub async fn run(command: StoreCommand) -> CommandResult {
    match command {
        StoreCommand::Check(arguments) => look(&arguments, true),
        StoreCommand::Stats(arguments) => look(&arguments, false),
        StoreCommand::Backup(arguments) => backup(&arguments).await,
    }
}

fn look(arguments: &DirectoryArguments, reads_pairs: bool) -> CommandResult {
    let inspection = inspect(&arguments.directory, reads_pairs)
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    let Inspection { pairs, file_bytes, used_bytes, segments, segment_bytes, unflushed } =
        inspection;
    let RecoveryReport { records, bytes, cut, .. } = unflushed;
    let cut = cut.map(|(file, offset)| format!("{file}, offset {offset}"));
    if arguments.json {
        return output::json(&serde_json::json!({
            "pairs": pairs,
            "data_file_bytes": file_bytes,
            "data_file_used_bytes": used_bytes,
            "log_segments": segments,
            "log_bytes": segment_bytes,
            "log_waiting_records": records,
            "log_waiting_bytes": bytes,
            "log_cut": cut,
        }));
    }
    output::line(&format!(
        "data file   {pairs} pairs, {used_bytes} of {file_bytes} bytes in use\n\
         log         {segments} segments, {segment_bytes} bytes\n\
         waiting     {records} records, {bytes} bytes: read back at the next start"
    ))?;
    if let Some(cut) = cut {
        output::line(&format!("cut         a record that was never whole: {cut}"))?;
    }
    if reads_pairs {
        return output::line("whole");
    }
    Ok(())
}

async fn backup(arguments: &BackupArguments) -> CommandResult {
    let directory = std::path::absolute(&arguments.directory).map_err(|error| {
        CommandError::Usage(format!("{}: {error}", arguments.directory.display()))
    })?;
    let client = arguments.admin.client()?;
    let request = BackupRequest { directory: directory.clone() };
    client.send::<Backup>(Call::post(&["store", "backup"]).json(&request)?).await?;
    loop {
        match client.send::<Backup>(Call::get(&["store", "backup"])).await?.decode()? {
            Backup::Running { .. } => tokio::time::sleep(POLL_INTERVAL).await,
            Backup::Done { pairs, bytes, .. } => {
                let name = directory.display();
                return output::line(&format!("{name}: {pairs} pairs, {bytes} bytes"));
            }
            Backup::Failed { reason, .. } => return Err(CommandError::Failed(reason)),
            Backup::None => {
                let text = "the node was started again meanwhile";
                return Err(CommandError::Failed(text.to_owned()));
            }
        }
    }
}
