//! State that transactions, the committer and the flusher share.
//!
//! ```text
//! active memtable, segment ─(full)─▶ sealed memtables, segments ─(flushed)─▶ base store
//! ```
//! Invariants:
//! - `SHARED-1`: a commit is visible once durable; only pipelined transactions see it earlier.
//! - `SHARED-2`: a sealed memtable leaves the view once the base store has all of it, oldest first.
//! - `SHARED-3`: after an error that leaves the disk unknown, nothing is written until a restart.
//! - `SHARED-4`: there are at most `segments_max` segments, except for those that a recovery finds.

use super::base_store::BaseStore;
use super::disk::Disk;
use super::memtable::{Memtable, MemtableView};
use super::segment::{Segment, name_of};
use super::snapshot::Visibility;
use crate::kv::{Fault, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use triggers_protocol::lock::lock;

/// Sizes and bounds of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogOptions {
    pub(super) segment_bytes: u64,
    pub(super) segments_max: usize,
    /// Number of sealed segments that are flushed together.
    pub(super) flush_segments: usize,
    /// Maximum number of transactions that read at once. The committer and backups are not counted.
    pub(super) readers_max: usize,
}

/// A memtable whose segment is full.
pub(super) struct Sealed<F> {
    pub(super) memtable: Arc<Memtable>,
    pub(super) segment: Segment<F>,
}

/// State behind one lock.
pub(super) struct LogState<F> {
    pub(super) active: Arc<Memtable>,
    pub(super) view: Arc<MemtableView>,
    /// Sequence of the last durable group.
    pub(super) visible: u64,
    /// Sequence of the last group in the memtables: `visible`, or the next.
    pub(super) ordered: u64,
    /// Number of readers at each sequence.
    pub(super) readers: BTreeMap<u64, usize>,
    /// Sealed memtables, oldest first.
    pub(super) sealed: VecDeque<Sealed<F>>,
    pub(super) free: Vec<Segment<F>>,
    /// Number of segments; `number_max` is their highest number.
    pub(super) segments: usize,
    pub(super) number_max: usize,
    /// Memtables up to this sequence have left the view.
    pub(super) dropped: u64,
    pub(super) is_closing: bool,
}

pub(super) struct EngineCore<D: Disk, B: BaseStore> {
    pub(super) base: B,
    pub(super) disk: D,
    pub(super) options: LogOptions,
    state: Mutex<LogState<D::File>>,
    changed: Condvar,
    /// The base store may hold pairs of records up to this sequence.
    flushing: AtomicU64,
    /// Held during a flush.
    pub(super) flush: Mutex<()>,
    /// Approximate bytes of keys and values flushed per second.
    flush_rate: AtomicU64,
    stopped: OnceLock<String>,
}

/// Numbers of segments by their use.
pub(super) struct SegmentCounts {
    pub(super) sealed: usize,
    pub(super) free: usize,
    pub(super) total: usize,
}

/// Assumed bytes per second until a flush has been measured.
const FLUSH_RATE_INITIAL: u64 = 50 << 20;
/// Longest pause of the committer before a group.
const PAUSE_MAX_SECONDS: f64 = 0.05;
/// Smaller flushes are not used to estimate the rate.
const FLUSH_RATE_BYTES_MIN: u64 = 4 << 20;

