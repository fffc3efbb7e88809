//! Processes that die, or hit a limit, with commits in flight: nothing acknowledged is lost, and no
//! commit is present in part.
//!
//! The processes are those of `children.rs`. Their output is read to its end, so that every line
//! printed before the kill counts.

use super::children::command;
use super::{pairs, subject};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use triggers_protocol::Environment;
use triggers_store::kv::decode_counter;

/// Reads lines until `wanted` commits are acknowledged, then kills the child and reads the rest.
fn acknowledged(mut child: Child, wanted: Option<u64>) -> (BTreeSet<String>, Vec<String>) {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut names, mut others) = (BTreeSet::new(), Vec::new());
    let mut line = String::new();
    loop {
        if wanted.is_some_and(|wanted| names.len() as u64 >= wanted) {
            // Killing an ended process does no harm.
            child.kill().unwrap();
        }
        line.clear();
        lines.read_line(&mut line).unwrap();
        // The kill may have cut the last line; it does not count.
        let Some(whole) = line.strip_suffix('\n') else {
            break;
        };
        match whole.strip_prefix("acked ") {
            Some(name) => drop(names.insert(name.to_owned())),
            None => others.push(whole.to_owned()),
        }
    }
    child.wait().unwrap();
    (names, others)
}

/// Checks that every name is present on both sides with its value, and that the counter agrees;
/// returns the names.
async fn found(directory: &Path, bytes: usize) -> BTreeSet<String> {
    let subject = subject(directory);
    let mut sides = Vec::new();
    for side in ["left/", "right/"] {
        let names = pairs(&subject, side).await.into_iter().map(|(key, value)| {
            let name = key.strip_prefix(side).unwrap().to_owned();
            assert!(value.starts_with(name.as_bytes()), "{key} has another one's value");
            assert_eq!(value.len(), name.len() + bytes);
            name
        });
        sides.push(names.collect::<BTreeSet<_>>());
    }
    assert_eq!(sides[0], sides[1]);
    let count = subject.begin().await.get(b"count").await.unwrap();
    assert_eq!(decode_counter(count.as_deref()).unwrap(), sides[0].len() as i64);
    sides.swap_remove(0)
}

#[tokio::test]
async fn a_killed_process_keeps_acknowledged_commits() {
    let directory = TempDir::new().unwrap();
    let mut acked_before = BTreeSet::new();
    for round in 0..6 {
        let wanted = Environment::system().below(150);
        let child = command("writes_until_killed", directory.path(), None).spawn().unwrap();
        let (acked, _) = acknowledged(child, Some(wanted));
        assert!(acked.len() as u64 >= wanted, "round {round}: {} of {wanted}", acked.len());
        acked_before.extend(acked);
        let found = found(directory.path(), 500).await;
        let lost: Vec<_> = acked_before.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}, killed after {wanted}: lost {lost:?}");
    }
}

#[tokio::test]
async fn a_file_size_limit_counts_as_full() {
    let directory = TempDir::new().unwrap();
    // In blocks of 512 bytes. The limit must admit the data file's first growth step.
    let limits = "trap '' XFSZ; ulimit -f 200000";
    let child = command("writes_until_full", directory.path(), Some(limits)).spawn().unwrap();
    let (acked, others) = acknowledged(child, None);
    for said in ["full", "done"] {
        assert!(others.iter().any(|line| line == said), "{others:?}");
    }
    assert!(acked.len() > 100, "{} commits in 100 MB", acked.len());
    let found = found(directory.path(), 80_000).await;
    assert_eq!(found, acked, "without a kill, what is there is what was acknowledged");
}

#[tokio::test]
async fn commits_share_fsyncs() {
    let directory = TempDir::new().unwrap();
    let child = command("commits_in_groups", directory.path(), None).spawn().unwrap();
    let (_, said) = acknowledged(child, None);
    let number = |name: &str| -> u64 {
        let line = said.iter().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {said:?}")).parse().unwrap()
    };
    let (groups, commits) = (number("groups "), number("commits "));
    assert_eq!(commits, 20 * 64);
    assert!(groups <= commits / 2, "{groups} fsyncs for {commits} commits");
}

/// Numbers of synced groups and of the commits in them.
#[derive(Default)]
pub struct Groups {
    pub groups: AtomicU64,
    pub commits: AtomicU64,
}

impl metrics::HistogramFn for Groups {
    fn record(&self, transactions: f64) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(transactions as u64, Ordering::Relaxed);
    }
}

/// Records the committer's histogram of group sizes.
pub struct Recorder(pub Arc<Groups>);

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() == "triggers_store_group_transactions" {
            return Histogram::from_arc(self.0.clone());
        }
        Histogram::noop()
    }
}
