//! What CI runs: seeds over all scenarios, the seeds that have failed before, and some of them twice.
//!
//! Invariant: `CI-1` every kind of fault has to come: one that never came has shown nothing.

use super::sweep::{self, Tally};
use super::{Which, report};
use clap::Args;
use serde::Deserialize;

/// Kinds of faults that have to come.
pub(super) const FAULTS: [&str; 31] = [
    "client gives up",
    "clock jump",
    "conflict",
    "day passes",
    "freeze",
    "key revoked",
    "kill",
    "late commit applied",
    "late commit dropped",
    "message delayed",
    "message dropped",
    "message duplicated",
    "partition",
    "partition one way",
    "power loss",
    "quota full",
    "receiver failing",
    "receiver flapping",
    "receiver lying",
    "receiver silent",
    "receiver slow",
    "restart",
    "scale in",
    "scale out",
    "slow network",
    "store outage",
    "store stall",
    "unknown, committed",
    "unknown, not committed",
    "unreachable",
    "clock skew",
];

const SEEDS: &str = include_str!("../../seeds.toml");

#[derive(Debug, Args)]
pub(super) struct CiArguments {
    /// Seeds over all scenarios
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Seeds that are run twice
    #[arg(long, default_value_t = 20)]
    verified: u64,
}

/// Seeds that have failed before.
#[derive(Debug, Deserialize)]
pub(super) struct Regressions {
    pub(super) seed: Vec<Regression>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct Regression {
    pub(super) scenario: String,
    pub(super) seed: u64,
    /// What was wrong.
    pub(super) about: String,
}

pub(super) fn ci(arguments: &CiArguments) -> Result<bool, String> {
    let regressions: Regressions =
        toml::from_str(SEEDS).map_err(|error| format!("seeds.toml: {error}"))?;
    let known = regressions.seed.iter().map(|regression| Which {
        scenario: regression.scenario.clone(),
        seed: regression.seed,
        plan: None,
        bug: None,
    });
    let known: Vec<Which> = known.collect();
    for (regression, which) in regressions.seed.iter().zip(&known) {
        report::say(format_args!("again: {} {}: {}", which.scenario, which.seed, regression.about));
    }
    let mut is_well = true;
    let of = |seeds: u64| (0..seeds).map(Which::of).collect();
    for (title, which, is_twice, is_all) in [
        ("seeds that have failed before", known, false, false),
        ("seeds over all scenarios", of(arguments.seeds), false, true),
        ("seeds that are run twice", of(arguments.verified), true, false),
    ] {
        report::say(format_args!("\n{title}"));
        let tally = sweep::many(which, sweep::cores(), 5, is_twice)?;
        sweep::tell(&tally);
        is_well &= tally.failures.is_empty() && (!is_all || all_came(&tally));
    }
    Ok(is_well)
}

fn all_came(tally: &Tally) -> bool {
    let missing: Vec<&str> =
        FAULTS.into_iter().filter(|name| !tally.fired.contains_key(*name)).collect();
    if !missing.is_empty() {
        report::say(format_args!("CI-1: faults that did not come: {}", missing.join(", ")));
    }
    missing.is_empty()
}
