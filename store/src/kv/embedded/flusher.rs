//! Flushing: what sealed tables have left of each key goes into the base, in order, a few thousand keys at a time.
//!
//! Invariants: `FLUSHER-1` tables are flushed the oldest first, and the last transaction of a flush says how far it went: after a
//! crash everything behind that is flushed again, which changes nothing; `FLUSHER-2` only what is durable in the log is flushed;
//! `FLUSHER-3` what a full base cannot take stays in the log; when that is full too, commits are refused.
//! Small transactions, because one large one would keep the log's own syncs waiting for tens of milliseconds.

use super::base_store::{BaseStore, Change, FlushMark};
use super::committer::CommitterMessage;
use super::disk::Disk;
use super::engine_core::EngineCore;
use super::memtable::{LockedMemtables, Memtable};
use crate::kv::{Fault, StoreError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const TRANSACTION_KEYS: usize = 4_000;
const TRANSACTION_BYTES: usize = 4 << 20;
/// The thread looks whether something is to be done at least so often.
const TICK: Duration = Duration::from_millis(500);
/// After a segment could not be made.
const TICKS_WITHOUT_SPARE: u32 = 60;
/// Between two attempts at a base that is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

impl<D: Disk, B: BaseStore> EngineCore<D, B> {
    /// Flushes the oldest sealed tables; whether there were any.
    pub(super) fn flush_some(&self) -> Result<bool, StoreError> {
        let _one_at_a_time = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_next()
    }

    /// Makes sure that a segment is free; whether there is one then.
    pub(super) fn flush_for_a_segment(&self) -> Result<bool, StoreError> {
        let _one_at_a_time = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have flushed while this waited.
        if self.segments().1 > 0 { Ok(true) } else { self.flush_next() }
    }

    fn flush_next(&self) -> Result<bool, StoreError> {
        let memtables = self.next_sealed();
        // Behind that: if the store has stopped, the last table has something that is not durable.
        self.check_writable()?;
        let Some(last) = memtables.last().map(|memtable| memtable.last()) else { return Ok(false) };
        let begun = Instant::now();
        self.begin_flush(last);
        let keys = self.flush_memtables(&memtables, last).map_err(|error| match error.fault() {
            Some(Fault::Full) => error,
            _ => self.stop(format!("the log could not be flushed: {error}")),
        })?;
        self.end_flush(&memtables, last, begun.elapsed());
        metrics::counter!("triggers_store_flushed_keys_total").increment(keys as u64);
        metrics::histogram!("triggers_store_flush_seconds").record(begun.elapsed().as_secs_f64());
        Ok(true)
    }

    fn flush_memtables(&self, memtables: &[Arc<Memtable>], last: u64) -> Result<usize, StoreError> {
        let held = LockedMemtables::of(memtables.iter().rev());
        let (mut pairs, mut bytes, mut keys) = (Vec::with_capacity(TRANSACTION_KEYS), 0, 0);
        for (key, value) in held.newest() {
            if pairs.len() == TRANSACTION_KEYS || bytes >= TRANSACTION_BYTES {
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

    /// One transaction, or smaller ones if there is no room for it: each gives back the pages that it has replaced.
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

/// The flusher's thread: until the store is closed, and then until everything is flushed.
pub(super) fn run<D: Disk, B: BaseStore>(
    core: &EngineCore<D, B>,
    commits: &mpsc::WeakSender<CommitterMessage>,
) {
    let (mut visible, mut ticks_without_spare) = (0, 0u32);
    loop {
        core.wait_for_sealed(core.options.flush_segments, TICK);
        let (is_closing, before) = (core.is_closing(), visible);
        visible = core.visible();
        let (sealed, ..) = core.segments();
        let is_quiet = before == visible;
        if sealed >= core.options.flush_segments || (sealed > 0 && (is_closing || is_quiet)) {
            match core.flush_some() {
                Ok(_) => {}
                Err(error) if error.fault() == Some(Fault::Full) && !is_closing => {
                    tracing::error!(%error, "what is in the log has no room in the data file");
                    std::thread::sleep(FULL_PAUSE);
                }
                Err(error) => {
                    tracing::error!(%error, "the log is kept, and read again at the next start");
                    return;
                }
            }
        } else if is_closing {
            return;
        } else if is_quiet
            && !core.active().0.is_empty()
            && let Some(commits) = commits.upgrade()
        {
            // If the queue is full then it is not quiet.
            let _ = commits.try_send(CommitterMessage::Seal);
        }
        if ticks_without_spare > 0 {
            ticks_without_spare -= 1;
        } else if !is_closing && let Err(error) = core.make_spare() {
            tracing::warn!(%error, "no further segment could be made");
            // On a full disk, trying takes space from others.
            ticks_without_spare = TICKS_WITHOUT_SPARE;
        }
        report(core);
    }
}

fn report<D: Disk, B: BaseStore>(core: &EngineCore<D, B>) {
    let (sealed, _, segments) = core.segments();
    metrics::gauge!("triggers_store_log_segments_sealed").set(sealed as f64);
    metrics::gauge!("triggers_store_log_segments").set(segments as f64);
}
