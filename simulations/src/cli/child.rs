//! One run in a process of its own, and what it says.
//!
//! Invariant: `CHILD-1` a run that does not end in time, or dies, has failed: it says so as a violation.

use super::Which;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use triggers_protocol::Environment;

/// A run takes a fraction of a second; one that goes on for so long hangs.
const TIME_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_micros(500);

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Result {
    pub(super) trace: String,
    pub(super) operations: u64,
    pub(super) fired: BTreeMap<String, u64>,
    pub(super) violations: Vec<Violation>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Violation {
    pub(super) rule: String,
    pub(super) account: String,
}

/// A run under way.
pub(super) struct Running {
    child: Child,
    clock: Environment,
}

/// Starts a run.
pub(super) fn start(which: &Which) -> std::result::Result<Running, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut command = Command::new(program);
    command.args(["run", "--format", "json"]);
    match &which.plan {
        Some(file) => command.arg("--plan").arg(file),
        None => command.args(["--scenario", &which.scenario, "--seed", &which.seed.to_string()]),
    };
    if let Some(bug) = &which.bug {
        command.args(["--bug", bug]);
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    Ok(Running {
        child: child.map_err(|error| format!("a run could not be started: {error}"))?,
        clock: Environment::system(),
    })
}

/// A run from its beginning to its end.
pub(super) fn whole(which: &Which) -> std::result::Result<Result, String> {
    let mut running = start(which)?;
    loop {
        if let Some(result) = running.poll() {
            return Ok(result);
        }
        wait();
    }
}

/// Waits a little for runs to end.
pub(super) fn wait() {
    std::thread::sleep(POLL);
}

impl Running {
    /// What it gave, if it has ended.
    pub(super) fn poll(&mut self) -> Option<Result> {
        let is_over = self.clock.monotonic() > TIME_MAX;
        match self.child.try_wait() {
            Ok(None) if !is_over => return None,
            Ok(None) => {
                // It is taken for failed, whether it can be ended or not.
                let _ = self.child.kill();
                return Some(failed("it did not end in time"));
            }
            Ok(Some(_)) => {}
            Err(error) => return Some(failed(&error.to_string())),
        }
        let output = self
            .child
            .stdout
            .take()
            .and_then(|output| std::io::read_to_string(output).ok())
            .unwrap_or_default();
        let result = output.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Some(result.unwrap_or_else(|| failed("it ended without an outcome")))
    }
}

fn failed(account: &str) -> Result {
    let violation = Violation { rule: "PROCESS".to_owned(), account: account.to_owned() };
    Result {
        trace: String::new(),
        operations: 0,
        fired: BTreeMap::new(),
        violations: vec![violation],
    }
}
