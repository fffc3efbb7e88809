//! What transactions, the committer and the flusher have in common.
//!
//! ```text
//! active table, its segment ─(full)─▶ sealed tables with their segments ─(flushed)─▶ base; segments free
//! ```
//! Invariants: `SHARED-1` a commit is visible when it is durable, and not before, except to pipelined
//! transactions, which commit after it; `SHARED-2` a sealed table leaves the view when
//! all of it is in the base, the oldest first; `SHARED-3` after an error that leaves it open what is on the disk, nothing is
//! written any more until a restart; `SHARED-4` there are never more segments than the most, but for what a recovery needs.

use super::base_store::BaseStore;
use super::disk::{Disk, DiskFile};
use super::memtable::{Memtable, View};
use super::segment::{Segment, name_of};
use super::snapshot::Visibility;
use crate::kv::{Fault, StoreError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Sizes of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogOptions {
    pub(super) segment_bytes: u64,
    pub(super) segments_max: usize,
    /// So much is gathered in sealed segments before it is flushed.
    pub(super) flush_segments: usize,
    /// Transactions that may read at once. The committer and backups read besides.
    pub(super) readers_max: usize,
}

/// A table whose segment is full.
pub(super) struct Sealed<F> {
    pub(super) memtable: Arc<Memtable>,
    pub(super) segment: Segment<F>,
}

/// What changes together.
pub(super) struct LogState<F> {
    active: Arc<Memtable>,
    view: Arc<View>,
    /// The sequence of the last group that is durable.
    visible: u64,
    /// The sequence of the last group that is in the tables: that one, or the next.
    ordered: u64,
    /// Sequences that are being read at, and how often.
    readers: BTreeMap<u64, usize>,
    /// The oldest first.
    sealed: VecDeque<Sealed<F>>,
    free: Vec<Segment<F>>,
    /// All of them, and the greatest number of one.
    segments: usize,
    greatest: usize,
    /// Tables up to this sequence have left the view.
    dropped: u64,
    is_closing: bool,
}

pub(super) struct EngineCore<D: Disk, B: BaseStore> {
    pub(super) base: B,
    pub(super) disk: D,
    pub(super) options: LogOptions,
    state: Mutex<LogState<D::File>>,
    changed: Condvar,
    /// Something of up to this sequence may be in the base.
    flushing: AtomicU64,
    /// LockedMemtables by whoever flushes.
    pub(super) flush: Mutex<()>,
    /// Bytes of keys and values that are flushed in a second, about.
    flush_rate: AtomicU64,
    stopped: OnceLock<String>,
}

/// What a recovery begins with.
pub(super) struct InitialState<F> {
    pub(super) sealed: VecDeque<Sealed<F>>,
    pub(super) free: Vec<Segment<F>>,
    /// All segments with the active one, and the greatest number of one.
    pub(super) segments: usize,
    pub(super) greatest: usize,
    /// The sequence of the last record, and of the last one that is in the base.
    pub(super) last: u64,
    pub(super) flushed: u64,
}

const FLUSH_RATE_AT_FIRST: u64 = 50 << 20;
/// A flush of less says nothing about the rate.
const FLUSH_BYTES_TELLING: u64 = 4 << 20;

impl<D: Disk, B: BaseStore> EngineCore<D, B> {
    pub(super) fn new(
        disk: D,
        base: B,
        options: LogOptions,
        initial: InitialState<D::File>,
    ) -> Self {
        let InitialState { sealed, free, segments, greatest, last, flushed } = initial;
        let active = Arc::new(Memtable::default());
        let mut state = LogState {
            active,
            view: Arc::default(),
            visible: last,
            ordered: last,
            readers: BTreeMap::new(),
            sealed,
            free,
            segments,
            greatest,
            dropped: flushed,
            is_closing: false,
        };
        state.renew_view();
        Self {
            base,
            disk,
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
            // What was flushed before the last end is not known. Nothing is read at less than all of it.
            flushing: AtomicU64::new(last),
            flush: Mutex::new(()),
            flush_rate: AtomicU64::new(FLUSH_RATE_AT_FIRST),
            stopped: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, LogState<D::File>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to read: the tables, and the sequence to read at.
    pub(super) fn enter(&self, visibility: Visibility) -> (Arc<View>, u64) {
        let mut state = self.state();
        let sequence = match visibility {
            Visibility::Durable => state.visible,
            Visibility::Ordered => state.ordered,
        };
        *state.readers.entry(sequence).or_default() += 1;
        (state.view.clone(), sequence)
    }

    /// Whether no further transaction may read.
    pub(super) fn is_read_by_too_many(&self) -> bool {
        self.state().readers.values().sum::<usize>() >= self.options.readers_max
    }

    /// The tables, the newest first.
    pub(super) fn view(&self) -> Arc<View> {
        self.state().view.clone()
    }

    /// Ends reader.
    pub(super) fn leave(&self, sequence: u64) {
        let mut state = self.state();
        if let Some(count) = state.readers.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&sequence);
            }
        }
    }

    /// Whether nothing newer than this was in the base a moment ago.
    pub(super) fn is_base_at_most(&self, sequence: u64) -> bool {
        self.flushing.load(Ordering::SeqCst) <= sequence
    }

    /// The table that is written, and the sequences that are read at, also by whoever begins now.
    pub(super) fn active(&self) -> (Arc<Memtable>, Vec<u64>) {
        let state = self.state();
        let mut readers: Vec<u64> = state.readers.keys().copied().collect();
        if readers.last() != Some(&state.visible) {
            readers.push(state.visible);
        }
        (state.active.clone(), readers)
    }

    /// The sequence up to which it is not known any more what has changed.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Lets pipelined transactions see the next group, which is in the tables.
    pub(super) fn order(&self, sequence: u64) {
        self.state().ordered = sequence;
    }

    /// Makes everything up to a sequence visible.
    pub(super) fn publish(&self, sequence: u64) {
        self.state().visible = sequence;
    }

    pub(super) fn visible(&self) -> u64 {
        self.state().visible
    }

    /// Puts a new table in the place of the one that was written to `segment`.
    pub(super) fn seal(&self, segment: Segment<D::File>) {
        let mut state = self.state();
        let memtable = std::mem::take(&mut state.active);
        state.sealed.push_back(Sealed { memtable, segment });
        state.renew_view();
        drop(state);
        self.changed.notify_all();
    }

    /// Gives back a segment that nothing was written to.
    pub(super) fn give_back(&self, segment: Segment<D::File>) {
        self.state().free.push(segment);
    }

    /// Takes a free segment, or makes one if there may be more; nothing if neither.
    pub(super) fn take_segment(&self) -> std::io::Result<Option<Segment<D::File>>> {
        if let Some(segment) = self.state().free.pop() {
            return Ok(Some(segment));
        }
        self.make_segment()
    }

    /// Makes a segment if there is none that is free, so that the committer need not.
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
            state.greatest += 1;
            state.greatest
        };
        let name = name_of(number);
        let made = self.disk.create(&name, self.options.segment_bytes);
        let file = made.inspect_err(|_| self.state().segments -= 1)?;
        Ok(Some(Segment { name, file, bytes: self.options.segment_bytes }))
    }

    /// The oldest sealed tables, as many as are flushed at once.
    pub(super) fn next_sealed(&self) -> Vec<Arc<Memtable>> {
        let state = self.state();
        state
            .sealed
            .iter()
            .take(self.options.flush_segments)
            .map(|sealed| sealed.memtable.clone())
            .collect()
    }

    /// From now on something of up to this sequence may be in the base.
    pub(super) fn begin_flush(&self, last: u64) {
        self.flushing.fetch_max(last, Ordering::SeqCst);
    }

    /// The oldest sealed tables, these, are in the base (`SHARED-2`).
    pub(super) fn end_flush(&self, memtables: &[Arc<Memtable>], last: u64, took: Duration) {
        let mut state = self.state();
        for _ in memtables {
            let flushed = state.sealed.pop_front();
            state.free.extend(flushed.map(|sealed| sealed.segment));
        }
        state.dropped = last;
        state.renew_view();
        drop(state);
        // Pages are half empty, about.
        let bytes = memtables.iter().map(|memtable| memtable.page_bytes()).sum::<u64>() / 2;
        if !took.is_zero() && bytes >= FLUSH_BYTES_TELLING {
            let rate = (bytes as f64 / took.as_secs_f64()) as u64;
            let before = self.flush_rate.load(Ordering::Relaxed);
            self.flush_rate.store((before * 3 + rate) / 4, Ordering::Relaxed);
        }
        self.changed.notify_all();
    }

    /// How long the committer waits before `bytes` more, so that writers slow down before the log is full: not at all while half of
    /// it is free, then more and more, until they write no faster than what is written is flushed.
    pub(super) fn pause(&self, bytes: usize) -> Duration {
        let sealed = self.state().sealed.len() as f64;
        let pressure = (sealed / self.options.segments_max as f64 - 0.5) / 0.3;
        if pressure <= 0.0 {
            return Duration::ZERO;
        }
        let rate = self.flush_rate.load(Ordering::Relaxed).max(1 << 20) as f64;
        Duration::from_secs_f64((bytes as f64 / rate * pressure).min(PAUSE_MAX_SECONDS))
    }

    /// Sealed segments, free ones, all.
    pub(super) fn segments(&self) -> (usize, usize, usize) {
        let state = self.state();
        (state.sealed.len(), state.free.len(), state.segments)
    }

    /// Waits until so many segments are sealed, the store closes, or the time is over.
    pub(super) fn wait_for_sealed(&self, segments: usize, timeout: Duration) {
        let state = self.state();
        let waits =
            |state: &mut LogState<D::File>| state.sealed.len() < segments && !state.is_closing;
        drop(self.changed.wait_timeout_while(state, timeout, waits));
    }

    /// No commit comes any more.
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

    /// `SHARED-3`: what a failed sync has left on the disk is not known to anybody, so nothing is built on it.
    pub(super) fn stop(&self, reason: String) -> StoreError {
        tracing::error!(
            reason,
            "the store has stopped writing; check the disk and restart the node"
        );
        let _ = self.stopped.set(reason.clone());
        StoreError::fatal(Fault::Stopped, reason)
    }
}

const PAUSE_MAX_SECONDS: f64 = 0.05;

impl<F> LogState<F> {
    fn renew_view(&mut self) {
        let sealed = self.sealed.iter().rev().map(|sealed| sealed.memtable.clone());
        self.view = Arc::new(View {
            memtables: std::iter::once(self.active.clone()).chain(sealed).collect(),
        });
    }
}

impl<F: DiskFile> Segment<F> {
    /// Opens a segment that is there.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, name: String) -> std::io::Result<Self> {
        let file = disk.open(&name)?;
        let bytes = file.length()?;
        Ok(Self { name, file, bytes })
    }
}
