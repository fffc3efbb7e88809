//! A transaction on FoundationDB: a native transaction for reads, and an overlay of writes.
//!
//! Invariants:
//! - `FOUNDATION-TX-1`: all reads are at the read version that the first of them gets.
//! - `FOUNDATION-TX-2`: every plain read of the base adds a read conflict range; that of a page
//!   ends with its last pair. Reads of own writes add none.
//! - `FOUNDATION-TX-3`: a transaction older than five seconds, or than the options allow, fails.
//! - `FOUNDATION-TX-4`: the target of an `add` is a counter, or absent, at the read version,
//!   because FoundationDB's addition does not check it. The check adds no conflict range.
//!
//! Own writes are read through the overlay, so that all engines follow the same rules.

use super::commit::NativeCommit;
use super::{ClusterClient, error};
use crate::kv::limits::{PAGE_BYTES_MAX, check_key};
use crate::kv::overlay::{Overlay, OverlayRead, RangeReader, Write, write_to_overlay};
use crate::kv::{BoxFuture, KeyRange, Page, RangeRead, StoreError, Transaction, decode_counter};
use bytes::Bytes;
use foundationdb::RangeOption;
use foundationdb::options::{ConflictRangeType, StreamingMode};
use futures_util::future::{try_join, try_join_all};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct FoundationTransaction {
    client: Arc<ClusterClient>,
    reads: foundationdb::Transaction,
    overlay: Overlay,
    begun_at: Instant,
}

impl FoundationTransaction {
    pub(super) fn new(client: Arc<ClusterClient>) -> Result<Self, StoreError> {
        let reads = client.database.create_trx().map_err(error::of_read)?;
        Ok(Self { client, reads, overlay: Overlay::default(), begun_at: Instant::now() })
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
        self.check_age()?;
        let base = self.base(key, is_checked).await?;
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
        self.check_age()?;
        let (first, second) =
            try_join(self.base(keys[0], is_checked), self.base(keys[1], is_checked)).await?;
        Ok([self.overlay.resolve(keys[0], first)?, self.overlay.resolve(keys[1], second)?])
    }

    async fn read_range(&mut self, read: RangeRead, is_checked: bool) -> Result<Page, StoreError> {
        let mut reader = RangeReader::new(read);
        loop {
            let next = reader.next();
            let base =
                if next.range.is_empty() { Page::default() } else { self.base_page(&next).await? };
            if reader.add_page(&self.overlay, base)? {
                break;
            }
        }
        let (page, covered) = reader.finish();
        if is_checked {
            self.check_range(&covered)?;
        }
        Ok(page)
    }

    async fn read_conflict(&mut self, range: KeyRange) -> Result<(), StoreError> {
        self.check_age()?;
        // Otherwise a transaction without reads would begin at its commit.
        self.reads.get_read_version().await.map_err(error::of_read)?;
        self.check_range(&range)
    }

    async fn base(&self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        let found = self
            .reads
            .get(&self.client.keys.pair(key), !is_checked)
            .await
            .map_err(error::of_read)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Reads one page of the base in one request; it may be short without being the last.
    async fn base_page(&self, read: &RangeRead) -> Result<Page, StoreError> {
        self.check_age()?;
        let options = RangeOption {
            limit: Some(read.limit),
            target_bytes: PAGE_BYTES_MAX,
            mode: StreamingMode::Exact,
            reverse: read.is_reverse,
            ..RangeOption::from(self.client.keys.range(&read.range))
        };
        let found = self.reads.get_range(&options, 1, true).await.map_err(error::of_read)?;
        if found.is_empty() && found.more() {
            return Err(StoreError::Retryable(
                "the cluster returned an empty page that is not the last".into(),
            ));
        }
        let pairs = found
            .iter()
            .map(|pair| (self.client.keys.strip(pair.key()), Bytes::copy_from_slice(pair.value())));
        Ok(Page { pairs: pairs.collect(), has_more: found.more() })
    }

    /// Fails if the transaction is too old (`FOUNDATION-TX-3`).
    fn check_age(&self) -> Result<(), StoreError> {
        if self.begun_at.elapsed() > Duration::from_millis(self.client.options.read_ms_max) {
            return Err(StoreError::Retryable("the transaction is too old".into()));
        }
        Ok(())
    }

    /// Adds a read conflict range (`FOUNDATION-TX-2`).
    fn check_range(&self, range: &KeyRange) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let (begin, end) = self.client.keys.range(range);
        self.reads.add_conflict_range(&begin, &end, ConflictRangeType::Read).map_err(error::of_read)
    }

    /// Checks the targets of additions (`FOUNDATION-TX-4`).
    async fn check_counters(&self, writes: &BTreeMap<Bytes, Write>) -> Result<(), StoreError> {
        let added = writes.iter().filter(|(_, write)| matches!(write, Write::Add(_)));
        let values = try_join_all(added.map(|(key, _)| self.base(key, false))).await?;
        values.iter().try_for_each(|value| decode_counter(value.as_deref()).map(drop))
    }
}

impl Transaction for FoundationTransaction {
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
        Box::pin(self.read_conflict(range))
    }

    fn commit(mut self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            if self.overlay.is_empty() {
                return Ok(());
            }
            self.check_age()?;
            let (cleared, writes) = std::mem::take(&mut self.overlay).finish()?;
            self.check_counters(&writes).await?;
            let Self { client, reads, .. } = *self;
            let runtime = client.runtime.clone();
            // A task of its own, so that the commit goes on if the caller stops waiting.
            let outcome = runtime
                .spawn(NativeCommit { client, transaction: reads, cleared, writes }.run())
                .await;
            outcome.map_err(|_| StoreError::MaybeCommitted("the commit task panicked".into()))?
        })
    }
}
