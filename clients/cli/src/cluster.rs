//! `triggers cluster …`: the members of a cluster, the drain of a node, and the certificates that nodes show each other.
//!
//! `status` and `drain` ask the admin listener of one node; what it answers is its own view (`view`). `certs` asks nobody:
//! it makes files before there is a node.
//!
//! It decides nothing about partitions: who owns what is settled by the nodes in the store.

use clap::Subcommand;

use super::exit::CommandError;

pub mod certs;
pub mod drain;
pub mod status;
pub mod view;

#[cfg(test)]
mod tests;

/// The commands on a cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the members and the partitions, as one node sees them
    Status(status::StatusArguments),
    /// Mark a node as draining: others take over its partitions while it serves on
    Drain(drain::DrainArguments),
    /// Make the certificates that nodes show each other
    Certs(certs::CertsArguments),
}

/// Runs one command on a cluster.
///
/// # Errors
/// What the node refused, why it could not be reached, or why a file could not be made.
pub async fn run(command: ClusterCommand) -> Result<(), CommandError> {
    match command {
        ClusterCommand::Status(arguments) => status::run(&arguments).await,
        ClusterCommand::Drain(arguments) => drain::run(&arguments).await,
        ClusterCommand::Certs(arguments) => certs::run(&arguments),
    }
}
