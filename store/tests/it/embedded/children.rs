//! Starts this test binary again as a process that can be killed or limited; has the tests that run
//! in it.
//!
//! A child is one test named on the command line, with the directory in an environment variable;
//! without the variable it passes at once. It prints lines to its standard output, past the capture
//! of the test harness: one `acked` line after each answered commit.

use super::open;
use futures_util::future::join_all;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use triggers_store::kv::{Engine, Fault, StoreError, decode_counter};

const DIRECTORY: &str = "TRIGGERS_STORE_TEST_DIRECTORY";
const TASKS: u64 = 4;

/// The command that runs one test of this module on a directory, optionally in a shell that sets
/// limits first.
pub fn command(test: &str, directory: &Path, shell: Option<&str>) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = match shell {
        None => Command::new(&binary),
        Some(limits) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\"")).arg(&binary);
            command
        }
    };
    let name = format!("embedded::children::{test}");
    command.args([&name[..], "--exact", "--nocapture", "--test-threads=1"]);
    command.env(DIRECTORY, directory).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // If the reader is gone, nobody needs the line.
    let _ = writeln!(out, "\n{line}").and_then(|()| out.flush());
}

/// Commits two pairs that belong together.
async fn write_pair(engine: &dyn Engine, name: &str, bytes: usize) -> Result<(), StoreError> {
    let mut open = engine.begin().await?;
    let mut value = name.as_bytes().to_vec();
    value.resize(name.len() + bytes, b'.');
    open.set(format!("left/{name}").as_bytes(), &value);
    open.set(format!("right/{name}").as_bytes(), &value);
    open.add(b"count", 1);
    open.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_until_killed() {
    let Some(directory) = directory() else { return };
    let engine = open(&directory);
    let first = engine.begin().await.unwrap().get(b"count").await.unwrap();
    let numbers = Arc::new(AtomicU64::new(0));
    let round = decode_counter(first.as_deref()).unwrap();
    let tasks = (0..TASKS).map(|_| {
        let (engine, numbers) = (engine.clone(), numbers.clone());
        tokio::spawn(async move {
            // Bounded, in case the parent is gone.
            while numbers.load(Ordering::Relaxed) < 100_000 {
                let name = format!("{round}-{}", numbers.fetch_add(1, Ordering::Relaxed));
                write_pair(&*engine, &name, 500).await.unwrap();
                say(&format!("acked {name}"));
            }
        })
    });
    join_all(tasks.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_until_full() {
    let Some(directory) = directory() else { return };
    let engine = open(&directory);
    let (numbers, full) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let tasks = (0..TASKS).map(|_| {
        let (engine, numbers, full) = (engine.clone(), numbers.clone(), full.clone());
        tokio::spawn(async move {
            while !full.load(Ordering::Relaxed) {
                let name = numbers.fetch_add(1, Ordering::Relaxed).to_string();
                assert!(name.len() < 5, "the file never became full");
                match write_pair(&*engine, &name, 80_000).await {
                    Ok(()) => say(&format!("acked {name}")),
                    Err(error) if error.fault() == Some(Fault::Full) => {
                        full.store(true, Ordering::Relaxed);
                        say("full");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    for task in join_all(tasks.collect::<Vec<_>>()).await {
        task.unwrap();
    }
    engine.health().unwrap();
    say("done");
}

/// Sends 64 commits at a time from one thread before it waits for any of them.
#[tokio::test]
async fn commits_in_groups() {
    let Some(directory) = directory() else { return };
    let groups = Arc::new(super::crash::Groups::default());
    metrics::set_global_recorder(super::crash::Recorder(groups.clone())).unwrap();
    let engine = open(&directory);
    for round in 0..20 {
        let names: Vec<String> = (0..64).map(|number| format!("{round}-{number}")).collect();
        let commits = names.iter().map(|name| write_pair(&*engine, name, 10));
        for outcome in join_all(commits).await {
            outcome.unwrap();
        }
    }
    say(&format!("groups {}", groups.groups.load(Ordering::Relaxed)));
    say(&format!("commits {}", groups.commits.load(Ordering::Relaxed)));
}
