//! Many runs, some at the same time: what they found, which faults came, and how many there were a minute.

use super::child::{self, Result};
use super::{SweepArguments, Which, report};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use triggers_protocol::Environment;

/// What many runs gave.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) runs: u64,
    pub(super) operations: u64,
    pub(super) failures: Vec<(Which, Result)>,
    pub(super) fired: BTreeMap<String, u64>,
    /// How long all of it took.
    pub(super) took: Duration,
}

/// Cells of the progress bar.
const BAR: usize = 30;

pub(super) fn sweep(
    arguments: &SweepArguments,
    is_twice: bool,
) -> std::result::Result<bool, String> {
    let SweepArguments { scenario, seeds, jobs, failures_max, bug } = arguments;
    let which = |seed: u64| {
        let taken = Which { bug: bug.clone(), ..Which::of(seed) };
        Which { scenario: scenario.clone().unwrap_or(taken.scenario), ..taken }
    };
    let all: Vec<Which> = seeds.clone().map(which).collect();
    let tally = many(all, jobs.unwrap_or_else(cores), *failures_max, is_twice)?;
    tell(&tally);
    Ok(tally.failures.is_empty())
}

/// As many runs at the same time as there are cores.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs these; with `is_twice` each two times, and a difference is a failure.
pub(super) fn many(
    which: Vec<Which>,
    jobs: usize,
    failures_max: usize,
    is_twice: bool,
) -> std::result::Result<Tally, String> {
    let total = which.len();
    let mut left: VecDeque<Which> = which.into();
    let mut running = Vec::new();
    let mut tally = Tally::default();
    let clock = Environment::system();
    while (!left.is_empty() && tally.failures.len() < failures_max) || !running.is_empty() {
        while running.len() < jobs.max(1) && tally.failures.len() < failures_max {
            let Some(next) = left.pop_front() else { break };
            running.push((child::start(&next)?, next, None::<Result>));
        }
        let mut still = Vec::new();
        for (mut run, which, first) in running {
            match run.poll() {
                None => still.push((run, which, first)),
                Some(result) if is_twice && first.is_none() => {
                    still.push((child::start(&which)?, which, Some(result)))
                }
                Some(result) => tally.add(which, result, first),
            }
        }
        running = still;
        tally.took = clock.monotonic();
        let (runs, failures, rate) = (tally.runs, tally.failures.len(), tally.per_minute());
        let bar = "#".repeat(usize::try_from(runs).unwrap_or(0) * BAR / total.max(1));
        report::progress(format_args!(
            "[{bar:<BAR$}] {runs} of {total} runs, {rate:.0} a minute, {failures} failed"
        ));
        child::wait();
    }
    report::progress(format_args!(""));
    Ok(tally)
}

impl Tally {
    fn per_minute(&self) -> f64 {
        self.runs as f64 * 60.0 / self.took.as_secs_f64().max(0.001)
    }

    fn add(&mut self, which: Which, mut result: Result, first: Option<Result>) {
        self.runs += 1;
        self.operations += result.operations;
        for (name, count) in &result.fired {
            *self.fired.entry(name.clone()).or_default() += count;
        }
        if let Some(first) = first.filter(|first| first.trace != result.trace) {
            let account =
                format!("the traces of two runs are {} and {}", first.trace, result.trace);
            result.violations.push(child::Violation { rule: "DETERMINISM".to_owned(), account });
        }
        if !result.violations.is_empty() {
            self.failures.push((which, result));
        }
    }
}

/// Says what many runs gave.
pub(super) fn tell(tally: &Tally) {
    let (runs, operations, failed) = (tally.runs, tally.operations, tally.failures.len());
    let rate = tally.per_minute();
    report::say(format_args!(
        "{runs} runs with {operations} operations, {rate:.0} runs a minute, {failed} failed"
    ));
    let fired: Vec<String> =
        tally.fired.iter().map(|(name, count)| format!("{name} {count}")).collect();
    report::say(format_args!("faults that came: {}", fired.join(", ")));
    for (which, result) in &tally.failures {
        report::say(format_args!("\n{}", report::again(which, "run")));
        for violation in result.violations.iter().take(3) {
            report::say(format_args!("  {}: {}", violation.rule, violation.account));
        }
    }
}
