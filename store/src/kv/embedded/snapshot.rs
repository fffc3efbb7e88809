//! A consistent view of memtables and base store together.
//!
//! Invariants:
//! - `READER-1`: a snapshot sees every commit up to its sequence and none after it. It opens the
//!   memtables first and the base store second, so that pairs flushed in between are in both. If
//!   the base store may then hold something newer, it opens both again.
//! - `READER-2`: values that a snapshot can see stay in the memtables as long as it exists.

use super::base_store::BaseStore;
use super::disk::Disk;
use super::engine_core::EngineCore;
use super::memtable::{MemtableRange, MemtableView};
use super::merge::{BaseSource, Merge, Source};
use super::present_pairs::PresentPairs;
use crate::kv::{KeyRange, Page, RangeRead, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// Which commits a snapshot sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Only durable commits.
    Durable,
    /// Also the group that is becoming durable.
    Ordered,
}

/// A consistent view of the store.
pub(super) struct EmbeddedSnapshot<D: Disk, B: BaseStore> {
    /// Declared before `core`, so that it is dropped first.
    base: B::Snapshot,
    view: Arc<MemtableView>,
    sequence: u64,
    core: Arc<EngineCore<D, B>>,
}

impl<D: Disk, B: BaseStore> EmbeddedSnapshot<D, B> {
    /// Opens a snapshot of the newest durable state.
    pub(super) fn open(core: &Arc<EngineCore<D, B>>) -> Result<Self, StoreError> {
        Self::open_with(core, Visibility::Durable)
    }

    /// Opens a snapshot of the newest state with this visibility.
    pub(super) fn open_with(
        core: &Arc<EngineCore<D, B>>,
        visibility: Visibility,
    ) -> Result<Self, StoreError> {
        loop {
            let (view, sequence) = core.enter(visibility);
            let opened = core.base.snapshot();
            let base = opened.inspect_err(|_| core.leave(sequence))?;
            let snapshot = Self { base, view, sequence, core: core.clone() };
            if core.is_base_at_most(sequence) {
                return Ok(snapshot);
            }
        }
    }

    /// Sequence of the last visible commit.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The memtables, which are read before the base store.
    pub(super) fn view(&self) -> &MemtableView {
        &self.view
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.view.get(key, self.sequence) {
            Some(value) => Ok(value),
            None => self.core.base.get(&self.base, key),
        }
    }

    /// Reads one page of a range, bounded by its limit and by its bytes.
    pub(super) fn page(&self, read: &RangeRead) -> Result<Page, StoreError> {
        if read.range.is_empty() {
            return Ok(Page::default());
        }
        let mut merge = Merge::new(read.is_reverse);
        for memtable in &self.view.memtables {
            let range = MemtableRange::new(memtable, &read.range, self.sequence, read.is_reverse);
            merge.add(Source::Memtable(range))?;
        }
        let range = |range: &KeyRange| self.core.base.range(&self.base, range, read.is_reverse);
        let seek =
            Box::new(move |key: &Bytes| range(&KeyRange::new(key.clone(), read.range.end.clone())));
        merge.add(Source::Base(BaseSource { pairs: range(&read.range)?, seek }))?;
        let (view, sequence, range) = (&*self.view, self.sequence, read.range.clone());
        let mut present = PresentPairs::new(merge, view, sequence, range, read.is_reverse);
        Page::collect(std::iter::from_fn(|| present.next().transpose()), read.limit)
    }
}

impl<D: Disk, B: BaseStore> Drop for EmbeddedSnapshot<D, B> {
    fn drop(&mut self) {
        self.core.leave(self.sequence);
    }
}
