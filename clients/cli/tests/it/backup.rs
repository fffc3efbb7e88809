//! Tests of the commands that inspect and copy data directories.
//!
//! - BACKUP-1: a copy of a running node contains every event that was acknowledged with 201 before,
//!   and another node can serve it.
//! - BACKUP-2: the commands never overwrite existing files.
//! - BACKUP-3: `check` finds a directory intact, or names the damage and ends with exit code 1.
//! - BACKUP-4: `check` and `stats` create and change nothing; the directory may be read-only.

use crate::harness::process::{self, Finished};
use crate::harness::{Call, Client, Node, listing};
use std::fs;
use std::path::Path;
use std::process::Command;

async fn run(arguments: &[&str]) -> Finished {
    process::run(arguments, &[]).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

#[tokio::test]
async fn another_node_serves_the_copy_of_a_running_node() {
    let (directory, copies) = (tempfile::tempdir(), tempfile::tempdir());
    let (directory, copies) =
        (directory.expect("a directory can be made"), copies.expect("a directory can be made"));
    let mut node = Node::start(directory.path(), &[]).await;
    let mut answered = Vec::new();
    for number in 0..40 {
        answered.push(
            node.client().accepted("backup.event", &format!("{{\"number\":{number}}}")).await,
        );
    }
    let copy = copies.path().join("copy");
    let ask = ["store", "backup", text(&copy), "--admin-url", &node.dev.admin_url];
    let made = run(&ask).await;
    assert_eq!(made.code, 0, "{made:?}");
    assert!(made.stdout.contains("pairs"), "{made:?}");
    let again = run(&ask).await;
    assert_eq!(again.code, 1, "BACKUP-2: {again:?}");
    assert!(again.stderr.contains("not empty"), "BACKUP-2: {again:?}");
    let relative = Call::post("/v1/store/backup", "{\"directory\":\"copy\"}");
    let rejected = Client::new(&node.dev.admin_url, "").send(relative).await.expect(400);
    assert!(rejected.text().contains("directory"), "{}", rejected.text());
    node.client().accepted("backup.later", "{}").await;
    assert_eq!(node.terminate().await, 0);

    for lock in ["LOCK", "lock.mdb"] {
        let _ = fs::remove_file(copy.join(lock));
    }
    for stopped in [directory.path(), &copy] {
        let checked = run(&["store", "check", text(stopped)]).await;
        assert_eq!(
            (checked.code, checked.stdout.contains("whole")),
            (0, true),
            "BACKUP-3: {checked:?}"
        );
        assert!(
            checked.stdout.contains("waiting     0 records"),
            "nothing is left to be read back: {checked:?}"
        );
    }
    for created in ["LOCK", "lock.mdb"] {
        assert!(!copy.join(created).exists(), "BACKUP-4: {created}");
    }
    checks_read_only(text(&copy)).await;
    fs::copy(directory.path().join("dev.json"), copy.join("dev.json"))
        .expect("the keys can be copied");
    let restored = Node::start(&copy, &[]).await;
    let listed = listing::all(&restored.client(), "limit=100").await;
    let ids: Vec<_> = listed.events.iter().map(|event| event.event_id.clone()).collect();
    assert_eq!(ids, answered, "BACKUP-1");
    restored.client().accepted("backup.goes.on", "{}").await;
}

/// Checks a directory while it is mounted read-only, where mounting is allowed.
async fn checks_read_only(directory: &str) {
    let run_as_root = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !run_as_root("mount", &["--bind", directory, directory]) {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let is_read_only = run_as_root("mount", &["-o", "remount,bind,ro", directory]);
    let checked = run(&["store", "check", directory]).await;
    let stats = run(&["store", "stats", directory]).await;
    assert!(run_as_root("umount", &["-l", directory]));
    assert!(is_read_only);
    assert_eq!((checked.code, stats.code), (0, 0), "BACKUP-4: {checked:?} {stats:?}");
}

#[tokio::test]
async fn a_damaged_log_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    for _ in 0..10 {
        node.client().accepted("backup.event", "{}").await;
    }
    let in_use = run(&["store", "stats", text(directory.path())]).await;
    assert_eq!(
        (in_use.code, in_use.stderr.contains("open in another process")),
        (1, true),
        "{in_use:?}"
    );
    node.kill_hard();
    let stats = run(&["store", "stats", text(directory.path()), "--json"]).await;
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).expect("stats are JSON");
    assert!(stats["log_waiting_records"].as_u64() >= Some(10), "{stats}");
    let segments = fs::read_dir(directory.path().join("wal")).expect("there is a log");
    for segment in segments.map(|entry| entry.expect("the log is readable").path()) {
        let mut bytes = fs::read(&segment).expect("a segment is readable");
        bytes[40] ^= 1;
        fs::write(&segment, bytes).expect("a segment can be written");
    }
    let checked = run(&["store", "check", text(directory.path())]).await;
    assert_eq!(checked.code, 1, "BACKUP-3: {checked:?}");
    assert!(checked.stderr.contains("offset 0 is damaged"), "BACKUP-3: {checked:?}");
    let nothing = run(&["store", "check", text(&directory.path().join("nothing"))]).await;
    assert_eq!(nothing.code, 1, "{nothing:?}");
}
