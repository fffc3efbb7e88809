//! `triggers config …`: check a configuration without starting anything, print the defaults.
//!
//! `check` loads exactly what `serve` would load, from the same arguments and the same environment, so that a service
//! manager can refuse a bad file before it stops the running node. Invariant: every fault is listed, one a line, and the
//! exit code is 3.
//!
//! It does not look at what only a start can tell, such as whether an address is free.

use triggers_cluster_config::default_toml;

use super::arguments::ConfigCommand;
use super::exit::CommandError;
use super::output;

pub(super) fn run(command: ConfigCommand) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Default => output::line(default_toml().trim_end()),
        ConfigCommand::Check(arguments) => {
            arguments.options()?;
            output::line("configuration is valid")
        }
    }
}
