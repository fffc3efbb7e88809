//! Ordered commits that are not yet durable: only pipelined transactions see them, and no commit
//! that read them is answered earlier.
//!
//! The committer calls `ordered` between the two moments, so that a test can hold it there.

use super::open;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use triggers_store::kv::embedded::EmbeddedEngine;
use triggers_store::kv::{Engine, StoreError, Transaction};

type Answer = tokio::task::JoinHandle<Result<(), StoreError>>;

/// Sends a commit of `key` and holds it while it is ordered but not durable; sending on the channel
/// releases it.
async fn held(engine: &Arc<EmbeddedEngine>, key: &[u8]) -> (Answer, mpsc::Sender<()>) {
    let mut open = engine.begin_pipelined().await.unwrap();
    open.set(key, b"value");
    let ((told, has_place), (go_on, may_go_on)) = (oneshot::channel(), mpsc::channel::<()>());
    let answer = tokio::spawn(open.commit_pipelined(Box::new(move || {
        told.send(()).unwrap();
        // The test sends, or has ended.
        let _ = may_go_on.recv();
    })));
    has_place.await.unwrap();
    (answer, go_on)
}

async fn sees(open: &mut dyn Transaction, key: &[u8]) -> bool {
    open.get(key).await.unwrap().is_some()
}

/// Polls a commit until it waits for its answer.
async fn begun(commit: impl Future<Output = Result<(), StoreError>> + Send + 'static) -> Answer {
    let mut commit = Box::pin(commit);
    let is_answered = tokio::time::timeout(Duration::ZERO, &mut commit).await;
    assert!(
        is_answered.is_err(),
        "it was answered before what it has read is durable: {is_answered:?}"
    );
    tokio::spawn(commit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pipelined_transactions_see_ordered_commits() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let (first, go_on) = held(&engine, b"a").await;
    let mut plain = engine.begin().await.unwrap();
    assert!(!sees(&mut *plain, b"a").await, "it is not durable");
    let (mut reader, mut writer) =
        (engine.begin_pipelined().await.unwrap(), engine.begin_pipelined().await.unwrap());
    assert!(sees(&mut *reader, b"a").await && sees(&mut *writer, b"a").await);
    writer.set(b"b", b"value");
    let (reader, writer) = (begun(reader.commit()).await, begun(writer.commit()).await);
    assert!(!first.is_finished() && !reader.is_finished() && !writer.is_finished());
    go_on.send(()).unwrap();
    for answer in [first, reader, writer] {
        answer.await.unwrap().unwrap();
    }
    let mut plain = engine.begin().await.unwrap();
    assert!(sees(&mut *plain, b"a").await && sees(&mut *plain, b"b").await);
}

/// A transaction that reads only durable state conflicts with an earlier commit, durable or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordered_commit_conflicts_with_durable_reads() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let (first, go_on) = held(&engine, b"a").await;
    let mut blind = engine.begin().await.unwrap();
    assert!(!sees(&mut *blind, b"a").await);
    blind.set(b"b", b"value");
    let blind = begun(blind.commit()).await;
    go_on.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(blind.await.unwrap(), Err(StoreError::Retryable(_))));
}
