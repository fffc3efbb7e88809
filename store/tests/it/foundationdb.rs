//! What only the FoundationDB engine guarantees: sharing a cluster, unknown outcomes, and rejected
//! clusters.
//!
//! `TRIGGERS_TEST_FDB_CLUSTER_FILE` names the cluster file. If it is set, as in continuous
//! integration, a cluster that does not answer fails the tests; if not, the tests print that they
//! are skipped and pass. Each test process has a key prefix that begins with the time; processes
//! that start an hour later clear it.

use crate::conformance::serializability::shared_store;
use crate::conformance::within_deadline;
use crate::subject::Subject;
use futures_util::FutureExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;
use triggers_protocol::{Environment, Timestamp};
use triggers_store::kv::foundationdb::{FoundationEngine, FoundationOpenError, FoundationOptions};
use triggers_store::kv::{Engine, KeyRange, RangeRead, StoreError};

const CLUSTER_FILE: &str = "TRIGGERS_TEST_FDB_CLUSTER_FILE";

/// An engine on the cluster that all tests share; `None` without a cluster.
pub async fn subject() -> Option<Subject> {
    let options = options()?;
    Some(Subject::new(Arc::new(open(&options).await), None))
}

/// Options for the cluster, with the prefix of this process.
fn options() -> Option<FoundationOptions> {
    static PREFIX: OnceLock<Vec<u8>> = OnceLock::new();
    let Some(cluster_file) = std::env::var_os(CLUSTER_FILE).map(PathBuf::from) else {
        static SAID: OnceLock<()> = OnceLock::new();
        SAID.get_or_init(|| {
            eprintln!("SKIPPED: {CLUSTER_FILE} names no cluster file of FoundationDB")
        });
        return None;
    };
    let prefix = PREFIX.get_or_init(|| {
        let environment = Environment::system();
        let random = u64::from_le_bytes(environment.bytes());
        [prefix_since(environment.now()), format!("{random:016x}/").into_bytes()].concat()
    });
    Some(FoundationOptions { prefix: prefix.clone(), ..FoundationOptions::new(Some(cluster_file)) })
}

/// Common prefix of the processes that started at a moment.
fn prefix_since(start: Timestamp) -> Vec<u8> {
    format!("triggers-test/{:016x}/", start.as_millis()).into_bytes()
}

async fn open(options: &FoundationOptions) -> FoundationEngine {
    static CLEARED: OnceCell<()> = OnceCell::const_new();
    let engine = FoundationEngine::open(options).await.expect("the cluster can be used");
    CLEARED.get_or_init(|| clear_old_prefixes(options)).await;
    engine
}

async fn clear_old_prefixes(options: &FoundationOptions) {
    let cluster_file = options.cluster_file.as_ref().and_then(|path| path.to_str());
    let transaction = ::foundationdb::Database::new(cluster_file).unwrap().create_trx().unwrap();
    let an_hour_ago = Environment::system().now().minus(Duration::from_secs(3_600));
    transaction.clear_range(&prefix_since(Timestamp::from_millis(0)), &prefix_since(an_hour_ago));
    transaction.commit().await.unwrap();
}

async fn open_error(options: FoundationOptions) -> FoundationOpenError {
    FoundationEngine::open(&options).await.err().expect("the options are rejected")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_a_cluster_are_serialized() {
    let Some(options) = options() else { return };
    shared_store::assert_serialized(vec![
        open(&options).await,
        open(&options).await,
        open(&options).await,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_in_one_cluster_are_separate() {
    let Some(options) = options() else { return };
    let store = async |name: &str| {
        let prefix = [&options.prefix[..], name.as_bytes()].concat();
        open(&FoundationOptions { prefix, ..options.clone() }).await
    };
    let [left, right] = [store("left/").await, store("right/").await];
    let everything = || KeyRange::new("", vec![0xff; 8]);
    for (engine, value) in [(&left, "left"), (&right, "right")] {
        let mut open = engine.begin().await.unwrap();
        open.clear_range(everything());
        open.set(b"a", value.as_bytes());
        open.commit().await.unwrap();
    }
    for (engine, value) in [(&left, "left"), (&right, "right")] {
        let mut open = engine.begin().await.unwrap();
        let page = open.range(RangeRead::first(everything(), 9)).await.unwrap();
        assert_eq!(page.pairs, [("a".into(), value.into())]);
    }
}

#[test]
fn a_process_that_used_the_engine_exits_without_a_crash() {
    if options().is_none() {
        return;
    }
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "foundationdb::an_abandoned_commit_takes_effect"]);
    let ended = process.output().unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "FOUNDATION-NETWORK-2: {}: {printed}", ended.status);
    assert!(printed.contains("1 passed"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_commit_takes_effect() {
    let Some(subject) = subject().await else { return };
    let mut open = subject.begin().await;
    open.set(&subject.key("a"), b"1");
    let mut commit = open.commit();
    assert_eq!(commit.as_mut().now_or_never(), None);
    drop(commit);
    within_deadline(async {
        while subject.value("a").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_arrives_after_an_unknown_outcome() {
    let Some(options) = options() else { return };
    let mut seen = Vec::new();
    let mut unknown = 0;
    // These timeouts end before the commit is sent, while it is in flight, and after its answer.
    for commit_ms_max in [1, 2, 3, 4, 6, 8, 12] {
        let options = FoundationOptions { commit_ms_max, ..options.clone() };
        let subject = Subject::new(Arc::new(open(&options).await), None);
        for number in 0..10 {
            let name = number.to_string();
            let outcome = subject.commit(async |open| open.set(&subject.key(&name), b"1")).await;
            let found = subject.value(&name).await;
            match outcome {
                Ok(()) => assert!(found.is_some()),
                Err(StoreError::MaybeCommitted(_)) => unknown += 1,
                Err(error) => assert!(found.is_none(), "{error}"),
            }
            seen.push((subject.key(&name), found));
        }
    }
    assert!(unknown > 0, "no timeout was short enough to show anything");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let engine = open(&options).await;
    for (key, found) in seen {
        let mut open = engine.begin().await.unwrap();
        assert_eq!(open.get(&key).await.unwrap(), found);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_cluster_is_rejected() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    std::fs::write(&path, "nobody:listens@127.0.0.1:9\n").unwrap();
    let options =
        FoundationOptions { read_ms_max: 500, ..FoundationOptions::new(Some(path.clone())) };
    within_deadline(async {
        let error = open_error(options).await;
        assert!(matches!(error, FoundationOpenError::Connect { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_options_are_rejected() {
    let missing = FoundationOptions::new(Some(PathBuf::from("/nowhere/fdb.cluster")));
    let error = open_error(missing.clone()).await;
    assert!(matches!(error, FoundationOpenError::Options(_)), "{error}");
    assert!(error.to_string().contains("/nowhere/fdb.cluster"), "{error}");
    let prefix = vec![0xff];
    assert!(matches!(
        open_error(FoundationOptions { prefix, ..missing }).await,
        FoundationOpenError::Options(_)
    ));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "this is no cluster file\n").unwrap();
    let error = open_error(FoundationOptions::new(Some(file.path().to_owned()))).await;
    assert!(matches!(error, FoundationOpenError::Connect { .. }), "{error}");
}
