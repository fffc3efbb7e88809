//! The flusher thread: writes the newest values of sealed memtables to the base store.
//!
//! Invariants:
//! - `FLUSHER-1`: memtables are flushed oldest first, and the last transaction of a flush stores
//!   its progress. After a crash the rest is flushed again, which changes nothing.
//! - `FLUSHER-2`: only pairs that are durable in the log are flushed.
//! - `FLUSHER-3`: pairs without room in the base store stay in the log; a full log rejects commits.
//!
//! Transactions are small, because a large one delays the log's syncs by tens of milliseconds.

use super::base_store::{BaseStore, Change, FlushMark};
use super::committer::CommitterMessage;
use super::disk::Disk;
use super::engine_core::EngineCore;
use super::memtable::{LockedMemtables, Memtable};
use crate::kv::{Fault, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use triggers_protocol::lock::lock;

const TRANSACTION_KEYS_MAX: usize = 4_000;
const TRANSACTION_BYTES_TARGET: usize = 4 << 20;
/// Interval at which the thread checks for work.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Timer intervals to wait after a segment could not be created.
const SPARE_RETRY_INTERVALS: u32 = 60;
/// Pause between attempts to flush into a full base store.
const FULL_PAUSE: Duration = Duration::from_secs(1);

impl<D: Disk, B: BaseStore> EngineCore<D, B> {
    /// Flushes the oldest sealed memtables; returns false if there are none.
    pub(super) fn flush_oldest(&self) -> Result<bool, StoreError> {
        let _one_at_a_time = lock(&self.flush);
        self.flush_next()
    }

    /// Flushes until a segment is free; returns whether one is.
    pub(super) fn flush_to_free_segment(&self) -> Result<bool, StoreError> {
        let _one_at_a_time = lock(&self.flush);
        // Another thread may have flushed while this one waited for the lock.
        if self.segments().free > 0 { Ok(true) } else { self.flush_next() }
    }

    fn flush_next(&self) -> Result<bool, StoreError> {
        let memtables = self.next_sealed();
        // After the choice of memtables: if the engine has stopped, the last may not be durable.
        self.check_writable()?;
        let Some(last) = memtables.last().map(|memtable| memtable.last()) else { return Ok(false) };
        let begun = Instant::now();
        self.begin_flush(last);
        let keys = self.flush_memtables(&memtables, last).map_err(|error| match error.fault() {
            Some(Fault::Full) => error,
            _ => self.stop(format!("cannot flush the log: {error}")),
        })?;
        self.end_flush(&memtables, last, begun.elapsed());
        metrics::counter!("triggers_store_flushed_keys_total").increment(keys as u64);
        metrics::histogram!("triggers_store_flush_seconds").record(begun.elapsed().as_secs_f64());
        Ok(true)
    }

    fn flush_memtables(&self, memtables: &[Arc<Memtable>], last: u64) -> Result<usize, StoreError> {
        let held = LockedMemtables::lock(memtables.iter().rev());
        let (mut pairs, mut bytes, mut keys) = (Vec::with_capacity(TRANSACTION_KEYS_MAX), 0, 0);
        for (key, value) in held.newest() {
            if pairs.len() == TRANSACTION_KEYS_MAX || bytes >= TRANSACTION_BYTES_TARGET {
                self.apply(&pairs, FlushMark::Begun(last))?;
                pairs.clear();
                bytes = 0;
            }
            keys += 1;
            bytes += key.len() + value.map_or(0, <[u8]>::len);
            pairs.push((key, value));
        }
        self.apply(&pairs, FlushMark::Done(last))?;
        Ok(keys)
    }

    /// Applies pairs in one transaction, or in smaller ones, each of which frees pages.
    fn apply(&self, pairs: &[Change<'_>], mark: FlushMark) -> Result<(), StoreError> {
        match self.base.apply(pairs, mark) {
            Err(error) if error.fault() == Some(Fault::Full) && pairs.len() > 1 => {
                let (first, second) = pairs.split_at(pairs.len() / 2);
                self.apply(first, FlushMark::Begun(mark.sequence()))?;
                self.apply(second, mark)
            }
            other => other,
        }
    }
}

/// Body of the thread: runs until the engine closes and everything is flushed.
pub(super) fn run<D: Disk, B: BaseStore>(
    core: &EngineCore<D, B>,
    commits: &mpsc::WeakSender<CommitterMessage>,
) {
    let (mut visible, mut intervals_until_spare) = (0, 0u32);
    loop {
        core.wait_for_sealed(core.options.flush_segments, CHECK_INTERVAL);
        let (is_closing, before) = (core.is_closing(), visible);
        visible = core.visible();
        let sealed = core.segments().sealed;
        let is_quiet = before == visible;
        if sealed >= core.options.flush_segments || (sealed > 0 && (is_closing || is_quiet)) {
            match core.flush_oldest() {
                Ok(_) => {}
                Err(error) if error.fault() == Some(Fault::Full) && !is_closing => {
                    tracing::error!(%error, "no room to flush the log; records stay in it");
                    std::thread::sleep(FULL_PAUSE);
                }
                Err(error) => {
                    tracing::error!(%error, "cannot flush the log; the next start reads it back");
                    return;
                }
            }
        } else if is_closing {
            return;
        } else if is_quiet
            && !core.active().0.is_empty()
            && let Some(commits) = commits.upgrade()
        {
            // If the queue is full, the engine is not quiet.
            let _ = commits.try_send(CommitterMessage::Seal);
        }
        if intervals_until_spare > 0 {
            intervals_until_spare -= 1;
        } else if !is_closing && let Err(error) = core.make_spare() {
            tracing::warn!(%error, "cannot create a log segment");
            // On a full disk, each attempt takes space from others.
            intervals_until_spare = SPARE_RETRY_INTERVALS;
        }
        let segments = core.segments();
        metrics::gauge!("triggers_store_log_segments_sealed").set(segments.sealed as f64);
        metrics::gauge!("triggers_store_log_segments").set(segments.total as f64);
    }
}
