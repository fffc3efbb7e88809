//! A transaction on PostgreSQL: a snapshot, an overlay of writes, and the list of its reads.
//!
//! Invariants:
//! - `POSTGRES-TX-1`: all reads use one snapshot, which the first read opens.
//! - `POSTGRES-TX-2`: the database checks every plain read of the base at commit.
//! - `POSTGRES-TX-3`: a transaction older than five seconds fails, as on every engine.

use super::PostgresPools;
use super::group::PendingCommit;
use super::snapshot::PostgresSnapshot;
use crate::kv::limits::{TRANSACTION_MS_MAX, check_age};
use crate::kv::overlay::Overlay;
use crate::kv::prefetch::{Fetched, Prefetch};
use crate::kv::transaction::EngineReads;
use crate::kv::{Fault, KeyRange, Ordered, Page, RangeRead, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct PostgresTransaction {
    pools: Arc<PostgresPools>,
    /// Weak, so that an open transaction does not keep the engine from closing.
    commits: mpsc::WeakSender<PendingCommit>,
    snapshot: Option<PostgresSnapshot>,
    keys: Vec<(Bytes, Option<Bytes>)>,
    ranges: Vec<(KeyRange, Bytes)>,
    begun_at: Instant,
}

impl PostgresTransaction {
    pub(super) fn new(pools: Arc<PostgresPools>, commits: mpsc::WeakSender<PendingCommit>) -> Self {
        Self {
            pools,
            commits,
            snapshot: None,
            keys: Vec::new(),
            ranges: Vec::new(),
            begun_at: Instant::now(),
        }
    }

    async fn snapshot(&mut self) -> Result<&mut PostgresSnapshot, StoreError> {
        // `POSTGRES-TX-3`.
        check_age(self.begun_at.elapsed(), TRANSACTION_MS_MAX)?;
        let snapshot = match self.snapshot.take() {
            Some(snapshot) => snapshot,
            None => PostgresSnapshot::open(&self.pools).await?,
        };
        Ok(self.snapshot.insert(snapshot))
    }
}

impl EngineReads for PostgresTransaction {
    const IS_REMOTE: bool = true;

    async fn get(&mut self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        let value = self.snapshot().await?.get(key).await?;
        if is_checked {
            self.keys.push((Bytes::copy_from_slice(key), value.clone()));
        }
        Ok(value)
    }

    async fn fetch(&mut self, reads: Prefetch) -> Result<Fetched, StoreError> {
        self.snapshot().await?.fetch(reads).await
    }

    async fn check_fetched(&mut self, key: &[u8], value: &Option<Bytes>) -> Result<(), StoreError> {
        self.keys.push((Bytes::copy_from_slice(key), value.clone()));
        Ok(())
    }

    async fn page(&mut self, read: RangeRead) -> Result<Page, StoreError> {
        if read.range.is_empty() {
            return Ok(Page::default());
        }
        self.snapshot().await?.page(&read).await
    }

    /// Adds the digest of a range to the reads that are compared at commit.
    async fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        if !range.is_empty() {
            let digest = self.snapshot().await?.digest(&range).await?;
            self.ranges.push((range, digest));
        }
        Ok(())
    }

    async fn commit(self, writes: Overlay, _: Option<Ordered>) -> Result<(), StoreError> {
        let Self { commits, snapshot, keys, ranges, begun_at, .. } = self;
        // Frees the connection for others while the commit waits.
        drop(snapshot);
        if writes.is_empty() {
            return Ok(());
        }
        check_age(begun_at.elapsed(), TRANSACTION_MS_MAX)?;
        let bytes = writes.approximate_size();
        let (cleared, writes) = writes.finish()?;
        let (answer, outcome) = oneshot::channel();
        let commit = PendingCommit { keys, ranges, cleared, writes, bytes, answer };
        let stopped = || StoreError::fatal(Fault::Stopped, "the engine is closed");
        let queue = commits.upgrade().ok_or_else(stopped)?;
        queue.send(commit).await.map_err(|_| stopped())?;
        drop(queue);
        outcome.await.map_err(|_| StoreError::MaybeCommitted("the committer ended".into()))?
    }
}
