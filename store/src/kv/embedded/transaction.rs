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
use crate::kv::limits::{check_age, check_key};
use crate::kv::overlay::{Overlay, OverlayRead, write_to_overlay};
use crate::kv::{BoxFuture, Fault, KeyRange, Ordered, Page, RangeRead, StoreError, Transaction};
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
    overlay: Overlay,
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
            overlay: Overlay::default(),
            reads: Vec::new(),
            begun_at: Instant::now(),
        }
    }

    fn snapshot(&mut self) -> Result<&LmdbSnapshot, StoreError> {
        // `EMBEDDED-TX-3`.
        check_age(self.begun_at)?;
        if self.snapshot.is_none() {
            if self.core.has_readers_max() {
                return Err(StoreError::Retryable("too many transactions are reading".into()));
            }
            self.snapshot = Some(LmdbSnapshot::open_with(&self.core, self.visibility)?);
        }
        Ok(self.snapshot.as_ref().expect("it was opened just above"))
    }

    fn read_key(&mut self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        check_key(key)?;
        if let OverlayRead::Known(value) = self.overlay.read(key) {
            return Ok(value);
        }
        let base = self.snapshot()?.get(key)?;
        if is_checked {
            self.reads.push(CheckedRead::Key(Bytes::copy_from_slice(key)));
        }
        self.overlay.resolve(key, base)
    }

    fn read_range(&mut self, read: RangeRead, is_checked: bool) -> Result<Page, StoreError> {
        self.snapshot()?;
        let snapshot = self.snapshot.as_ref().expect("it was opened just above");
        let (page, covered) = self.overlay.range(read, |read| snapshot.page(&read))?;
        if is_checked {
            self.reads.push(CheckedRead::Range(covered));
        }
        Ok(page)
    }

    /// Adds a range of the snapshot to the reads that the committer checks.
    fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        self.snapshot()?;
        self.reads.push(CheckedRead::Range(range));
        Ok(())
    }
}

impl Transaction for EmbeddedTransaction {
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(std::future::ready(self.read_key(key, true)))
    }

    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(std::future::ready(self.read_key(key, false)))
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(std::future::ready(self.read_range(read, true)))
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(std::future::ready(self.read_range(read, false)))
    }

    write_to_overlay!();

    fn set_owned(&mut self, key: Vec<u8>, value: Vec<u8>) {
        // Buffers stay in memory until they are flushed, so drop their spare capacity.
        self.overlay.set_owned(key.into_boxed_slice().into(), value.into_boxed_slice().into());
    }

    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(self.check_range(range)))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.send_commit(None)
    }

    fn commit_pipelined(
        self: Box<Self>,
        ordered: Ordered,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.send_commit(Some(ordered))
    }
}

impl EmbeddedTransaction {
    /// Sends the commit to the committer and waits for its answer.
    fn send_commit(self, ordered: Option<Ordered>) -> BoxFuture<'static, Result<(), StoreError>> {
        let Self { snapshot, visibility: _, core, commits, overlay, mut reads, begun_at } = self;
        let read_at = snapshot.as_ref().map(LmdbSnapshot::sequence);
        // While the commit waits, the snapshot would keep old values and pages.
        drop(snapshot);
        Box::pin(async move {
            if overlay.is_empty() {
                if read_at.is_none_or(|sequence| sequence <= core.visible()) {
                    return Ok(());
                }
                // The commit only waits until its reads are durable (`EMBEDDED-TX-4`).
                reads.clear();
            }
            check_age(begun_at)?;
            core.check_writable()?;
            let bytes = overlay.approximate_size();
            let (cleared, writes) = overlay.finish()?;
            let (answer, outcome) = oneshot::channel();
            let commit = QueuedCommit { read_at, reads, cleared, writes, bytes, ordered, answer };
            let stopped = || StoreError::fatal(Fault::Stopped, "the engine is closed");
            let queue = commits.upgrade().ok_or_else(stopped)?;
            queue.send(CommitterMessage::Commit(commit)).await.map_err(|_| stopped())?;
            // A waiting commit must not keep the engine from closing either.
            drop(queue);
            let unknown = |_| StoreError::MaybeCommitted("the committer thread ended".into());
            outcome.await.map_err(unknown)?
        })
    }
}
