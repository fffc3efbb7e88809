//! A transaction on the simulated engine: a version, an overlay of writes, and the ranges read.
//!
//! Invariants:
//! - `SIMULATED-TX-1`: all reads are at the version of the begin.
//! - `SIMULATED-TX-2`: the commit checks all plain reads of the base, but not of own writes.
//! - `SIMULATED-TX-3`: a commit that is abandoned while it waits may or may not take effect.

use super::SimulatedHandle;
use super::store::OpenTransaction;
use super::versions::Proposal;
use crate::kv::overlay::Overlay;
use crate::kv::prefetch::{Fetched, Prefetch};
use crate::kv::transaction::EngineReads;
use crate::kv::{KeyRange, Ordered, Page, RangeRead, StoreError};
use bytes::Bytes;
use std::sync::Arc;

pub(super) struct SimulatedTransaction {
    snapshot: Snapshot,
    reads: Vec<KeyRange>,
}

/// The version that a transaction reads at; dropping it lets the store forget the version.
struct Snapshot {
    handle: Arc<SimulatedHandle>,
    opened: OpenTransaction,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.handle.peek().close(&self.opened);
    }
}

impl SimulatedTransaction {
    pub(super) fn new(handle: Arc<SimulatedHandle>, opened: OpenTransaction) -> Self {
        Self { snapshot: Snapshot { handle, opened }, reads: Vec::new() }
    }
}

impl EngineReads for SimulatedTransaction {
    const IS_REMOTE: bool = true;

    async fn get(&mut self, key: &[u8], is_checked: bool) -> Result<Option<Bytes>, StoreError> {
        let Snapshot { handle, opened } = &self.snapshot;
        handle.travel().await;
        let value = handle.now().read(opened)?.value_at(opened.version, key);
        if is_checked {
            self.reads.push(KeyRange::key(key));
        }
        Ok(value)
    }

    async fn page(&mut self, read: RangeRead) -> Result<Page, StoreError> {
        let Snapshot { handle, opened } = &self.snapshot;
        handle.travel().await;
        handle.now().read(opened)?.page_at(opened.version, &read)
    }

    async fn fetch(&mut self, reads: Prefetch) -> Result<Fetched, StoreError> {
        let Snapshot { handle, opened } = &self.snapshot;
        handle.travel().await;
        let (mut store, mut fetched) = (handle.now(), Fetched::default());
        let versions = store.read(opened)?;
        for key in reads.keys {
            let value = versions.value_at(opened.version, &key);
            fetched.values.insert(key.into(), value);
        }
        for read in reads.pages {
            let page = versions.page_at(opened.version, &read)?;
            fetched.add_page(read, page);
        }
        Ok(fetched)
    }

    async fn check_range(&mut self, range: KeyRange) -> Result<(), StoreError> {
        self.reads.push(range);
        Ok(())
    }

    async fn commit(self, writes: Overlay, ordered: Option<Ordered>) -> Result<(), StoreError> {
        let Self { snapshot, reads } = self;
        if writes.is_empty() {
            return Ok(());
        }
        let (cleared, writes) = writes.finish()?;
        let OpenTransaction { version, begun, .. } = snapshot.opened;
        let writer = snapshot.handle.name.clone();
        let proposal = Proposal { writer, version, begun, reads, cleared, writes };
        snapshot.handle.travel().await;
        let outcome = snapshot.handle.now().commit(proposal, ordered);
        snapshot.handle.travel().await;
        outcome
    }
}
