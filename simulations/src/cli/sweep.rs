//! Runs many plans, several at the same time, and sums up their reports.

use super::arguments::SweepArguments;
use super::child::{self, RunReport};
use super::{RunSpec, report};
use crate::check::Violation;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use triggers_protocol::Environment;

/// The sum of many run reports.
#[derive(Debug, Default)]
pub(super) struct SweepSummary {
    pub(super) runs: u64,
    pub(super) operations: u64,
    pub(super) failures: Vec<(RunSpec, RunReport)>,
    pub(super) fired: BTreeMap<String, u64>,
    /// Real time of the sweep so far.
    pub(super) elapsed: Duration,
}

/// Width of the progress bar in characters.
const BAR: usize = 30;

pub(super) fn sweep(arguments: &SweepArguments, is_twice: bool) -> Result<bool, String> {
    let SweepArguments { scenario, seeds, jobs, failures_max, bug } = arguments;
    let spec = |seed: u64| {
        let spec = RunSpec { bug: bug.clone(), ..RunSpec::of_seed(seed) };
        RunSpec { scenario: scenario.clone().unwrap_or(spec.scenario), ..spec }
    };
    let specs: Vec<RunSpec> = seeds.clone().map(spec).collect();
    let summary = many(specs, jobs.unwrap_or_else(cores), *failures_max, is_twice)?;
    print(&summary);
    Ok(summary.failures.is_empty())
}

/// The number of processor cores, which is the default number of parallel runs.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs each plan once, or with `is_twice` two times: then traces that differ are a failure.
pub(super) fn many(
    specs: Vec<RunSpec>,
    jobs: usize,
    failures_max: usize,
    is_twice: bool,
) -> Result<SweepSummary, String> {
    let total = specs.len();
    let mut left: VecDeque<RunSpec> = specs.into();
    let mut running = Vec::new();
    let mut summary = SweepSummary::default();
    let clock = Environment::system();
    while (!left.is_empty() && summary.failures.len() < failures_max) || !running.is_empty() {
        while running.len() < jobs.max(1) && summary.failures.len() < failures_max {
            let Some(next) = left.pop_front() else { break };
            running.push((child::start(&next)?, next, None::<RunReport>));
        }
        let mut still_running = Vec::new();
        for (mut run, spec, first) in running {
            match run.poll() {
                None => still_running.push((run, spec, first)),
                Some(report) if is_twice && first.is_none() => {
                    still_running.push((child::start(&spec)?, spec, Some(report)))
                }
                Some(report) => summary.add(spec, report, first),
            }
        }
        running = still_running;
        summary.elapsed = clock.monotonic();
        let (runs, failures) = (summary.runs, summary.failures.len());
        let rate = summary.runs_per_minute();
        let bar = "#".repeat(usize::try_from(runs).unwrap_or(0) * BAR / total.max(1));
        report::print_progress(format_args!(
            "[{bar:<BAR$}] {runs} of {total} runs, {rate:.0} a minute, {failures} failed"
        ));
        child::wait();
    }
    report::print_progress(format_args!(""));
    Ok(summary)
}

impl SweepSummary {
    fn runs_per_minute(&self) -> f64 {
        self.runs as f64 * 60.0 / self.elapsed.as_secs_f64().max(0.001)
    }

    fn add(&mut self, spec: RunSpec, mut report: RunReport, first: Option<RunReport>) {
        self.runs += 1;
        self.operations += report.operations;
        for (name, count) in &report.fired {
            *self.fired.entry(name.clone()).or_default() += count;
        }
        if let Some(first) = first.filter(|first| first.trace != report.trace) {
            let details = format!("two runs have the traces {} and {}", first.trace, report.trace);
            report.violations.push(Violation::new("DETERMINISM", details));
        }
        if !report.violations.is_empty() {
            self.failures.push((spec, report));
        }
    }
}

/// Prints the sum, and each failure with the command that repeats it (`SIM-CLI-2`).
pub(super) fn print(summary: &SweepSummary) {
    let (runs, operations) = (summary.runs, summary.operations);
    let (rate, failed) = (summary.runs_per_minute(), summary.failures.len());
    println!("{runs} runs with {operations} operations, {rate:.0} runs a minute, {failed} failed");
    report::print_fired(summary.fired.iter());
    for (spec, report) in &summary.failures {
        println!("\n{}", report::repeat_command(spec));
        for violation in report.violations.iter().take(3) {
            println!("  {violation}");
        }
    }
}
