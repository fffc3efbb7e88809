//! A node as a process: `triggers dev` with a data directory of the test.
//!
//! 1. A node is ready once it has rewritten `dev.json` and answers the health check at the address
//!    in it. The file of an earlier start is ignored, since another process may have its port now.
//! 2. `kill_hard` sends SIGKILL, which the node cannot handle. `terminate` sends SIGTERM and waits.
//! 3. Dropping a node kills it; if the test is failing, the end of its log is printed first.

use super::process::{self, Finished};
use super::{Call, Client, STATE_DEADLINE_MS};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

const LOG_TAIL_BYTES: usize = 6_000;

/// The contents of the file `dev.json`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Dev {
    pub url: String,
    pub admin_url: String,
    pub tenant_id: String,
    pub api_key: String,
    pub admin_key: String,
}

/// A node that has started.
pub struct Node {
    child: Child,
    log: NamedTempFile,
    pub dev: Dev,
}

impl Node {
    /// Starts a node with the data directory `directory` and waits until it is ready.
    pub async fn start(directory: &Path, envs: &[(&str, &str)]) -> Self {
        Self::spawned(directory, |log| process::spawn(&arguments(directory), envs, log, log)).await
    }

    /// Starts a node that may have this many files open.
    pub async fn start_with_open_files(directory: &Path, open_files_max: u32) -> Self {
        let arguments = arguments(directory);
        Self::spawned(directory, |log| {
            process::spawn_with_open_files(open_files_max, &arguments, log)
        })
        .await
    }

    async fn spawned(directory: &Path, spawn: impl FnOnce(&NamedTempFile) -> Child) -> Self {
        let file = directory.join("dev.json");
        let before = modified(&file);
        let log = process::log_file();
        let mut child = spawn(&log);
        let serving = tokio::time::timeout(
            Duration::from_millis(STATE_DEADLINE_MS),
            serving(&mut child, &file, before),
        );
        match serving.await {
            Ok(Some(dev)) => Self { child, log, dev },
            outcome => {
                // Killing fails if the child has already ended.
                let _ = child.kill();
                let _ = child.wait();
                let why = if outcome.is_ok() { "ended" } else { "did not serve in time" };
                panic!("the node {why}:\n{}", process::text(&log));
            }
        }
    }

    /// Runs a node that is expected to fail to start until it ends.
    pub async fn run_to_failure(directory: &Path, envs: &[(&str, &str)]) -> Finished {
        process::run(&arguments(directory), envs).await
    }

    /// A client with the key of the development tenant.
    pub fn client(&self) -> Client {
        Client::new(&self.dev.url, &self.dev.api_key)
    }

    /// A client with the key of scope `admin`.
    pub fn admin(&self) -> Client {
        Client::new(&self.dev.url, &self.dev.admin_key)
    }

    /// What the node has logged so far.
    pub fn log_text(&self) -> String {
        process::text(&self.log)
    }

    /// Kills the node with SIGKILL and waits until the process has ended.
    pub fn kill_hard(&mut self) {
        self.child.kill().expect("a running node can be killed");
        self.child.wait().expect("a killed node can be waited for");
    }

    /// Sends SIGTERM and returns at once.
    pub fn signal_termination(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill is installed");
        assert!(status.success(), "SIGTERM reached the node");
    }

    /// Waits for the process to end and returns its exit code.
    pub async fn exit_code(&mut self) -> i32 {
        let status = process::wait(&mut self.child).await;
        status.expect("the node ended in time").code().unwrap_or(-1)
    }

    /// Sends SIGTERM and returns the exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.signal_termination();
        self.exit_code().await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = process::text(&self.log);
            let tail = log.len().saturating_sub(LOG_TAIL_BYTES);
            let tail = (tail..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("--- end of the node's log ---\n{}", &log[tail..]);
        }
    }
}

fn arguments(directory: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["dev".into(), "--data-dir".into(), directory.into()];
    arguments
        .extend(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"].map(OsString::from));
    arguments
}

fn modified(file: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// Waits until `dev.json` is newer than `before` and its address is healthy.
///
/// Returns `None` if the process ends.
async fn serving(child: &mut Child, file: &PathBuf, before: Option<SystemTime>) -> Option<Dev> {
    loop {
        if child.try_wait().expect("the child can be waited for").is_some() {
            return None;
        }
        if modified(file) != before
            && let Ok(text) = std::fs::read_to_string(file)
            && let Ok(dev) = serde_json::from_str::<Dev>(&text)
            && is_healthy(&dev).await
        {
            return Some(dev);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn is_healthy(dev: &Dev) -> bool {
    let answer = Client::new(&dev.url, &dev.api_key).try_send(Call::get("/v1/health")).await;
    answer.is_ok_and(|answer| answer.status == 200)
}
