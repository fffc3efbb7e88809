//! The command line of `triggers-sim`: its commands, their options and the help text.
//!
//! One table describes all commands. The parser and the help text both read it.

use super::RunSpec;
use crate::plan::scenario::Scenario;
use lexopt::{Arg, ValueExt};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{Display, Write};
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

struct CommandSpec {
    name: &'static str,
    about: &'static str,
    options: &'static [OptionSpec],
}

#[derive(Clone, Copy)]
struct OptionSpec {
    name: &'static str,
    /// Name of the value in the help text; empty for a flag.
    value: &'static str,
    about: &'static str,
}

const fn option(name: &'static str, value: &'static str, about: &'static str) -> OptionSpec {
    OptionSpec { name, value, about }
}

const ABOUT: &str = "Deterministic simulation of whole Triggers clusters";
const SCENARIO: OptionSpec =
    option("scenario", "SCENARIO", "Scenario to generate the plan from [default: chaos]");
const SEED: OptionSpec = option("seed", "SEED", "Seed of the plan [default: 0]");
const PLAN: OptionSpec = option("plan", "PLAN", "Plan file to run instead of scenario and seed");
const BUG: OptionSpec =
    option("bug", "BUG", "Bug to plant, in builds with the feature `planted-bugs`");
const TRACE: OptionSpec =
    option("trace", "", "Print the trace: operations, faults, messages and notable commits");
const SWEEP: &[OptionSpec] = &[
    option("scenario", "SCENARIO", "Scenario; all of them in turn by default"),
    option("seeds", "SEEDS", "Required. Seeds, the end not included: 0..1000"),
    option("jobs", "JOBS", "Processes to run at the same time [default: one per core]"),
    option("failures-max", "FAILURES_MAX", "Stop after so many failures [default: 5]"),
    BUG,
];
const COMMANDS: [CommandSpec; 8] = [
    CommandSpec {
        name: "run",
        about: "Run one plan and print what was found",
        options: &[
            SCENARIO,
            SEED,
            PLAN,
            BUG,
            TRACE,
            option(
                "log",
                "LEVEL",
                "Add the nodes' log lines of this level to the trace (error, warn, info, ...)",
            ),
            option("format", "FORMAT", "Output format: text or json [default: text]"),
        ],
    },
    CommandSpec { name: "sweep", about: "Run many seeds", options: SWEEP },
    CommandSpec {
        name: "verify",
        about: "Run each seed twice and compare the traces",
        options: SWEEP,
    },
    CommandSpec {
        name: "shrink",
        about: "Make a failing plan smaller",
        options: &[
            SCENARIO,
            SEED,
            PLAN,
            BUG,
            option("output", "OUTPUT", "File for the smaller plan [default: plan.json]"),
            option("runs-max", "RUNS_MAX", "Upper bound on the number of runs [default: 400]"),
        ],
    },
    CommandSpec {
        name: "plan",
        about: "Print the plan of a seed",
        options: &[SCENARIO, SEED, PLAN, BUG],
    },
    CommandSpec { name: "scenarios", about: "List the scenarios", options: &[] },
    CommandSpec {
        name: "ci",
        about: "Run what CI runs",
        options: &[
            option("seeds", "SEEDS", "Number of seeds, over all scenarios [default: 200]"),
            option("verified", "VERIFIED", "Number of seeds to run twice [default: 20]"),
        ],
    },
    CommandSpec {
        name: "bugs",
        about: "Find every planted bug",
        options: &[
            option(
                "seeds",
                "SEEDS",
                "Seeds to try for each bug, over all scenarios [default: 300]",
            ),
            option("bug", "BUG", "Look for this bug only"),
        ],
    },
];

