//! `triggers config …`: checks a configuration without starting a node, and prints the defaults.
//!
//! `check` loads what `serve` would load, from the same arguments and environment. It lists every
//! fault and exits with code 3. It does not check what only a start can tell, such as whether an
//! address is free.

use triggers_cluster_config::default_toml;

use super::arguments::ConfigCommand;
use super::exit::CommandResult;
use super::output;

pub(super) fn run(command: ConfigCommand) -> CommandResult {
    match command {
        ConfigCommand::Default => output::line(default_toml().trim_end()),
        ConfigCommand::Check(arguments) => {
            arguments.options()?;
            output::line("configuration is valid")
        }
    }
}
