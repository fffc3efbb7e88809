//! The command line of `triggers-sim`: its commands and their options.

use super::RunSpec;
use crate::plan::scenario::Scenario;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ops::Range;
use std::path::PathBuf;
use tracing_subscriber::filter::LevelFilter;

#[derive(Debug, Parser)]
#[command(name = "triggers-sim", version)]
#[command(about = "Deterministic simulation of whole Triggers clusters")]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run one plan and print what was found
    Run(RunArguments),
    /// Run many seeds
    Sweep(SweepArguments),
    /// Run each seed twice and compare the traces
    Verify(SweepArguments),
    /// Make a failing plan smaller
    Shrink(ShrinkArguments),
    /// Print the plan of a seed
    Plan(RunSpec),
    /// List the scenarios
    Scenarios,
    /// Run what CI runs
    Ci(CiArguments),
    /// Find every planted bug
    Bugs(BugsArguments),
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) spec: RunSpec,
    /// Print the trace: operations, faults, messages and notable commits
    #[arg(long)]
    pub(super) trace: bool,
    /// Add the nodes' log lines of this level to the trace (error, warn, info, ...)
    #[arg(long, value_name = "LEVEL")]
    pub(super) log: Option<LevelFilter>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct SweepArguments {
    /// Scenario; all of them in turn by default
    #[arg(long, value_parser = known_scenario)]
    pub(super) scenario: Option<String>,
    /// Seeds, the end not included: 0..1000
    #[arg(long, value_parser = seed_range)]
    pub(super) seeds: Range<u64>,
    /// Processes to run at the same time [default: one per core]
    #[arg(long)]
    pub(super) jobs: Option<usize>,
    /// Stop after so many failures
    #[arg(long, default_value_t = 5)]
    pub(super) failures_max: usize,
    /// Bug to plant, in builds with the feature `planted-bugs`
    #[arg(long)]
    pub(super) bug: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ShrinkArguments {
    #[command(flatten)]
    pub(super) spec: RunSpec,
    /// File for the smaller plan
    #[arg(long, default_value = "plan.json")]
    pub(super) output: PathBuf,
    /// Upper bound on the number of runs
    #[arg(long, default_value_t = 400)]
    pub(super) runs_max: usize,
}

#[derive(Debug, Args)]
pub(super) struct CiArguments {
    /// Number of seeds, over all scenarios
    #[arg(long, default_value_t = 200)]
    pub(super) seeds: u64,
    /// Number of seeds to run twice
    #[arg(long, default_value_t = 20)]
    pub(super) verified: u64,
}

#[derive(Debug, Args)]
pub(super) struct BugsArguments {
    /// Seeds to try for each bug, over all scenarios
    #[arg(long, default_value_t = 300)]
    pub(super) seeds: u64,
    /// Look for this bug only
    #[arg(long)]
    pub(super) bug: Option<String>,
}

fn known_scenario(name: &str) -> Result<String, String> {
    Scenario::load(name).map(|_| name.to_owned())
}

/// Parses `A..B`, a range that is not empty.
fn seed_range(text: &str) -> Result<Range<u64>, String> {
    let parsed =
        text.split_once("..").and_then(|(begin, end)| Some(begin.parse().ok()?..end.parse().ok()?));
    parsed
        .filter(|range: &Range<u64>| !range.is_empty())
        .ok_or_else(|| "must be like 0..1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Result<Command, String> {
        let words = std::iter::once("triggers-sim").chain(line.split_whitespace());
        let parsed = Arguments::try_parse_from(words).map_err(|error| error.to_string());
        parsed.map(|arguments| arguments.command)
    }

    #[test]
    fn every_command_accepts_its_options_and_has_a_help_text() {
        let arguments = Arguments::command();
        arguments.clone().debug_assert();
        for command in arguments.get_subcommands() {
            let name = command.get_name();
            let mut line = name.to_owned();
            for option in command.get_arguments().filter_map(|option| option.get_long()) {
                line += &match option {
                    "trace" => " --trace".to_owned(),
                    "seeds" if ["sweep", "verify"].contains(&name) => " --seeds 0..7".to_owned(),
                    "scenario" => " --scenario burst".to_owned(),
                    "format" => " --format=json".to_owned(),
                    "log" => " --log info".to_owned(),
                    option => format!(" --{option} 7"),
                };
            }
            assert!(parsed(&line).is_ok(), "{line}: {:?}", parsed(&line));
            let about = command.get_about().expect("every command has a help text").to_string();
            for line in [format!("{name} --help"), format!("help {name}")] {
                let help = parsed(&line).expect_err("clap reports a request for help as an error");
                assert!(help.contains(&about), "{help}");
            }
        }
    }

    #[test]
    fn mistakes_are_rejected_with_their_reason() {
        for (line, reason) in [
            ("", "Usage: triggers-sim <COMMAND>"),
            ("fly", "unrecognized subcommand 'fly'"),
            ("run --seeds 1", "unexpected argument '--seeds'"),
            ("run --seed", "a value is required"),
            ("run --seed x", "invalid digit"),
            ("run --seed 1 --seed 2", "cannot be used multiple times"),
            ("run --format xml", "possible values: text, json"),
            ("run --log loud", "invalid value 'loud'"),
            ("sweep", "--seeds <SEEDS>"),
            ("sweep --seeds 5..5", "must be like 0..1000"),
            ("sweep --seeds 0..5 --scenario none", "there is no scenario \"none\""),
            ("scenarios extra", "unexpected argument 'extra'"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
