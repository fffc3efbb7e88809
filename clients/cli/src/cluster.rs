//! `triggers cluster …`: the nodes of a cluster, the drain of a node, and the nodes' certificates.
//!
//! `status` and `drain` ask the admin listener of one node, which answers with its own view.
//! `certs` asks no node.

use super::exit::CommandResult;
use clap::Subcommand;

pub mod certs;
pub mod drain;
pub mod status;
pub mod view;

#[cfg(test)]
mod tests;

/// The commands on a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the nodes and the partitions, as one node sees them
    Status(status::StatusArguments),
    /// Mark a node as draining: others take over its partitions while it serves on
    Drain(drain::DrainArguments),
    /// Make the certificates that nodes show each other
    Certs(certs::CertsArguments),
}

/// Runs one command on a cluster.
///
/// # Errors
/// The node's error, why it cannot be reached, or why a file cannot be written.
pub async fn run(command: ClusterCommand) -> CommandResult {
    match command {
        ClusterCommand::Status(arguments) => status::run(&arguments).await,
        ClusterCommand::Drain(arguments) => drain::run(&arguments).await,
        ClusterCommand::Certs(arguments) => certs::run(&arguments),
    }
}
