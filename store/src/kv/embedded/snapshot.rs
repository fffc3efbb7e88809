//! Reading: one state of tables and base together.
//!
//! Invariants: `READER-1` a snapshot sees every commit up to its sequence and none after it. The view is taken first, the base
//! second: what was flushed in between is in both. If by then something newer may be in the base, both are taken anew;
//! `READER-2` values that a snapshot can see stay in the tables as long as it is there.

use super::base_store::Base;
use super::disk::Disk;
use super::engine_core::Shared;
use super::memtable::{TableRange, View};
use super::merge::Merge;
use crate::kv::limits::PAGE_BYTES_MAX;
use crate::kv::{Page, RangeRead, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// Which commits a snapshot sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Those that are durable.
    Durable,
    /// Also the group that is being made durable.
    Ordered,
}

/// A state to read from.
pub(super) struct Snapshot<D: Disk, B: Base> {
    /// Declared before what it is of, so that it is closed first.
    base: B::Snapshot,
    view: Arc<View>,
    sequence: u64,
    shared: Arc<Shared<D, B>>,
}

impl<D: Disk, B: Base> Snapshot<D, B> {
    /// Of the newest durable state.
    pub(super) fn open(shared: &Arc<Shared<D, B>>) -> Result<Self, StoreError> {
        Self::open_state(shared, State::Durable)
    }

    /// Of the newest state of a kind.
    pub(super) fn open_state(shared: &Arc<Shared<D, B>>, of: State) -> Result<Self, StoreError> {
        loop {
            let (view, sequence) = shared.enter(of);
            let opened = shared.base.snapshot();
            let base = opened.inspect_err(|_| shared.leave(sequence))?;
            let snapshot = Self { base, view, sequence, shared: shared.clone() };
            if shared.is_base_at_most(sequence) {
                return Ok(snapshot);
            }
        }
    }

    /// The sequence of the last commit that it sees.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The tables that it reads before the base.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.view.get(key, self.sequence) {
            Some(value) => Ok(value),
            None => self.shared.base.get(&self.base, key),
        }
    }

    /// One page of a range, cut at the limit or at the page's size.
    pub(super) fn page(&self, read: &RangeRead) -> Result<Page, StoreError> {
        let mut page = Page::default();
        if read.range.is_empty() {
            return Ok(page);
        }
        let mut merge = Merge::new(read.reverse);
        for table in &self.view.tables {
            merge.table(TableRange::new(table, &read.range, self.sequence, read.reverse))?;
        }
        merge.base(self.shared.base.range(&self.base, &read.range, read.reverse)?)?;
        let mut bytes = 0;
        while let Some(found) = merge.next()? {
            let Some((key, value)) = found.pair() else { continue };
            if page.pairs.len() == read.limit || bytes >= PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += key.len() + value.len();
            page.pairs.push((key, value));
        }
        Ok(page)
    }
}

impl<D: Disk, B: Base> Drop for Snapshot<D, B> {
    fn drop(&mut self) {
        self.shared.leave(self.sequence);
    }
}
