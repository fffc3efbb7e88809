//! The command line of `triggers-sim`: its commands, their options and the help text.

use super::RunSpec;
use crate::plan::scenario::Scenario;
use lexopt::{Arg, ValueExt};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use tracing_subscriber::filter::LevelFilter;

/// A parsed command line.
#[derive(Debug)]
pub(super) enum Command {
    Run(RunArguments),
    Sweep(SweepArguments),
    Verify(SweepArguments),
    Shrink(ShrinkArguments),
    Plan(RunSpec),
    Scenarios,
    Ci(CiArguments),
    Bugs(BugsArguments),
    /// Print this text: the help, or the version.
    Print(String),
}

#[derive(Debug)]
pub(super) struct RunArguments {
    pub(super) spec: RunSpec,
    pub(super) trace: bool,
    pub(super) log: Option<LevelFilter>,
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Debug)]
pub(super) struct SweepArguments {
    /// All scenarios in turn if there is none.
    pub(super) scenario: Option<String>,
    pub(super) seeds: Range<u64>,
    pub(super) jobs: Option<usize>,
    pub(super) failures_max: usize,
    pub(super) bug: Option<String>,
}

#[derive(Debug)]
pub(super) struct ShrinkArguments {
    pub(super) spec: RunSpec,
    pub(super) output: PathBuf,
    pub(super) runs_max: usize,
}

#[derive(Debug)]
pub(super) struct CiArguments {
    pub(super) seeds: u64,
    pub(super) verified: u64,
}

#[derive(Debug)]
pub(super) struct BugsArguments {
    /// Seeds to try for each bug.
    pub(super) seeds: u64,
    pub(super) bug: Option<String>,
}

const HELP: &str = "\
Deterministic simulation of whole Triggers clusters

Usage: triggers-sim <COMMAND> [OPTIONS]

  run        Run one plan and print what was found
               --scenario, --seed, --plan, --bug: the plan, see below
               --trace          Print operations, faults, messages and notable commits
               --log LEVEL      Add the nodes' log lines of this level to the trace
               --format FORMAT  text or json [default: text]
  sweep      Run many seeds
               --seeds A..B     Required. The end is not included
               --scenario NAME  All scenarios in turn by default
               --jobs N         Processes at the same time [default: one per core]
               --failures-max N Stop after so many failures [default: 5]
               --bug BUG        Bug to plant
  verify     Run each seed twice and compare the traces; options of sweep
  shrink     Make a failing plan smaller
               --scenario, --seed, --plan, --bug: the plan, see below
               --output FILE    File for the smaller plan [default: plan.json]
               --runs-max N     Upper bound on the number of runs [default: 400]
  plan       Print the plan of --scenario, --seed, --plan, --bug
  scenarios  List the scenarios
  ci         Run what CI runs
               --seeds N        Number of seeds, over all scenarios [default: 200]
               --verified N     Number of seeds to run twice [default: 20]
  bugs       Find every planted bug
               --seeds N        Seeds to try for each bug [default: 300]
               --bug BUG        Look for this bug only

The plan of a run:
  --scenario NAME  Scenario to generate the plan from [default: chaos]
  --seed N         Seed of the plan [default: 0]
  --plan FILE      Plan file to run instead of scenario and seed
  --bug BUG        Bug to plant, in builds with the feature `planted-bugs`

  -h, --help       Print this text
  -V, --version    Print version";
/// Options without a value.
const FLAGS: [&str; 1] = ["trace"];

