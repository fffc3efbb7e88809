//! A transaction on PostgreSQL: a snapshot, an overlay of writes, and the list of its reads.
//!
//! Invariants:
//! - `POSTGRES-TX-1`: all reads use one snapshot, which the first read opens.
//! - `POSTGRES-TX-2`: the database checks every plain read of the base at commit.
//! - `POSTGRES-TX-3`: a transaction older than five seconds fails, as on every engine.

use super::PostgresPools;
use super::group::PendingCommit;
use super::snapshot::PostgresSnapshot;
use crate::kv::limits::{check_age, check_key};
use crate::kv::overlay::{Overlay, OverlayRead, RangeReader, write_to_overlay};
use crate::kv::{BoxFuture, Fault, KeyRange, Page, RangeRead, StoreError, Transaction};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(super) struct PostgresTransaction {
    pools: Arc<PostgresPools>,
    /// Weak, so that an open transaction does not keep the engine from closing.
    commits: mpsc::WeakSender<PendingCommit>,
    snapshot: Option<PostgresSnapshot>,
    overlay: Overlay,
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
            overlay: Overlay::default(),
            keys: Vec::new(),
            ranges: Vec::new(),
            begun_at: Instant::now(),
        }
    }

    async fn snapshot(&mut self) -> Result<&mut PostgresSnapshot, StoreError> {
        // `POSTGRES-TX-3`.
        check_age(self.begun_at)?;
        let snapshot = match self.snapshot.take() {
            Some(snapshot) => snapshot,
            None => PostgresSnapshot::open(&self.pools).await?,
        };
        Ok(self.snapshot.insert(snapshot))
    }

    async fn read_key(
        &mut self,
        key: &[u8],
        is_checked: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        check_key(key)?;
        if let OverlayRead::Known(value) = self.overlay.read(key) {
            return Ok(value);
        }
        let base = self.snapshot().await?.get(key).await?;
        if is_checked {
            self.keys.push((Bytes::copy_from_slice(key), base.clone()));
        }
        self.overlay.resolve(key, base)
    }

    async fn read_pair(
        &mut self,
        keys: [&[u8]; 2],
        is_checked: bool,
    ) -> Result<[Option<Bytes>; 2], StoreError> {
        keys.into_iter().try_for_each(check_key)?;
        if keys.iter().any(|key| matches!(self.overlay.read(key), OverlayRead::Known(_))) {
            return Ok([
                self.read_key(keys[0], is_checked).await?,
                self.read_key(keys[1], is_checked).await?,
            ]);
        }
        let [first, second] = self.snapshot().await?.get_pair(keys).await?;
        if is_checked {
            let pairs = keys.into_iter().zip([&first, &second]);
            self.keys.extend(pairs.map(|(key, base)| (Bytes::copy_from_slice(key), base.clone())));
        }
        Ok([self.overlay.resolve(keys[0], first)?, self.overlay.resolve(keys[1], second)?])
    }

    async fn read_range(&mut self, read: RangeRead, is_checked: bool) -> Result<Page, StoreError> {
        let mut reader = RangeReader::new(read);
        loop {
            let next = reader.next();
            let base = if next.range.is_empty() {
                Page::default()
            } else {
                self.snapshot().await?.page(&next).await?
            };
            if reader.add_page(&self.overlay, base)? {
                break;
            }
        }
        let (page, covered) = reader.finish();
        if is_checked {
            self.check_range(covered).await?;
        }
        Ok(page)
    }

    /// Adds the digest of a range to the reads that are compared at commit.
    async fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        if !range.is_empty() {
            let digest = self.snapshot().await?.digest(&range).await?;
            self.ranges.push((range, digest));
        }
        Ok(())
    }
}

impl Transaction for PostgresTransaction {
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.read_key(key, true))
    }

    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.read_key(key, false))
    }

    fn get_pair<'a>(
        &'a mut self,
        keys: [&'a [u8]; 2],
        is_checked: bool,
    ) -> BoxFuture<'a, Result<[Option<Bytes>; 2], StoreError>> {
        Box::pin(self.read_pair(keys, is_checked))
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read_range(read, true))
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read_range(read, false))
    }

    write_to_overlay!();

    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.check_range(range))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        let Self { commits, snapshot, overlay, keys, ranges, begun_at, .. } = *self;
        // Frees the connection for others while the commit waits.
        drop(snapshot);
        Box::pin(async move {
            if overlay.is_empty() {
                return Ok(());
            }
            check_age(begun_at)?;
            let bytes = overlay.approximate_size();
            let (cleared, writes) = overlay.finish()?;
            let (answer, outcome) = oneshot::channel();
            let stopped = || StoreError::fatal(Fault::Stopped, "the engine is closed");
            let queue = commits.upgrade().ok_or_else(stopped)?;
            queue
                .send(PendingCommit { keys, ranges, cleared, writes, bytes, answer })
                .await
                .map_err(|_| stopped())?;
            drop(queue);
            outcome.await.map_err(|_| StoreError::MaybeCommitted("the committer ended".into()))?
        })
    }
}
