//! A transaction on the embedded engine: a snapshot, an overlay of writes, and a list of reads.
//!
//! Invariants:
//! - `EMBEDDED-TX-1`: all reads use one snapshot, which the first read opens.
//! - `EMBEDDED-TX-2`: every plain read of the snapshot is in the list that the committer checks.
//!   Reads of own writes are not, since they cannot conflict.
//! - `EMBEDDED-TX-3`: a transaction fails after five seconds: its snapshot keeps old values.
//! - `EMBEDDED-TX-4`: when the commit is answered, everything that the transaction read is durable.
//!
//! The commit waits without holding a thread. Reads never wait for a lock for long, but run on the
//! caller's thread: a page that is not in the page cache blocks it for a page fault.

use super::committer::{CheckedRead, CommitterMessage, QueuedCommit};
use super::snapshot::Visibility;
use super::{LmdbCore, LmdbSnapshot};
use crate::kv::limits::{TRANSACTION_MS_MAX, check_age};
use crate::kv::overlay::Overlay;
use crate::kv::transaction::EngineReads;
use crate::kv::{Fault, KeyRange, Ordered, Page, RangeRead, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct EmbeddedTransaction {
    snapshot: Option<LmdbSnapshot>,
    visibility: Visibility,
    core: Arc<LmdbCore>,
    /// Weak, so that an open transaction does not keep the engine from closing.
    commits: mpsc::WeakSender<CommitterMessage>,
    reads: Vec<CheckedRead>,
    begun_at: Instant,
}

impl EmbeddedTransaction {
    pub(super) fn new(
        core: Arc<LmdbCore>,
        commits: mpsc::WeakSender<CommitterMessage>,
        visibility: Visibility,
    ) -> Self {
        Self {
            snapshot: None,
            visibility,
            core,
            commits,
            reads: Vec::new(),
            begun_at: Instant::now(),
        }
    }

    fn snapshot(&mut self) -> Result<&LmdbSnapshot, StoreError> {
        // `EMBEDDED-TX-3`.
        check_age(self.begun_at.elapsed(), TRANSACTION_MS_MAX)?;
        if self.snapshot.is_none() {
            if self.core.has_readers_max() {
                return Err(StoreError::Retryable("too many transactions are reading".into()));
            }
            self.snapshot = Some(LmdbSnapshot::open_with(&self.core, self.visibility)?);
        }
        Ok(self.snapshot.as_ref().expect("it was opened just above"))
    }
}

impl EngineReads for EmbeddedTransaction {
    async fn get(&mut self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        let value = self.snapshot()?.get(key)?;
        if is_checked {
            self.reads.push(CheckedRead::Key(Bytes::copy_from_slice(key)));
        }
        Ok(value)
    }

    async fn page(&mut self, read: RangeRead) -> Result<Page, StoreError> {
        self.snapshot()?.page(&read)
    }

    async fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        self.snapshot()?;
        self.reads.push(CheckedRead::Range(range));
        Ok(())
    }

    /// Sends the commit to the committer and waits for its answer.
    async fn commit(self, writes: Overlay, ordered: Option<Ordered>) -> Result<(), StoreError> {
        let Self { snapshot, visibility: _, core, commits, mut reads, begun_at } = self;
        let read_at = snapshot.as_ref().map(LmdbSnapshot::sequence);
        // While the commit waits, the snapshot would keep old values and pages.
        drop(snapshot);
        if writes.is_empty() {
            if read_at.is_none_or(|sequence| sequence <= core.visible()) {
                return Ok(());
            }
            // The commit only waits until its reads are durable (`EMBEDDED-TX-4`).
            reads.clear();
        }
        check_age(begun_at.elapsed(), TRANSACTION_MS_MAX)?;
        core.check_writable()?;
        let bytes = writes.approximate_size();
        let (cleared, writes) = writes.finish()?;
        let (answer, outcome) = oneshot::channel();
        let commit = QueuedCommit { read_at, reads, cleared, writes, bytes, ordered, answer };
        let stopped = || StoreError::fatal(Fault::Stopped, "the engine is closed");
        let queue = commits.upgrade().ok_or_else(stopped)?;
        queue.send(CommitterMessage::Commit(commit)).await.map_err(|_| stopped())?;
        // A waiting commit must not keep the engine from closing either.
        drop(queue);
        let unknown = |_| StoreError::MaybeCommitted("the committer thread ended".into());
        outcome.await.map_err(unknown)?
    }
}
