//! The binary as a child process, with a clean environment and its output in files.
//!
//! 1. No variable whose name starts with `TRIGGERS` reaches the child unless the test sets it.
//! 2. Output goes to files, not pipes, so that the child never blocks on a missing reader.
//! 3. A child that exceeds its deadline is killed, and the test fails with the child's output.

use super::STATE_DEADLINE_MS;
use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

/// The exit code of a finished command (-1 if a signal ended it) and its output.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Starts the binary with at most this many open files.
pub fn spawn_with_open_files<Argument: AsRef<OsStr>>(
    open_files_max: u32,
    arguments: &[Argument],
    output: &NamedTempFile,
) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {open_files_max} && exec \"$0\" \"$@\""));
    command.arg(env!("CARGO_BIN_EXE_triggers"));
    // Two handles of one file would overwrite each other's output.
    start(command, arguments, &[], &log_file(), output)
}

/// Starts the binary with `arguments`; standard output and standard error go to the files.
pub fn spawn<Argument: AsRef<OsStr>>(
    arguments: &[Argument],
    envs: &[(&str, &str)],
    stdout: &NamedTempFile,
    stderr: &NamedTempFile,
) -> Child {
    start(Command::new(env!("CARGO_BIN_EXE_triggers")), arguments, envs, stdout, stderr)
}

fn start<Argument: AsRef<OsStr>>(
    mut command: Command,
    arguments: &[Argument],
    envs: &[(&str, &str)],
    stdout: &NamedTempFile,
    stderr: &NamedTempFile,
) -> Child {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRIGGERS") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(envs.iter().copied())
        .stdin(Stdio::null())
        .stdout(stdout.reopen().expect("the output file is open"))
        .stderr(stderr.reopen().expect("the error file is open"))
        .spawn()
        .expect("the binary under test starts")
}

/// Runs the binary until it ends.
pub async fn run<Argument: AsRef<OsStr>>(
    arguments: &[Argument],
    envs: &[(&str, &str)],
) -> Finished {
    let stdout = log_file();
    let stderr = log_file();
    let mut child = spawn(arguments, envs, &stdout, &stderr);
    let status = wait(&mut child).await;
    let finished = Finished {
        code: status.and_then(|status| status.code()).unwrap_or(-1),
        stdout: text(&stdout),
        stderr: text(&stderr),
    };
    assert!(status.is_some(), "the command did not end: {finished:?}");
    finished
}

/// Waits until the child ends; at the deadline kills it and returns `None`.
pub async fn wait(child: &mut Child) -> Option<ExitStatus> {
    let ended = tokio::time::timeout(Duration::from_millis(STATE_DEADLINE_MS), async {
        loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    if let Ok(status) = ended {
        return Some(status);
    }
    child.kill().expect("a running child can be killed");
    child.wait().expect("a killed child can be waited for");
    None
}

/// Creates a file for the output of a child; it is deleted when dropped.
pub fn log_file() -> NamedTempFile {
    NamedTempFile::new().expect("a temporary file can be made")
}

/// The contents of `file`; bytes that are not UTF-8 are replaced.
pub fn text(file: &NamedTempFile) -> String {
    let mut bytes = Vec::new();
    file.reopen()
        .and_then(|mut reader| reader.read_to_end(&mut bytes))
        .expect("the output file is readable");
    String::from_utf8_lossy(&bytes).into_owned()
}