/// Parses the command line without the program's name.
///
/// # Errors
/// A message for the user: an unknown command or option, or a value that is missing or malformed.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut command: Option<String> = None;
    let mut values = Values(BTreeMap::new());
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Print(HELP.to_owned())),
            Arg::Short('V') | Arg::Long("version") => {
                let version = concat!("triggers-sim ", env!("CARGO_PKG_VERSION"));
                return Ok(Command::Print(version.to_owned()));
            }
            Arg::Value(name) if command.is_none() => command = Some(name.string().map_err(text)?),
            Arg::Long(name) => {
                let name = name.to_owned();
                let value = if FLAGS.contains(&&*name) {
                    String::new()
                } else {
                    parser.value().and_then(ValueExt::string).map_err(text)?
                };
                if values.0.insert(name.clone(), value).is_some() {
                    return Err(format!("--{name} is given twice"));
                }
            }
            argument => return Err(text(argument.unexpected())),
        }
    }
    let name = command.ok_or("a command is missing; try --help")?;
    let command = values.command(&name)?;
    match values.0.keys().next() {
        Some(option) => Err(format!("{name} has no option --{option}; try --help")),
        None => Ok(command),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// The options given on the command line, by name. A command removes those that it has.
struct Values(BTreeMap<String, String>);

impl Values {
    fn optional<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|error| format!("--{name} {value:?}: {error}"))
    }

    fn or<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, String> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    fn spec(&mut self) -> Result<RunSpec, String> {
        Ok(RunSpec {
            scenario: self.or("scenario", "chaos".to_owned())?,
            seed: self.or("seed", 0)?,
            plan_file: self.optional("plan")?,
            bug: self.optional("bug")?,
        })
    }

    fn sweep(&mut self) -> Result<SweepArguments, String> {
        let seeds: String = self.optional("seeds")?.ok_or("--seeds is required")?;
        let scenario: Option<String> = self.optional("scenario")?;
        if let Some(name) = &scenario {
            Scenario::load(name)?;
        }
        Ok(SweepArguments {
            scenario,
            seeds: seed_range(&seeds)?,
            jobs: self.optional("jobs")?,
            failures_max: self.or("failures-max", 5)?,
            bug: self.optional("bug")?,
        })
    }

    fn command(&mut self, name: &str) -> Result<Command, String> {
        Ok(match name {
            "run" => Command::Run(RunArguments {
                spec: self.spec()?,
                trace: self.0.remove("trace").is_some(),
                log: self.optional("log")?,
                format: match self.or("format", "text".to_owned())?.as_str() {
                    "text" => Format::Text,
                    "json" => Format::Json,
                    other => return Err(format!("--format {other:?}: must be text or json")),
                },
            }),
            "sweep" => Command::Sweep(self.sweep()?),
            "verify" => Command::Verify(self.sweep()?),
            "shrink" => Command::Shrink(ShrinkArguments {
                spec: self.spec()?,
                output: self.or("output", PathBuf::from("plan.json"))?,
                runs_max: self.or("runs-max", 400)?,
            }),
            "plan" => Command::Plan(self.spec()?),
            "scenarios" => Command::Scenarios,
            "ci" => Command::Ci(CiArguments {
                seeds: self.or("seeds", 200)?,
                verified: self.or("verified", 20)?,
            }),
            "bugs" => Command::Bugs(BugsArguments {
                seeds: self.or("seeds", 300)?,
                bug: self.optional("bug")?,
            }),
            other => return Err(format!("unknown command {other:?}; try --help")),
        })
    }
}

/// Parses `A..B`, a range that is not empty.
fn seed_range(text: &str) -> Result<Range<u64>, String> {
    let parsed =
        text.split_once("..").and_then(|(begin, end)| Some(begin.parse().ok()?..end.parse().ok()?));
    parsed
        .filter(|range: &Range<u64>| !range.is_empty())
        .ok_or_else(|| format!("--seeds {text:?}: must be like 0..1000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn every_command_accepts_its_options() {
        let spec = "--scenario burst --seed 7 --plan plan.json --bug fence-not-checked";
        let sweep = "--seeds 0..7 --scenario=burst --jobs 7 --failures-max 7 --bug none";
        for line in [
            &format!("run {spec} --trace --log info --format=json"),
            &format!("sweep {sweep}"),
            &format!("verify {sweep}"),
            &format!("shrink {spec} --output plan.json --runs-max 7"),
            &format!("plan {spec}"),
            "scenarios",
            "ci --seeds 7 --verified 7",
            "bugs --seeds 7 --bug none",
        ] {
            assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line));
            for word in line.split_whitespace().filter(|word| !word.starts_with("--seed")) {
                let option = word.split('=').next().unwrap_or(word);
                assert!(!option.starts_with("--") || HELP.contains(option), "{option} has no help");
            }
        }
    }

    #[test]
    fn mistakes_are_rejected_with_their_reason() {
        for (line, reason) in [
            ("", "a command is missing"),
            ("fly", "unknown command \"fly\""),
            ("run --seeds 1", "run has no option --seeds"),
            ("scenarios --trace", "scenarios has no option --trace"),
            ("run --seed", "missing argument"),
            ("run --seed x", "--seed \"x\": invalid digit"),
            ("run --seed 1 --seed 2", "--seed is given twice"),
            ("run --format xml", "must be text or json"),
            ("sweep", "--seeds is required"),
            ("sweep --seeds 5..5", "must be like 0..1000"),
            ("sweep --seeds 0..5 --scenario none", "there is no scenario \"none\""),
            ("scenarios extra", "unexpected argument"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
