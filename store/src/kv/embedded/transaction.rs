//! A transaction on the embedded engine: a snapshot to read from, an overlay to write to, and the list of its reads.
//!
//! Invariants: `EMBEDDED-TX-1` all reads come from one snapshot, opened by the first of them; `EMBEDDED-TX-2` every
//! plain read of the base is in the list that the committer checks; reads of own writes are not, they cannot conflict;
//! `EMBEDDED-TX-3` a transaction older than five seconds is refused, as on every engine: its snapshot keeps old pages.
//! It never blocks: reads are memory accesses, and the commit waits for the committer without holding a thread.

use super::committer::{Commit, ReadCheck};
use super::{Pairs, Shared, store_error};
use crate::kv::limits::{PAGE_BYTES_MAX, TRANSACTION_MS_MAX, check_key};
use crate::kv::overlay::{Overlay, Seen};
use crate::kv::{BoxFuture, Fault, KeyRange, Page, RangeRead, StoreError, Transaction};
use bytes::Bytes;
use heed::{RoTxn, WithoutTls};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct EmbeddedTransaction {
    /// Declared before `shared`, so that the snapshot is closed before the environment can be.
    snapshot: Option<RoTxn<'static, WithoutTls>>,
    shared: Arc<Shared>,
    /// Weak, so that a transaction left open does not keep the engine from closing.
    commits: mpsc::WeakSender<Commit>,
    overlay: Overlay,
    reads: Vec<ReadCheck>,
    begun_at: Instant,
}

impl EmbeddedTransaction {
    pub(super) fn new(shared: Arc<Shared>, commits: mpsc::WeakSender<Commit>) -> Self {
        Self {
            snapshot: None,
            shared,
            commits,
            overlay: Overlay::default(),
            reads: Vec::new(),
            begun_at: Instant::now(),
        }
    }

    fn snapshot(&mut self) -> Result<&RoTxn<'static, WithoutTls>, StoreError> {
        check_age(self.begun_at)?;
        if self.snapshot.is_none() {
            self.snapshot = Some(self.shared.env.clone().static_read_txn().map_err(store_error)?);
        }
        Ok(self.snapshot.as_ref().expect("it was opened just above"))
    }

    fn read_key(&mut self, key: &[u8], checked: bool) -> Result<Option<Bytes>, StoreError> {
        check_key(key)?;
        if let Seen::Known(value) = self.overlay.seen(key) {
            return Ok(value);
        }
        let pairs = self.shared.pairs;
        let found = pairs.get(self.snapshot()?, key).map_err(store_error)?;
        let base = found.map(Bytes::copy_from_slice);
        if checked {
            self.reads.push(ReadCheck::Key(Bytes::copy_from_slice(key), base.clone()));
        }
        self.overlay.resolve(key, base)
    }

    fn read_range(&mut self, read: RangeRead, checked: bool) -> Result<Page, StoreError> {
        self.snapshot()?;
        let snapshot = self.snapshot.as_ref().expect("it was opened just above");
        let pairs = self.shared.pairs;
        let (page, looked_at) = self.overlay.range(read, |read| base_page(pairs, snapshot, &read))?;
        if checked {
            self.check_range(looked_at)?;
        }
        Ok(page)
    }

    /// Remembers what a range of the base holds, for the committer to compare.
    fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        let pairs = self.shared.pairs;
        let digest = range_digest(pairs, self.snapshot()?, &range)?;
        self.reads.push(ReadCheck::Range(range, digest));
        Ok(())
    }
}

impl Transaction for EmbeddedTransaction {
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(std::future::ready(self.read_key(key, true)))
    }

    fn get_snapshot<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(std::future::ready(self.read_key(key, false)))
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(std::future::ready(self.read_range(read, true)))
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(std::future::ready(self.read_range(read, false)))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.overlay.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.overlay.clear(key);
    }

    fn clear_range(&mut self, range: KeyRange) {
        self.overlay.clear_range(range);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.overlay.add(key, delta);
    }

    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(self.check_range(range)))
    }

    fn approximate_size(&self) -> usize {
        self.overlay.approximate_size()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        let Self { snapshot, shared, commits, overlay, reads, begun_at } = *self;
        // The snapshot would keep old pages from being reused while the commit waits.
        drop(snapshot);
        Box::pin(async move {
            if overlay.is_empty() {
                return Ok(());
            }
            check_age(begun_at)?;
            shared.check_writable()?;
            let bytes = overlay.approximate_size();
            let (cleared, writes) = overlay.finish()?;
            let (answer, outcome) = oneshot::channel();
            let commit = Commit { reads, cleared, writes, bytes, answer };
            let stopped = || StoreError::fatal(Fault::Stopped, "the engine is closed");
            let queue = commits.upgrade().ok_or_else(stopped)?;
            queue.send(commit).await.map_err(|_| stopped())?;
            // Waiting for the answer must not keep the engine from closing either.
            drop(queue);
            let unknown = |_| StoreError::MaybeCommitted("the committer thread ended".into());
            outcome.await.map_err(unknown)?
        })
    }
}

/// `EMBEDDED-TX-3`.
fn check_age(begun_at: Instant) -> Result<(), StoreError> {
    if begun_at.elapsed() > Duration::from_millis(TRANSACTION_MS_MAX) {
        return Err(StoreError::Retryable("the transaction is too old".into()));
    }
    Ok(())
}

/// One page of the base, cut at the limit or at the page's size.
pub(super) fn base_page(pairs: Pairs, snapshot: &RoTxn<'_>, read: &RangeRead) -> Result<Page, StoreError> {
    let mut page = Page::default();
    if read.range.is_empty() {
        return Ok(page);
    }
    let bounds = bounds(&read.range);
    let mut bytes = 0;
    let mut take = |found: heed::Result<(&[u8], &[u8])>| -> Result<bool, StoreError> {
        let (key, value) = found.map_err(store_error)?;
        if page.pairs.len() == read.limit || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            return Ok(false);
        }
        bytes += key.len() + value.len();
        page.pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(true)
    };
    if read.reverse {
        for found in pairs.rev_range(snapshot, &bounds).map_err(store_error)? {
            if !take(found)? {
                break;
            }
        }
    } else {
        for found in pairs.range(snapshot, &bounds).map_err(store_error)? {
            if !take(found)? {
                break;
            }
        }
    }
    Ok(page)
}

/// LMDB knows no empty key, so a range from the empty key on begins at whichever key is first.
pub(super) fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let begin = if range.begin.is_empty() { Bound::Unbounded } else { Bound::Included(&range.begin[..]) };
    (begin, Bound::Excluded(&range.end[..]))
}

/// SHA-256 over the keys and values of a range, with their lengths.
pub(super) fn range_digest(pairs: Pairs, snapshot: &RoTxn<'_>, range: &KeyRange) -> Result<[u8; 32], StoreError> {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    if !range.is_empty() {
        let bounds = bounds(range);
        for found in pairs.range(snapshot, &bounds).map_err(store_error)? {
            let (key, value) = found.map_err(store_error)?;
            for part in [key, value] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
        }
    }
    Ok(digest.finalize().into())
}