impl<D: Disk, B: BaseStore> EngineCore<D, B> {
    pub(super) fn new(disk: D, base: B, options: LogOptions, mut state: LogState<D::File>) -> Self {
        state.renew_view();
        Self {
            base,
            disk,
            options,
            // The marks of flushes before the start are unknown. No snapshot is older than this.
            flushing: AtomicU64::new(state.visible),
            state: Mutex::new(state),
            changed: Condvar::new(),
            flush: Mutex::new(()),
            flush_rate: AtomicU64::new(FLUSH_RATE_INITIAL),
            stopped: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LogState<D::File>> {
        lock(&self.state)
    }

    /// Registers a reader; returns the memtables and the sequence to read at.
    pub(super) fn enter(&self, visibility: Visibility) -> (Arc<MemtableView>, u64) {
        let mut state = self.state();
        let sequence = match visibility {
            Visibility::Durable => state.visible,
            Visibility::Ordered => state.ordered,
        };
        *state.readers.entry(sequence).or_default() += 1;
        (state.view.clone(), sequence)
    }

    /// Whether the maximum number of transactions is reading.
    pub(super) fn has_readers_max(&self) -> bool {
        self.state().readers.values().sum::<usize>() >= self.options.readers_max
    }

    /// The memtables, newest first.
    pub(super) fn view(&self) -> Arc<MemtableView> {
        self.state().view.clone()
    }

    /// Unregisters a reader.
    pub(super) fn leave(&self, sequence: u64) {
        let mut state = self.state();
        if let Some(count) = state.readers.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&sequence);
            }
        }
    }

    /// Whether the base store held nothing newer than `sequence` a moment ago.
    pub(super) fn is_base_at_most(&self, sequence: u64) -> bool {
        self.flushing.load(Ordering::SeqCst) <= sequence
    }

    /// The active memtable, and the sequences at which transactions read or may begin to read.
    pub(super) fn active(&self) -> (Arc<Memtable>, Vec<u64>) {
        let state = self.state();
        let mut readers: Vec<u64> = state.readers.keys().copied().collect();
        if readers.last() != Some(&state.visible) {
            readers.push(state.visible);
        }
        (state.active.clone(), readers)
    }

    /// The sequence up to which conflicts can no longer be checked.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Makes a group in the memtables visible to pipelined transactions.
    pub(super) fn order(&self, sequence: u64) {
        self.state().ordered = sequence;
    }

    /// Makes all groups up to a sequence visible.
    pub(super) fn publish(&self, sequence: u64) {
        self.state().visible = sequence;
    }

    pub(super) fn visible(&self) -> u64 {
        self.state().visible
    }

    /// Seals the active memtable, which was logged in `segment`, and starts a new one.
    pub(super) fn seal(&self, segment: Segment<D::File>) {
        let mut state = self.state();
        let memtable = std::mem::take(&mut state.active);
        state.sealed.push_back(Sealed { memtable, segment });
        state.renew_view();
        drop(state);
        self.changed.notify_all();
    }

    /// Returns an unused segment.
    pub(super) fn release_segment(&self, segment: Segment<D::File>) {
        self.state().free.push(segment);
    }

    /// A free segment, or a new one. `None` if the maximum is reached.
    pub(super) fn acquire_segment(&self) -> std::io::Result<Option<Segment<D::File>>> {
        if let Some(segment) = self.state().free.pop() {
            return Ok(Some(segment));
        }
        self.make_segment()
    }

    /// Creates a segment if none is free, so that the committer need not.
    pub(super) fn make_spare(&self) -> std::io::Result<()> {
        if self.state().free.is_empty()
            && let Some(segment) = self.make_segment()?
        {
            self.state().free.push(segment);
        }
        Ok(())
    }

    fn make_segment(&self) -> std::io::Result<Option<Segment<D::File>>> {
        let number = {
            let mut state = self.state();
            if state.segments >= self.options.segments_max {
                return Ok(None);
            }
            state.segments += 1;
            state.number_max += 1;
            state.number_max
        };
        let name = name_of(number);
        let made = self.disk.create(&name, self.options.segment_bytes);
        let file = made.inspect_err(|_| self.state().segments -= 1)?;
        Ok(Some(Segment { name, file, bytes: self.options.segment_bytes }))
    }

    /// The oldest sealed memtables, as many as are flushed together.
    pub(super) fn next_sealed(&self) -> Vec<Arc<Memtable>> {
        let state = self.state();
        state
            .sealed
            .iter()
            .take(self.options.flush_segments)
            .map(|sealed| sealed.memtable.clone())
            .collect()
    }

    /// Announces that the base store may hold records up to `last`.
    pub(super) fn begin_flush(&self, last: u64) {
        self.flushing.fetch_max(last, Ordering::SeqCst);
    }

    /// Removes flushed memtables, which are the oldest (`SHARED-2`), and frees their segments.
    pub(super) fn end_flush(&self, memtables: &[Arc<Memtable>], last: u64, took: Duration) {
        let mut state = self.state();
        for _ in memtables {
            let flushed = state.sealed.pop_front();
            state.free.extend(flushed.map(|sealed| sealed.segment));
        }
        state.dropped = last;
        state.renew_view();
        drop(state);
        // Page estimates assume half-empty pages.
        let bytes = memtables.iter().map(|memtable| memtable.page_bytes()).sum::<u64>() / 2;
        if !took.is_zero() && bytes >= FLUSH_RATE_BYTES_MIN {
            let rate = (bytes as f64 / took.as_secs_f64()) as u64;
            let before = self.flush_rate.load(Ordering::Relaxed);
            self.flush_rate.store((before * 3 + rate) / 4, Ordering::Relaxed);
        }
        self.changed.notify_all();
    }

    /// How long the committer should wait before it writes `bytes`. The pause is zero while half of
    /// the log is free, and grows until writers are no faster than the flusher.
    pub(super) fn pause(&self, bytes: usize) -> Duration {
        let sealed = self.state().sealed.len() as f64;
        let pressure = (sealed / self.options.segments_max as f64 - 0.5) / 0.3;
        if pressure <= 0.0 {
            return Duration::ZERO;
        }
        let rate = self.flush_rate.load(Ordering::Relaxed).max(1 << 20) as f64;
        Duration::from_secs_f64((bytes as f64 / rate * pressure).min(PAUSE_MAX_SECONDS))
    }

    /// Counts the segments.
    pub(super) fn segments(&self) -> SegmentCounts {
        let state = self.state();
        SegmentCounts { sealed: state.sealed.len(), free: state.free.len(), total: state.segments }
    }

    /// Waits until `segments` are sealed, the engine closes, or the timeout passes.
    pub(super) fn wait_for_sealed(&self, segments: usize, timeout: Duration) {
        let state = self.state();
        let waits =
            |state: &mut LogState<D::File>| state.sealed.len() < segments && !state.is_closing;
        drop(self.changed.wait_timeout_while(state, timeout, waits));
    }

    /// Tells the flusher that no more commits follow.
    pub(super) fn close(&self) {
        self.state().is_closing = true;
        self.changed.notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        match self.stopped.get() {
            Some(reason) => Err(StoreError::fatal(Fault::Stopped, reason.clone())),
            None => Ok(()),
        }
    }

    /// Stops all writing (`SHARED-3`): after a failed sync the content of the disk is unknown.
    pub(super) fn stop(&self, reason: String) -> StoreError {
        tracing::error!(reason, "the store stopped writing; check the disk and restart the node");
        let _ = self.stopped.set(reason.clone());
        StoreError::fatal(Fault::Stopped, reason)
    }
}

impl<F> LogState<F> {
    fn renew_view(&mut self) {
        let sealed = self.sealed.iter().rev().map(|sealed| sealed.memtable.clone());
        self.view = Arc::new(MemtableView {
            memtables: std::iter::once(self.active.clone()).chain(sealed).collect(),
        });
    }
}
