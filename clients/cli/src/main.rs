//! The binary `triggers`: the definition of the command line, and the dispatch to the commands.
//!
//! ```text
//! triggers dev | serve          run a node              (triggers_node::run)
//! triggers config | openapi     print, check            (arguments)
//! triggers events|keys|tenants  call a node's API       (triggers_client)
//! triggers subscriptions        the same, for webhooks  (triggers_client)
//! triggers cluster              nodes, drain, certificates (cluster)
//! triggers store                a data directory        (store)
//! triggers listen               receive webhooks here   (listen)
//! triggers bench                load a node             (triggers_bench)
//! triggers completions          shell completions
//! ```
//! Results go to stdout and everything else to stderr. Each outcome has one of the exit codes in
//! [`exit`]. A reader that closes the pipe early ends the command quietly.

use arguments::{ConfigCommand, DevArguments, ServeArguments};
use bench_arguments::BenchArguments;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory as _, Parser, Subcommand};
use cluster::ClusterCommand;
use events::EventsArguments;
use exit::CommandResult;
use keys::KeysArguments;
use listen::ListenArguments;
use std::process::ExitCode;
use store::StoreCommand;
use subscriptions::SubscriptionsArguments;
use tenants::TenantsArguments;
use tokio::runtime::Handle;
use triggers_node::run::Runtimes;

mod arguments;
mod bench_arguments;
mod cluster;
mod connection;
mod events;
mod exit;
mod keys;
mod listen;
mod memory;
mod output;
mod record;
mod store;
mod subscriptions;
mod table;
mod tenants;

#[cfg(test)]
mod tests;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Try it (the second to fifth in another terminal):
  triggers dev                                              a node here, data in data/dev
  triggers events send --type a.b --payload '{\"n\":1}'       send an event
  triggers events list                                      see it in the inbox
  triggers events tail                                      watch new ones arrive
  triggers listen                                           have them sent here as webhooks

Exit codes:
  0  the command did what was asked
  1  the operation failed: the API answered with an error, or the node could not be reached
  2  the command line is wrong
  3  the configuration is wrong, or the first admin key is missing
  4  the node could not start (address in use, data directory locked, …)
  5  the node was stopped by a fatal fault";

/// Triggers: a durable event broker. Partners send events over HTTP; consumers pull and acknowledge
/// them.
#[derive(Debug, Parser)]
#[command(name = "triggers", version, after_help = EXAMPLES, styles = STYLES, max_term_width = 110)]
#[command(arg_required_else_help = true, propagate_version = true)]
pub struct CommandLine {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `triggers`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node for development: no configuration, keys made at the first start
    Dev(DevArguments),
    /// Run a node from a configuration
    Serve(ServeArguments),
    /// Check a configuration, or print the defaults
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Print the OpenAPI 3.1 document of the HTTP API
    Openapi,
    /// Create, list, rotate and revoke API keys
    Keys(KeysArguments),
    /// Create, list and change tenants (needs an admin key)
    Tenants(TenantsArguments),
    /// Send, list, show, acknowledge, delete and watch events
    Events(EventsArguments),
    /// Create, list, change and test webhook subscriptions
    Subscriptions(SubscriptionsArguments),
    /// Show the nodes of a cluster, drain a node, make the certificates of nodes
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(ClusterCommand),
    /// Check, measure and back up the data directory of a node
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCommand),
    /// Receive webhooks here and check their signatures
    Listen(ListenArguments),
    /// Load a node, or measure what HTTP alone can do on this machine
    Bench(BenchArguments),
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  triggers completions bash > /etc/bash_completion.d/triggers"
    )]
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    memory::set_up();
    execute(CommandLine::parse())
}

/// Runs one command to its end and reports an error on stderr.
fn execute(line: CommandLine) -> ExitCode {
    let is_node = matches!(line.command, Command::Dev(_) | Command::Serve(_));
    let runtimes = match Runtimes::start(is_node) {
        Ok(runtimes) => runtimes,
        Err(error) => {
            output::note(&format!("error: the runtime cannot start: {error}"));
            return exit::START.into();
        }
    };
    let code = match runtimes.main().block_on(run(line.command, runtimes.connections().clone())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    };
    runtimes.shut_down();
    code
}

async fn run(command: Command, connections: Handle) -> CommandResult {
    match command {
        Command::Dev(arguments) => {
            triggers_node::run::dev(arguments.options()?, connections).await.map_err(Into::into)
        }
        Command::Serve(arguments) => {
            triggers_node::run::serve(arguments.options()?, connections).await.map_err(Into::into)
        }
        Command::Config(command) => command.run(),
        Command::Openapi => output::line(triggers_node::api::document_json().trim_end()),
        Command::Keys(arguments) => keys::run(arguments).await,
        Command::Tenants(arguments) => tenants::run(arguments).await,
        Command::Events(arguments) => events::run(arguments).await,
        Command::Subscriptions(arguments) => subscriptions::run(arguments).await,
        Command::Cluster(command) => cluster::run(command).await,
        Command::Store(command) => store::run(command).await,
        Command::Listen(arguments) => listen::run(arguments).await,
        Command::Bench(arguments) => bench_arguments::run(arguments).await,
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "triggers", &mut script);
    output::bytes(&script)
}
