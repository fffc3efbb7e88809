//! The program `triggers-sim`: runs plans, each in a process of its own, and compares, counts and
//! shrinks them.
//! Invariants: `SIM-CLI-1` the exit code is 0 if the runs found nothing, 1 if they found a
//! violation, 2 if the command line or a file is wrong; `SIM-CLI-2` a failure is printed with the
//! command that repeats it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

mod arguments;
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
use arguments::{Command, Format, RunArguments};
use std::path::PathBuf;
use std::process::ExitCode;

/// The plan to run, and the bug to plant in it.
#[derive(Debug, Clone)]
struct RunSpec {
    /// Scenario to generate the plan from.
    scenario: String,
    seed: u64,
    /// Plan file to run instead of scenario and seed.
    plan_file: Option<PathBuf>,
    bug: Option<String>,
}

impl RunSpec {
    /// The seed in a scenario chosen by the seed: the scenarios take turns.
    fn of_seed(seed: u64) -> Self {
        let scenarios: Vec<&str> = Scenario::names().collect();
        let scenario = scenarios[usize::try_from(seed).unwrap_or(0) % scenarios.len()].to_owned();
        Self { scenario, seed, plan_file: None, bug: None }
    }

    fn plan(&self) -> Result<Plan, String> {
        let Some(file) = &self.plan_file else { return generate(&self.scenario, self.seed) };
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    determinism::fix_addresses();
    match arguments::parse(std::env::args_os().skip(1)).and_then(execute) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("triggers-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> Result<bool, String> {
    match command {
        Command::Run(arguments) => run(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments, false),
        Command::Verify(arguments) => sweep::sweep(&arguments, true),
        Command::Shrink(arguments) => shrink::shrink(&arguments),
        Command::Plan(spec) => print_plan(&spec),
        Command::Scenarios => print_scenarios(),
        Command::Ci(arguments) => ci::ci(&arguments),
        Command::Bugs(arguments) => bugs::bugs(&arguments),
        Command::Print(text) => {
            println!("{text}");
            Ok(true)
        }
    }
}

fn print_plan(spec: &RunSpec) -> Result<bool, String> {
    let plan = serde_json::to_string_pretty(&spec.plan()?).map_err(|error| error.to_string())?;
    println!("{plan}");
    Ok(true)
}

fn print_scenarios() -> Result<bool, String> {
    for name in Scenario::names() {
        println!("{name:<18} {}", Scenario::load(name)?.about);
    }
    Ok(true)
}

fn run(arguments: &RunArguments) -> Result<bool, String> {
    let plan = arguments.spec.plan()?;
    bugs::plant(arguments.spec.bug.as_deref())?;
    let trace = Trace::new(arguments.trace);
    if let Some(level) = arguments.log {
        report::trace_logs(level, &trace)?;
    }
    let outcome = crate::run::run(&plan, &trace)?;
    match arguments.format {
        Format::Text => report::text(&plan, &outcome, &trace, &arguments.spec),
        Format::Json => report::json(&plan, &outcome, &trace),
    }
    Ok(outcome.violations.is_empty())
}
