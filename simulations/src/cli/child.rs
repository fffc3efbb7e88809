//! Starts one run in a process of its own and reads its report.
//!
//! Invariant: `CHILD-1` a run that hangs or dies has failed: its report has a violation.

use super::RunSpec;
use crate::check::Violation;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use triggers_protocol::Environment;

/// Deadline of a run, which normally takes a fraction of a second.
const RUN_TIME_MAX: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// The last line that `run --format json` prints.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RunReport {
    pub(super) trace: String,
    pub(super) operations: u64,
    pub(super) fired: BTreeMap<String, u64>,
    pub(super) violations: Vec<Violation>,
}

impl RunReport {
    fn failed(reason: &str) -> Self {
        Self { violations: vec![Violation::new("PROCESS", reason)], ..Self::default() }
    }
}

/// A run in progress.
pub(super) struct ChildRun {
    child: Child,
    clock: Environment,
}

/// Starts a run.
pub(super) fn start(spec: &RunSpec) -> Result<ChildRun, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command.args(["run", "--format", "json"]);
    match &spec.plan_file {
        Some(file) => command.arg("--plan").arg(file),
        None => command.args(["--scenario", &spec.scenario, "--seed", &spec.seed.to_string()]),
    };
    if let Some(bug) = &spec.bug {
        command.args(["--bug", bug]);
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.map_err(|error| format!("cannot start a run: {error}"))?;
    Ok(ChildRun { child, clock: Environment::system() })
}

/// Starts a run and waits for its report.
pub(super) fn run_to_end(spec: &RunSpec) -> Result<RunReport, String> {
    let mut run = start(spec)?;
    loop {
        if let Some(report) = run.poll() {
            return Ok(report);
        }
        wait();
    }
}

/// Sleeps for one poll interval.
pub(super) fn wait() {
    std::thread::sleep(POLL_INTERVAL);
}

impl ChildRun {
    /// The report, once the run has ended.
    pub(super) fn poll(&mut self) -> Option<RunReport> {
        match self.child.try_wait() {
            Ok(None) if self.clock.monotonic() <= RUN_TIME_MAX => return None,
            Ok(None) => {
                // The run counts as failed even if the process cannot be killed.
                let _ = self.child.kill();
                return Some(RunReport::failed("the run did not end in time"));
            }
            Ok(Some(_)) => {}
            Err(error) => return Some(RunReport::failed(&error.to_string())),
        }
        let output = self.child.stdout.take();
        let output = output.and_then(|output| std::io::read_to_string(output).ok());
        let report = output.unwrap_or_default();
        let report = report.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Some(report.unwrap_or_else(|| RunReport::failed("the process ended without a report")))
    }
}
