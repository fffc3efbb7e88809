//! A transaction on FoundationDB: a native transaction for reads, and an overlay of writes.
//!
//! Invariants:
//! - `FOUNDATION-TX-1`: all reads are at the read version that the first of them gets.
//! - `FOUNDATION-TX-2`: every plain read of the base adds a read conflict range; that of a page
//!   ends with its last pair. Reads of own writes add none.
//! - `FOUNDATION-TX-3`: a transaction older than five seconds, or than the options allow, fails.
//! - `FOUNDATION-TX-4`: the target of an `add` is a counter, or absent, at the read version,
//!   because FoundationDB's addition does not check it. The check adds no conflict range.

use super::commit::NativeCommit;
use super::{ClusterClient, error};
use crate::kv::limits::{PAGE_BYTES_MAX, check_age};
use crate::kv::overlay::{Overlay, Write};
use crate::kv::prefetch::{Fetched, Prefetch};
use crate::kv::range::after;
use crate::kv::transaction::EngineReads;
use crate::kv::{KeyRange, Ordered, Page, RangeRead, StoreError, decode_counter};
use bytes::Bytes;
use foundationdb::RangeOption;
use foundationdb::options::{ConflictRangeType, StreamingMode};
use futures_util::future::{try_join, try_join_all};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::time::Instant;

pub(super) struct FoundationTransaction {
    client: Arc<ClusterClient>,
    reads: foundationdb::Transaction,
    /// Fetched keys that an `add` may change (`FOUNDATION-TX-4`).
    counters: HashSet<Bytes>,
    begun_at: Instant,
}

impl FoundationTransaction {
    pub(super) fn new(client: Arc<ClusterClient>) -> Result<Self, StoreError> {
        let reads = client.database.create_trx().map_err(error::of_read)?;
        Ok(Self { client, reads, counters: HashSet::new(), begun_at: Instant::now() })
    }

    async fn base(&self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        let found = self
            .reads
            .get(&self.client.keys.pair(key), !is_checked)
            .await
            .map_err(error::of_read)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn base_page(&self, read: &RangeRead) -> Result<Page, StoreError> {
        if read.range.is_empty() {
            return Ok(Page::default());
        }
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
        check_age(self.begun_at.elapsed(), self.client.options.read_ms_max)
    }

    /// Checks the targets of additions (`FOUNDATION-TX-4`).
    async fn check_counters(&self, writes: &BTreeMap<Bytes, Write>) -> Result<(), StoreError> {
        let added = writes
            .iter()
            .filter(|(key, write)| matches!(write, Write::Add(_)) && !self.counters.contains(*key));
        let values = try_join_all(added.map(|(key, _)| self.base(key, false))).await?;
        values.iter().try_for_each(|value| decode_counter(value.as_deref()).map(drop))
    }
}

impl EngineReads for FoundationTransaction {
    const IS_REMOTE: bool = true;

    async fn get(&mut self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        self.check_age()?;
        self.base(key, is_checked).await
    }

    async fn page(&mut self, read: RangeRead) -> Result<Page, StoreError> {
        self.check_age()?;
        self.base_page(&read).await
    }

    /// All requests are in flight together, and wait for one read version (`FOUNDATION-TX-1`).
    async fn fetch(&mut self, reads: Prefetch) -> Result<Fetched, StoreError> {
        self.check_age()?;
        let values = try_join_all(reads.keys.iter().map(|key| self.base(key, false)));
        let pages = try_join_all(reads.pages.iter().map(|read| self.base_page(read)));
        let (values, pages) = try_join(values, pages).await?;
        let mut fetched = Fetched::default();
        for (key, value) in reads.keys.into_iter().zip(values) {
            let key = Bytes::from(key);
            if decode_counter(value.as_deref()).is_ok() {
                self.counters.insert(key.clone());
            }
            fetched.values.insert(key, value);
        }
        for (read, page) in reads.pages.into_iter().zip(pages) {
            fetched.add_page(read, page);
        }
        Ok(fetched)
    }

    /// The fetch has got the read version, so this needs no call to the cluster.
    async fn check_fetched(&mut self, key: &[u8], _: &Option<Bytes>) -> Result<(), StoreError> {
        let key = self.client.keys.pair(key);
        let checked = ConflictRangeType::Read;
        self.reads.add_conflict_range(&key, &after(&key), checked).map_err(error::of_read)
    }

    /// Adds a read conflict range (`FOUNDATION-TX-2`).
    async fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        self.check_age()?;
        // Otherwise a transaction without reads would begin at its commit.
        self.reads.get_read_version().await.map_err(error::of_read)?;
        let (begin, end) = self.client.keys.range(&range);
        self.reads.add_conflict_range(&begin, &end, ConflictRangeType::Read).map_err(error::of_read)
    }

    async fn commit(self, writes: Overlay, _: Option<Ordered>) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        self.check_age()?;
        let (cleared, writes) = writes.finish()?;
        self.check_counters(&writes).await?;
        let Self { client, reads, .. } = self;
        let runtime = client.runtime.clone();
        // A task of its own, so that the commit goes on if the caller stops waiting.
        let outcome =
            runtime.spawn(NativeCommit { client, transaction: reads, cleared, writes }.run()).await;
        outcome.map_err(|_| StoreError::MaybeCommitted("the commit task panicked".into()))?
    }
}
