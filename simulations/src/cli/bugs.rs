//! Finds each planted bug: this tests the simulator itself.
//!
//! Invariant: `BUGS-1` a bug counts as found if one plan fails with it and passes without it.

use super::arguments::BugsArguments;
use super::{RunSpec, child, sweep};
use triggers_protocol::Environment;
use triggers_protocol::planted::Bug;

const NO_BUGS: &str = "this build has no bugs to plant: build it with --features planted-bugs";

/// Plants a bug in this process, if one is named.
#[cfg(feature = "planted-bugs")]
pub(super) fn plant(bug: Option<&str>) -> Result<(), String> {
    let Some(name) = bug else { return Ok(()) };
    let bug = Bug::parse(name).map_err(|error| format!("bug {name:?}: {error}"))?;
    triggers_protocol::planted::plant(bug);
    Ok(())
}

/// Rejects every bug, because this build has none.
#[cfg(not(feature = "planted-bugs"))]
pub(super) fn plant(bug: Option<&str>) -> Result<(), String> {
    bug.map_or(Ok(()), |_| Err(NO_BUGS.to_owned()))
}

pub(super) fn bugs(arguments: &BugsArguments) -> Result<bool, String> {
    if !cfg!(feature = "planted-bugs") {
        return Err(NO_BUGS.to_owned());
    }
    let mut are_all_found = true;
    println!("{:<28} {:>6} {:>8}  found by", "bug", "seeds", "time");
    let only = arguments.bug.as_deref().map(Bug::parse).transpose();
    let only = only.map_err(|error| format!("--bug: {error}"))?;
    for bug in Bug::ALL.into_iter().filter(|bug| only.is_none_or(|only| only == *bug)) {
        let name = bug.as_str();
        let clock = Environment::system();
        match find(name, arguments.seeds)? {
            Some(Finding { spec: RunSpec { scenario, seed, .. }, rule }) => {
                let (seeds, seconds) = (seed + 1, clock.monotonic().as_secs_f64());
                println!("{name:<28} {seeds:>6} {seconds:>6.1} s  {rule} in {scenario} {seed}");
            }
            None => {
                are_all_found = false;
                println!("{name:<28} {:>6}  not found", arguments.seeds);
            }
        }
    }
    Ok(are_all_found)
}

/// The run that found a bug, and the rule that it broke.
struct Finding {
    spec: RunSpec,
    rule: String,
}

/// Tries seeds from 0 until one fails with the bug and passes without it.
fn find(name: &str, seeds: u64) -> Result<Option<Finding>, String> {
    let all: Vec<u64> = (0..seeds).collect();
    for seeds in all.chunks(sweep::cores()) {
        let spec = |seed: &u64| RunSpec { bug: Some(name.to_owned()), ..RunSpec::of_seed(*seed) };
        let specs = seeds.iter().map(spec).collect();
        let mut failures = sweep::many(specs, seeds.len(), usize::MAX, false)?.failures;
        failures.sort_by_key(|(spec, _)| spec.seed);
        for (spec, report) in failures {
            let spec = RunSpec { bug: None, ..spec };
            if child::run_to_end(&spec)?.violations.is_empty() {
                let rule = report.violations.into_iter().next().map(|violation| violation.rule);
                return Ok(Some(Finding { spec, rule: rule.unwrap_or_default() }));
            }
        }
    }
    Ok(None)
}
