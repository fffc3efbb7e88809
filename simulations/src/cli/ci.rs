//! Runs what CI runs: the seeds that failed before, seeds over all scenarios, and some seeds twice.
//!
//! Invariant: `CI-1` every kind of fault must fire: a fault that never fired was not tested.

use super::RunSpec;
use super::arguments::CiArguments;
use super::sweep::{self, SweepSummary};
use serde::Deserialize;

const SEEDS: &str = include_str!("../../seeds.toml");

/// The content of `seeds.toml`.
#[derive(Debug, Deserialize)]
struct Regressions {
    /// Kinds of faults that must fire (`CI-1`).
    faults: Vec<String>,
    seed: Vec<Regression>,
}

/// A seed that failed before.
#[derive(Debug, Deserialize)]
struct Regression {
    scenario: String,
    seed: u64,
    /// The fault that the seed found.
    about: String,
}

pub(super) fn ci(arguments: &CiArguments) -> Result<bool, String> {
    let regressions: Regressions =
        toml::from_str(SEEDS).map_err(|error| format!("seeds.toml: {error}"))?;
    let mut known = Vec::new();
    for Regression { scenario, seed, about } in regressions.seed {
        println!("failed before: {scenario} {seed}: {about}");
        known.push(RunSpec { scenario, seed, plan_file: None, bug: None });
    }
    let over_all_scenarios = |seeds: u64| (0..seeds).map(RunSpec::of_seed).collect();
    let repeated = sweep_part("seeds that failed before", known, false)?;
    let swept = sweep_part("seeds over all scenarios", over_all_scenarios(arguments.seeds), false)?;
    let verified = sweep_part("seeds run twice", over_all_scenarios(arguments.verified), true)?;
    let has_failed = [&repeated, &swept, &verified].iter().any(|part| !part.failures.is_empty());
    Ok(have_all_fired(&regressions.faults, &swept) && !has_failed)
}

fn sweep_part(title: &str, specs: Vec<RunSpec>, is_twice: bool) -> Result<SweepSummary, String> {
    println!("\n{title}");
    let summary = sweep::many(specs, sweep::cores(), 5, is_twice)?;
    sweep::print(&summary);
    Ok(summary)
}

fn have_all_fired(faults: &[String], summary: &SweepSummary) -> bool {
    let is_missing = |name: &&String| !summary.fired.contains_key(*name);
    let missing: Vec<&str> = faults.iter().filter(is_missing).map(String::as_str).collect();
    if !missing.is_empty() {
        println!("CI-1: faults that did not fire: {}", missing.join(", "));
    }
    missing.is_empty()
}