/// Parses the command line without the program's name.
///
/// # Errors
/// A message for the user: an unknown command or option, or a value that is missing or malformed.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut command: Option<&CommandSpec> = None;
    let mut values = Values(BTreeMap::new());
    let mut is_help_command = false;
    while let Some(argument) = parser.next().map_err(text)? {
        match (argument, command) {
            (Arg::Short('h') | Arg::Long("help"), _) => return Ok(Command::Print(help(command))),
            (Arg::Short('V') | Arg::Long("version"), None) => return Ok(Command::Print(version())),
            (Arg::Value(name), None) if name == "help" && !is_help_command => {
                is_help_command = true;
            }
            (Arg::Value(name), None) => {
                let found = COMMANDS.iter().find(|command| name == command.name);
                let unknown = || format!("unknown command {name:?}; try --help");
                command = Some(found.ok_or_else(unknown)?);
            }
            (Arg::Long(name), Some(command)) => {
                let found = command.options.iter().find(|option| option.name == name);
                let option = *found.ok_or_else(|| {
                    format!("{} has no option --{name}; try --help", command.name)
                })?;
                let value = match option.value {
                    "" => String::new(),
                    _ => parser.value().and_then(|value| value.string()).map_err(text)?,
                };
                if values.0.insert(option.name, value).is_some() {
                    return Err(format!("--{} is given twice", option.name));
                }
            }
            (argument, _) => return Err(text(argument.unexpected())),
        }
    }
    match command {
        _ if is_help_command => Ok(Command::Print(help(command))),
        Some(command) => values.into_command(command.name),
        None => Err(format!("a command is missing\n\n{}", help(None))),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn version() -> String {
    format!("triggers-sim {}", env!("CARGO_PKG_VERSION"))
}

fn help(command: Option<&CommandSpec>) -> String {
    let (about, usage) = command.map_or((ABOUT, " <COMMAND>".to_owned()), |command| {
        (command.about, format!(" {} [OPTIONS]", command.name))
    });
    let mut help = format!("{about}\n\nUsage: triggers-sim{usage}\n\n");
    let mut rows = Vec::new();
    match command {
        None => {
            help.push_str("Commands:\n");
            let commands = COMMANDS.iter().map(|command| (command.name, command.about));
            let last = [("help", "Print this message or the help of a command")];
            for (name, about) in commands.chain(last) {
                // Writing to a string cannot fail.
                let _ = writeln!(help, "  {name:<10} {about}");
            }
            help.push('\n');
            rows.push(("-V, --version".to_owned(), "Print version"));
        }
        Some(command) => {
            for option in command.options {
                let value = match option.value {
                    "" => String::new(),
                    value => format!(" <{value}>"),
                };
                rows.push((format!("    --{}{value}", option.name), option.about));
            }
        }
    }
    rows.push(("-h, --help".to_owned(), "Print help"));
    help.push_str("Options:\n");
    for (name, about) in rows {
        let _ = writeln!(help, "  {name:<31} {about}");
    }
    help.truncate(help.trim_end().len());
    help
}

/// The options given on the command line, by name.
struct Values(BTreeMap<&'static str, String>);

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

    fn into_command(mut self, name: &str) -> Result<Command, String> {
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
    fn every_command_accepts_its_options_and_has_a_help_text() {
        for command in &COMMANDS {
            let mut line = command.name.to_owned();
            for option in command.options {
                line += &match (option.name, option.value) {
                    (name, "") => format!(" --{name}"),
                    ("seeds", _) if command.options.len() > 2 => " --seeds 0..7".to_owned(),
                    ("scenario", _) => " --scenario burst".to_owned(),
                    ("format", _) => " --format=json".to_owned(),
                    ("log", _) => " --log info".to_owned(),
                    (name, _) => format!(" --{name} 7"),
                };
            }
            assert!(parsed(&line).is_ok(), "{line}: {:?}", parsed(&line));
            for line in [format!("{} --help", command.name), format!("help {}", command.name)] {
                let Ok(Command::Print(help)) = parsed(&line) else { panic!("{line}") };
                assert!(help.contains(command.about), "{help}");
                assert!(command.options.iter().all(|option| help.contains(option.about)), "{help}");
            }
        }
    }

    #[test]
    fn mistakes_are_rejected_with_their_reason() {
        for (line, reason) in [
            ("", "a command is missing"),
            ("fly", "unknown command \"fly\""),
            ("run --seeds 1", "run has no option --seeds"),
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
