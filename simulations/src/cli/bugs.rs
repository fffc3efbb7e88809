//! Finds each planted bug: the simulator's own test.
//!
//! Invariant: `BUGS-1` a bug counts as found by a run that fails with it and does not without it.

use super::{Which, child, report, sweep};
use clap::Args;
use triggers_protocol::Environment;

const NO_BUGS: &str = "this build has no bugs to plant: build it with --features planted-bugs";

#[derive(Debug, Args)]
pub(super) struct BugsArguments {
    /// Seeds that are tried for each bug, over all scenarios
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// One bug only
    #[arg(long)]
    bug: Option<String>,
}

/// Plants a bug.
///
/// # Errors
/// If there is no such bug, or none in this build.
#[cfg(feature = "planted-bugs")]
pub(super) fn plant(bug: Option<&str>) -> Result<(), String> {
    use triggers_protocol::planted::{self, Bug};
    let Some(name) = bug else { return Ok(()) };
    let bug = Bug::parse(name).map_err(|_| {
        let all: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("there is no bug {name:?}; there are {}", all.join(", "))
    })?;
    planted::plant(bug);
    Ok(())
}

/// Plants no bug: this build has none.
///
/// # Errors
/// If one is asked for.
#[cfg(not(feature = "planted-bugs"))]
pub(super) fn plant(bug: Option<&str>) -> Result<(), String> {
    match bug {
        None => Ok(()),
        Some(_) => Err(NO_BUGS.to_owned()),
    }
}

pub(super) fn bugs(arguments: &BugsArguments) -> Result<bool, String> {
    if !cfg!(feature = "planted-bugs") {
        return Err(NO_BUGS.to_owned());
    }
    let names: Vec<&str> =
        triggers_protocol::planted::Bug::ALL.iter().map(|bug| bug.name()).collect();
    let mut is_well = true;
    report::say(format_args!("{:<28} {:>6} {:>8}  found by", "bug", "seeds", "time"));
    for name in
        names.into_iter().filter(|name| arguments.bug.as_deref().is_none_or(|only| only == *name))
    {
        let clock = Environment::system();
        match find(name, arguments.seeds)? {
            Some((seeds, which, rule)) => {
                let seconds = clock.monotonic().as_secs_f64();
                report::say(format_args!(
                    "{name:<28} {seeds:>6} {seconds:>6.1} s  {rule} in {} {}",
                    which.scenario, which.seed
                ));
            }
            None => {
                is_well = false;
                report::say(format_args!("{name:<28} {:>6}  not found", arguments.seeds));
            }
        }
    }
    Ok(is_well)
}

/// Tries seeds until one fails with the bug and not without it; how many it took.
fn find(name: &str, seeds: u64) -> Result<Option<(u64, Which, String)>, String> {
    let all: Vec<u64> = (0..seeds).collect();
    for some in all.chunks(sweep::cores()) {
        let which = |seed: &u64| Which { bug: Some(name.to_owned()), ..Which::of(*seed) };
        let mut failures =
            sweep::many(some.iter().map(which).collect(), some.len(), usize::MAX, false)?.failures;
        failures.sort_by_key(|(which, _)| which.seed);
        for (which, result) in failures {
            let which = Which { bug: None, ..which };
            if child::whole(&which)?.violations.is_empty() {
                let rule = result.violations.into_iter().next().map(|violation| violation.rule);
                return Ok(Some((which.seed + 1, which, rule.unwrap_or_default())));
            }
        }
    }
    Ok(None)
}
