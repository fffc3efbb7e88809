//! The program `triggers-sim`: runs plans, one process each, and compares, counts and shrinks them.
//!
//! ```text
//! run    --scenario S --seed N | --plan FILE     one run: its trace, its violations
//! sweep  --scenario S --seeds A..B --jobs J      many: progress, faults that fired, the first failures
//! verify --scenario S --seeds A..B               each twice: the traces must be the same
//! plan   --scenario S --seed N                   the plan of a seed, as a file that can be changed and run
//! shrink --scenario S --seed N | --plan FILE     a smaller plan that still fails, as a file
//! ci                                             what CI runs: every scenario, `verify`, and the seeds of `seeds.toml`
//! bugs                                           finds each planted bug, in builds that have them
//! ```
//! Invariants: `SIM-CLI-1` the exit code is 0 if nothing was found, 1 if something was, 2 if it was called wrongly;
//! `SIM-CLI-2` a failure comes with the command that repeats it.

mod bugs;
mod child;
mod ci;
mod report;
mod shrink;
mod sweep;

use crate::determinism;
use crate::plan::Plan;
use crate::plan::generate::generate;
use crate::plan::scenario::Scenario;
use crate::trace::Trace;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "triggers-sim",
    about = "Deterministic simulation of whole Triggers clusters",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one plan and say what was found
    Run(RunArguments),
    /// Run many seeds
    Sweep(SweepArguments),
    /// Run each seed twice and compare the traces
    Verify(SweepArguments),
    /// Make a failing plan smaller
    Shrink(ShrinkArguments),
    /// Print the plan of a seed
    Plan(Which),
    /// List the scenarios
    Scenarios,
    /// Run what CI runs
    Ci(ci::CiArguments),
    /// Find every planted bug
    Bugs(bugs::BugsArguments),
}

/// Which plan.
#[derive(Debug, Clone, Args)]
struct Which {
    /// Scenario that the plan is made of
    #[arg(long, default_value = "chaos")]
    scenario: String,
    /// Seed of the plan
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Plan file, in place of scenario and seed
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Bug to plant, in builds with the feature `planted-bugs`
    #[arg(long)]
    bug: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    which: Which,
    /// Print the trace: every operation, fault, message and commit of note
    #[arg(long)]
    trace: bool,
    /// With the trace, the log lines of the nodes at this level (error, warn, info, debug, trace)
    #[arg(long)]
    log: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
struct SweepArguments {
    /// Scenario; all of them in turn if none is named
    #[arg(long)]
    scenario: Option<String>,
    /// Seeds, the end not included: 0..1000
    #[arg(long, value_parser = seeds)]
    seeds: Range<u64>,
    /// Processes at the same time; one for each core if it is not given
    #[arg(long)]
    jobs: Option<usize>,
    /// Stop after so many failures
    #[arg(long, default_value_t = 5)]
    failures_max: usize,
    /// Bug to plant, in builds with the feature `planted-bugs`
    #[arg(long)]
    bug: Option<String>,
}

#[derive(Debug, Args)]
struct ShrinkArguments {
    #[command(flatten)]
    which: Which,
    /// Where the smaller plan goes
    #[arg(long, default_value = "plan.json")]
    output: PathBuf,
    /// Runs at most
    #[arg(long, default_value_t = 400)]
    runs_max: usize,
}

/// `A..B`.
fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parsed =
        text.split_once("..").and_then(|(begin, end)| Some(begin.parse().ok()?..end.parse().ok()?));
    parsed
        .filter(|range: &Range<u64>| !range.is_empty())
        .ok_or_else(|| "must be like 0..1000".to_owned())
}

impl Which {
    /// The seed in the scenario whose turn it is: they take turns.
    fn of(seed: u64) -> Self {
        let scenarios: Vec<&str> = Scenario::names().collect();
        let scenario = scenarios[usize::try_from(seed).unwrap_or(0) % scenarios.len()].to_owned();
        Self { scenario, seed, plan: None, bug: None }
    }

    fn plan(&self) -> Result<Plan, String> {
        match &self.plan {
            None => generate(&self.scenario, self.seed),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
                serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
            }
        }
    }
}

/// The program.
pub fn main() -> ExitCode {
    determinism::fix_addresses();
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments, false),
        Command::Verify(arguments) => sweep::sweep(&arguments, true),
        Command::Shrink(arguments) => shrink::shrink(&arguments),
        Command::Plan(which) => print(&which),
        Command::Scenarios => scenarios(),
        Command::Ci(arguments) => ci::ci(&arguments),
        Command::Bugs(arguments) => bugs::bugs(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(&error);
            ExitCode::from(2)
        }
    }
}

fn print(which: &Which) -> Result<bool, String> {
    let plan = serde_json::to_string_pretty(&which.plan()?).map_err(|error| error.to_string())?;
    report::say(format_args!("{plan}"));
    Ok(true)
}

fn scenarios() -> Result<bool, String> {
    for name in Scenario::names() {
        report::say(format_args!("{name:<18} {}", Scenario::load(name)?.about));
    }
    Ok(true)
}

fn run(arguments: &RunArguments) -> Result<bool, String> {
    let plan = arguments.which.plan()?;
    bugs::plant(arguments.which.bug.as_deref())?;
    let trace = Trace::new(arguments.trace);
    if let Some(level) = &arguments.log {
        report::log(level, &trace)?;
    }
    let outcome = crate::run::run(&plan, &trace)?;
    match arguments.format {
        Format::Text => report::text(&plan, &outcome, &trace, &arguments.which),
        Format::Json => report::json(&plan, &outcome, &trace),
    }
    Ok(outcome.violations.is_empty())
}
