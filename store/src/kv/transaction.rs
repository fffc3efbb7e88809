//! The transaction of every engine: reads of the engine through the overlay of own writes.
//!
//! Invariants:
//! - `KV-TX-1`: a read whose value the own writes determine does not reach the engine, so it cannot
//!   conflict.
//! - `KV-TX-2`: a plain read of a fetched key or page is checked like one that reaches the engine.

use super::limits::check_key;
use super::overlay::{Overlay, OverlayRead, RangeReader};
use super::prefetch::{Fetched, Prefetch};
use super::{BoxFuture, KeyRange, Ordered, Page, RangeRead, StoreError, Transaction};
use bytes::Bytes;

/// The engine's part of a transaction. The commit checks reads that are made with `is_checked`.
pub(super) trait EngineReads: Sized + Send + 'static {
    /// The value of [`Transaction::is_remote`].
    const IS_REMOTE: bool = false;

    fn get(
        &mut self,
        key: &[u8],
        is_checked: bool,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// Reads keys and pages without a check, all in one round trip. Called if `IS_REMOTE`.
    fn fetch(
        &mut self,
        reads: Prefetch,
    ) -> impl Future<Output = Result<Fetched, StoreError>> + Send {
        drop(reads);
        std::future::ready(Ok(Fetched::default()))
    }

    /// Checks a fetched key at commit, as if it were read now.
    fn check_fetched(
        &mut self,
        key: &[u8],
        _value: &Option<Bytes>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.check_range(KeyRange::key(key))
    }

    /// Reads a page without a check. It may be short without being the last.
    fn page(&mut self, read: RangeRead) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Makes the commit fail if another commit changes the range.
    fn check_range(
        &mut self,
        range: KeyRange,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Commits the writes; see [`Transaction::commit_pipelined`].
    fn commit(
        self,
        writes: Overlay,
        ordered: Option<Ordered>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static;
}

pub(super) struct OverlayTransaction<R> {
    reads: R,
    overlay: Overlay,
    fetched: Fetched,
}

impl<R: EngineReads> OverlayTransaction<R> {
    pub(super) fn boxed(reads: R) -> Box<dyn Transaction> {
        Box::new(Self { reads, overlay: Overlay::default(), fetched: Fetched::default() })
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
        let stored = match self.fetched.value(key) {
            Some(value) if is_checked => {
                self.reads.check_fetched(key, &value).await?;
                value
            }
            Some(value) => value,
            None => self.reads.get(key, is_checked).await?,
        };
        self.overlay.resolve(key, stored)
    }

    async fn read_pair(
        &mut self,
        [first, second]: [&[u8]; 2],
        is_checked: bool,
    ) -> Result<[Option<Bytes>; 2], StoreError> {
        if R::IS_REMOTE {
            let mut reads = Prefetch::default();
            reads.key(first.to_vec());
            reads.key(second.to_vec());
            self.fetch(reads).await?;
        }
        Ok([self.read_key(first, is_checked).await?, self.read_key(second, is_checked).await?])
    }

    async fn fetch(&mut self, mut reads: Prefetch) -> Result<(), StoreError> {
        if !R::IS_REMOTE {
            return Ok(());
        }
        let is_known = |key: &Vec<u8>| {
            self.fetched.value(key).is_some()
                || matches!(self.overlay.read(key), OverlayRead::Known(_))
        };
        reads.keys.retain(|key| check_key(key).is_ok() && !is_known(key));
        reads.pages.retain(|read| !read.range.is_empty() && self.fetched.page(read).is_none());
        if !reads.is_empty() {
            let fetched = self.reads.fetch(reads).await?;
            self.fetched.add(fetched);
        }
        Ok(())
    }

    async fn read_range(&mut self, read: RangeRead, is_checked: bool) -> Result<Page, StoreError> {
        let mut reader = RangeReader::new(read);
        loop {
            let next = reader.next(&self.overlay);
            let page = match self.fetched.page(&next) {
                Some(page) => page,
                None => self.reads.page(next).await?,
            };
            if reader.add_page(&self.overlay, page)? {
                break;
            }
        }
        let (page, covered) = reader.finish();
        if is_checked {
            self.reads.check_range(covered).await?;
        }
        Ok(page)
    }
}

impl<R: EngineReads> Transaction for OverlayTransaction<R> {
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

    fn is_remote(&self) -> bool {
        R::IS_REMOTE
    }

    fn prefetch(&mut self, reads: Prefetch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.fetch(reads))
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read_range(read, true))
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read_range(read, false))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.overlay.set(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    fn set_owned(&mut self, key: Vec<u8>, value: Vec<u8>) {
        // Some engines keep the buffers for long, so drop their spare capacity.
        self.overlay.set(key.into_boxed_slice().into(), value.into_boxed_slice().into());
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
        Box::pin(self.reads.check_range(range))
    }

    fn approximate_size(&self) -> usize {
        self.overlay.approximate_size()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(self.reads.commit(self.overlay, None))
    }

    fn commit_pipelined(
        self: Box<Self>,
        ordered: Ordered,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(self.reads.commit(self.overlay, Some(ordered)))
    }
}
