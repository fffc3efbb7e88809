//! What only the PostgreSQL engine guarantees: sharing a database, surviving its crashes, and
//! rejecting unsafe servers.

mod server;

use crate::conformance::serializability::shared_store;
use crate::conformance::within_deadline;
use crate::subject::Subject;
use server::Server;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use triggers_store::kv::postgres::{PostgresEngine, PostgresOpenError, PostgresOptions};
use triggers_store::kv::{Engine, StoreError, decode_counter};

/// An engine on the server that all tests share; `None` if PostgreSQL is not installed.
pub async fn subject() -> Option<Subject> {
    let server = server::shared()?;
    Some(Subject::new(Arc::new(open(server).await), None))
}

fn options(url: impl Into<String>) -> PostgresOptions {
    PostgresOptions {
        url: url.into(),
        password: None,
        ca_file: None,
        connections_max: 128,
        commit_queue_max: 1_024,
        group_transactions_max: 1_024,
        group_bytes_max: 8 << 20,
    }
}

async fn open(server: &Server) -> PostgresEngine {
    PostgresEngine::open(&options(server.url())).await.unwrap()
}

async fn open_error(options: PostgresOptions) -> PostgresOpenError {
    PostgresEngine::open(&options).await.err().expect("the options are rejected")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_a_database_are_serialized() {
    let Some(server) = server::shared() else { return };
    shared_store::assert_serialized(vec![
        open(server).await,
        open(server).await,
        open(server).await,
    ])
    .await;
}

/// Repeatedly adds one to a counter and sets a pair; returns the numbers of known and of possible
/// commits.
async fn work(
    engine: Arc<dyn Engine>,
    keys: [Vec<u8>; 2],
    answered: Arc<AtomicUsize>,
) -> (i64, i64) {
    let (mut known, mut unknown) = (0_i64, 0_i64);
    while known < 400 {
        let mut open = engine.begin().await.unwrap();
        if open.get(&keys[0]).await.is_err() {
            continue;
        }
        open.set(&keys[0], &known.to_le_bytes());
        open.add(&keys[1], 1);
        match open.commit().await {
            Ok(()) => {
                known += 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(StoreError::MaybeCommitted(_)) => unknown += 1,
            Err(StoreError::Retryable(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
    (known, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answered_commits_survive_server_crashes() {
    // A server of its own, because the test crashes it.
    let Some(server) = Server::start(&[]).map(Arc::new) else { return };
    let subject = Subject::new(Arc::new(open(&server).await), None);
    let answered = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let keys = [format!("own/{task}"), "count".to_owned()].map(|name| subject.key(name));
            tokio::spawn(work(subject.engine.clone(), keys, answered.clone()))
        })
        .collect();
    for crash in 1..=3 {
        while answered.load(Ordering::Relaxed) < crash * 700 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let server = server.clone();
        tokio::task::spawn_blocking(move || server.crash()).await.unwrap();
    }
    let (mut known, mut unknown) = (0_i64, 0_i64);
    for task in tasks {
        let counts = task.await.unwrap();
        (known, unknown) = (known + counts.0, unknown + counts.1);
    }
    let count = decode_counter(subject.value("count").await.as_deref()).unwrap();
    assert!(
        (known..=known + unknown).contains(&count),
        "{count} of {known} known and {unknown} unknown"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_database() {
    let Some(server) = Server::start(&[]).map(Arc::new) else { return };
    let subject = Subject::new(Arc::new(open(&server).await), None);
    subject.put("a", "1").await;
    assert_eq!(subject.engine.health(), Ok(()));
    drop(server);
    let reaches = async |is_well: bool| {
        while subject.engine.health().is_ok() != is_well {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_deadline(reaches(false)).await;
    let mut open = subject.begin().await;
    let error = open.get(&subject.key("a")).await.unwrap_err();
    assert!(matches!(error, StoreError::Retryable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_fsync_is_rejected() {
    let Some(server) = Server::start(&["-c", "fsync=off"]) else { return };
    let error = open_error(options(server.url())).await;
    assert_eq!(error.to_string(), "the database is not durable: fsync is off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_options_are_rejected() {
    let is_of_options = |error: PostgresOpenError| matches!(error, PostgresOpenError::Options(_));
    assert!(is_of_options(open_error(options("mysql://localhost")).await));
    assert!(is_of_options(open_error(options("postgresql://u:secret@localhost/db")).await));
    let ca_file = Some(PathBuf::from("/nowhere/ca.pem"));
    assert!(is_of_options(
        open_error(PostgresOptions { ca_file, ..options("postgresql://u@db.example/x") }).await
    ));
    let error = open_error(options("postgresql://u@127.0.0.1:9/x")).await;
    assert!(matches!(error, PostgresOpenError::Connect(_)), "{error}");
}
