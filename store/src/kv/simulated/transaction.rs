//! A transaction on the simulated engine: a version, an overlay of writes, and the ranges read.
//!
//! Invariants:
//! - `SIMULATED-TX-1`: all reads are at the version of the begin.
//! - `SIMULATED-TX-2`: the commit checks all plain reads of the base, but not of own writes.
//! - `SIMULATED-TX-3`: a commit that is abandoned while it waits may or may not take effect.

use super::SimulatedHandle;
use super::store::OpenTransaction;
use super::versions::Proposal;
use crate::kv::limits::check_key;
use crate::kv::overlay::{Overlay, OverlayRead, write_to_overlay};
use crate::kv::{BoxFuture, KeyRange, Ordered, Page, RangeRead, StoreError, Transaction};
use bytes::Bytes;
use std::sync::Arc;

pub(super) struct SimulatedTransaction {
    snapshot: Snapshot,
    overlay: Overlay,
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
        Self {
            snapshot: Snapshot { handle, opened },
            overlay: Overlay::default(),
            reads: Vec::new(),
        }
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
        let Snapshot { handle, opened } = &self.snapshot;
        handle.travel().await;
        let base = handle.now().read(opened)?.value_at(opened.version, key);
        if is_checked {
            self.reads.push(KeyRange::key(key));
        }
        self.overlay.resolve(key, base)
    }

    async fn read_range(&mut self, read: RangeRead, is_checked: bool) -> Result<Page, StoreError> {
        let Snapshot { handle, opened } = &self.snapshot;
        handle.travel().await;
        let (page, covered) = {
            let mut state = handle.now();
            let versions = state.read(opened)?;
            let fetch = |read| Ok(versions.page_at(opened.version, &read));
            self.overlay.range(read, fetch)?
        };
        if is_checked {
            self.reads.push(covered);
        }
        Ok(page)
    }
}

impl Transaction for SimulatedTransaction {
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.read_key(key, true))
    }

    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.read_key(key, false))
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read_range(read, true))
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read_range(read, false))
    }

    write_to_overlay!();

    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>> {
        self.reads.push(range);
        Box::pin(std::future::ready(Ok(())))
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.commit_pipelined(Box::new(|| {}))
    }

    fn commit_pipelined(
        self: Box<Self>,
        ordered: Ordered,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let Self { snapshot, overlay, reads } = *self;
        Box::pin(async move {
            if overlay.is_empty() {
                return Ok(());
            }
            let (cleared, writes) = overlay.finish()?;
            let OpenTransaction { version, begun, .. } = snapshot.opened;
            let writer = snapshot.handle.name.clone();
            let proposal = Proposal { writer, version, begun, reads, cleared, writes };
            snapshot.handle.travel().await;
            let outcome = snapshot.handle.now().commit(proposal, ordered);
            snapshot.handle.travel().await;
            outcome
        })
    }
}
