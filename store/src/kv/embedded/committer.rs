//! The committer thread: groups queued commits, checks their reads, writes one record per group,
//! and answers them.
//!
//! Invariants:
//! - `COMMITTER-1`: commits take effect in queue order; each sees the ones before it.
//! - `COMMITTER-2`: a commit is answered and plainly visible only after the sync of its group.
//! - `COMMITTER-3`: a commit that cannot be applied does not fail the others of its group.
//! - `COMMITTER-4`: a commit fails if a key that it read was written after its snapshot, or if the
//!   engine no longer knows whether it was.
//!
//! While one group syncs, the next one gathers; there is no timer. If few commits are queued, the
//! thread yields once, so that tasks about to commit join the group.

use super::base_store::{BaseStore, Headroom};
use super::disk::Disk;
use super::engine_core::EngineCore;
use super::memtable::page_bytes;
use super::record::{Pair, RecordEncoder};
use super::segment::ActiveSegment;
use super::snapshot::EmbeddedSnapshot;
use super::{disk_full, is_full};
use crate::kv::overlay::Write;
use crate::kv::{Fault, KeyRange, Ordered, RangeRead, StoreError, add_to_counter};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Growth per write up to which a commit does not count as growing the store. An acknowledgement
/// adds about 100 bytes over three writes; a new event adds more.
const GROWTH_BYTES_FREE: usize = 64;
/// The thread yields once if fewer commits than this are queued and the last group was larger:
/// small groups cost a sync each.
const YIELD_BELOW: usize = 4;
/// Keys that are read at a time when a range is cleared.
const CLEARED_PAGE: usize = 1_000;

/// Messages to the committer thread.
pub(super) enum CommitterMessage {
    Commit(QueuedCommit),
    /// Seal the current segment, because no commit has arrived for a while.
    Seal,
    /// No more commits follow.
    Close,
}

/// The commit of one transaction, in the queue.
pub(super) struct QueuedCommit {
    /// Sequence of the snapshot; `None` if the transaction has read nothing.
    pub(super) read_at: Option<u64>,
    pub(super) reads: Vec<CheckedRead>,
    pub(super) cleared: Vec<KeyRange>,
    pub(super) writes: BTreeMap<Bytes, Write>,
    pub(super) bytes: usize,
    /// Runs when the commit is ordered.
    pub(super) ordered: Option<Ordered>,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// A read that must not have changed since the snapshot.
#[derive(Debug)]
pub(super) enum CheckedRead {
    Key(Bytes),
    Range(KeyRange),
}

/// Writes of the group so far; `None` is a cleared key.
type Staged = BTreeMap<Bytes, Option<Bytes>>;

/// State of the committer thread.
pub(super) struct Committer<D: Disk, B: BaseStore> {
    core: Arc<EngineCore<D, B>>,
    active: ActiveSegment<D::File>,
    encoder: RecordEncoder,
    /// Sequence of the last record.
    sequence: u64,
}

impl<D: Disk, B: BaseStore> Committer<D, B> {
    pub(super) fn new(
        core: Arc<EngineCore<D, B>>,
        active: ActiveSegment<D::File>,
        secret: u32,
    ) -> Self {
        let sequence = core.visible();
        Self { core, active, encoder: RecordEncoder::new(secret), sequence }
    }

    /// Body of the thread: runs until [`CommitterMessage::Close`], or until all senders are gone.
    pub(super) fn run(
        mut self,
        mut queue: mpsc::Receiver<CommitterMessage>,
        transactions_max: usize,
        bytes_max: usize,
    ) {
        let (mut is_closing, mut last) = (false, 0);
        while !is_closing && let Some(first) = queue.blocking_recv() {
            let waiting = queue.len() + 1;
            if waiting < YIELD_BELOW.min(last) {
                std::thread::yield_now();
            }
            let (mut group, mut bytes, mut next) = (Vec::new(), 0, Some(first));
            while let Some(message) = next.take() {
                match message {
                    CommitterMessage::Close => is_closing = true,
                    CommitterMessage::Seal => {
                        if let Err(error) = self.seal() {
                            tracing::debug!(%error, "cannot seal the log segment yet");
                        }
                    }
                    CommitterMessage::Commit(commit) => {
                        bytes += commit.bytes;
                        group.push(commit);
                    }
                }
                if group.len() < transactions_max && bytes < bytes_max && !is_closing {
                    next = queue.try_recv().ok();
                }
            }
            if group.is_empty() {
                continue;
            }
            last = group.len();
            metrics::histogram!("triggers_store_group_transactions").record(last as f64);
            let pause = self.core.pause(bytes);
            if !pause.is_zero() {
                metrics::counter!("triggers_store_paced_groups_total").increment(1);
                std::thread::sleep(pause);
            }
            self.commit_group(group);
        }
        // The engine is closed: reject the commits that are still queued.
        queue.close();
        while let Ok(message) = queue.try_recv() {
            if let CommitterMessage::Commit(commit) = message {
                let error = StoreError::fatal(Fault::Stopped, "the engine is closed");
                let _ = commit.answer.send(Err(error));
            }
        }
        self.close();
    }

    /// Commits a group and answers each of its commits.
    pub(super) fn commit_group(&mut self, mut group: Vec<QueuedCommit>) {
        let verdicts =
            self.try_group(&mut group).unwrap_or_else(|error| vec![Err(error); group.len()]);
        for (commit, verdict) in group.into_iter().zip(verdicts) {
            // The caller may have stopped waiting; the commit stands all the same.
            let _ = commit.answer.send(verdict);
        }
    }

    /// Returns one verdict per commit. After an outer error no commit took effect.
    fn try_group(
        &mut self,
        group: &mut [QueuedCommit],
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        self.core.check_writable()?;
        let has_room = self.has_room_for_all(group)?;
        let mut builder = GroupBuilder {
            snapshot: EmbeddedSnapshot::open(&self.core)?,
            core: &self.core,
            dropped: self.core.dropped(),
            staged: Staged::new(),
            page_bytes: 0,
        };
        let mut verdicts: Vec<_> =
            group.iter_mut().map(|commit| builder.add(commit, has_room)).collect();
        let staged = std::mem::take(&mut builder.staged);
        drop(builder);
        if staged.is_empty() {
            return Ok(verdicts);
        }
        let accepted = group.iter_mut().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok());
        let ordered = accepted.filter_map(|(commit, _)| commit.ordered.take()).collect();
        if let Err(error) = self.append(staged, ordered) {
            for verdict in verdicts.iter_mut().filter(|verdict| verdict.is_ok()) {
                *verdict = Err(error.clone());
            }
        }
        Ok(verdicts)
    }

    /// Whether all unflushed pairs and the whole group fit into the base store. If an estimate says
    /// no, flushes everything to get exact figures.
    fn has_room_for_all(&mut self, group: &[QueuedCommit]) -> Result<bool, StoreError> {
        let group_bytes: u64 = group.iter().map(commit_page_bytes).sum();
        let room = |core: &EngineCore<D, B>| core.room(core.view().page_bytes() + group_bytes);
        if room(&self.core)? == Headroom::Enough {
            return Ok(true);
        }
        let flushed = self.seal().and_then(|()| {
            while self.core.flush_oldest()? {}
            Ok(())
        });
        flushed.or_else(|error| match error.fault() {
            Some(Fault::Full) => Ok(()),
            _ => Err(error),
        })?;
        Ok(room(&self.core)? == Headroom::Enough)
    }

    /// Writes a group as one record. Errors other than `MaybeCommitted` mean no effect.
    fn append(&mut self, staged: Staged, ordered: Vec<Ordered>) -> Result<(), StoreError> {
        self.encoder.begin();
        for (key, value) in &staged {
            self.encoder.pair(key, value.as_deref());
        }
        let record_bytes = self.encoder.record_bytes() as u64;
        if !self.active.has_room(record_bytes) {
            self.seal()?;
        }
        self.active.make_room(record_bytes).map_err(|error| {
            if is_full(&error) {
                disk_full("cannot extend the log", &error)
            } else {
                self.core.stop(format!("cannot extend the log: {error}"))
            }
        })?;
        self.sequence += 1;
        let record = self.encoder.finish(self.active.generation, self.sequence);
        // From here on the group becomes durable, or the engine stops.
        let (memtable, readers) = self.core.active();
        memtable.apply(self.sequence, staged, &readers);
        self.core.order(self.sequence);
        for ordered in ordered {
            ordered();
        }
        self.active.append(record).map_err(|error| {
            let reason = format!("cannot write log segment {}: {error}", self.active.segment.name);
            self.core.stop(reason.clone());
            StoreError::MaybeCommitted(reason)
        })?;
        self.core.publish(self.sequence);
        Ok(())
    }

    /// Switches to another segment, unless the current one is empty.
    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        self.core.check_writable()?;
        if self.core.active().0.is_empty() {
            return Ok(());
        }
        let segment = loop {
            match self.core.acquire_segment() {
                Ok(Some(segment)) => break segment,
                // All segments are in use; a flush frees one.
                Ok(None) if self.core.flush_to_free_segment()? => {}
                Err(error) if self.core.flush_to_free_segment()? => {
                    tracing::warn!(%error, "cannot create a log segment; reusing a flushed one");
                }
                Err(error) if is_full(&error) => {
                    return Err(disk_full("cannot create a log segment", &error));
                }
                failed => {
                    let cause = failed.map_or_else(|error| format!(": {error}"), |_| String::new());
                    let reason = format!("the log has no free segment{cause}");
                    return Err(StoreError::fatal(Fault::Full, reason));
                }
            }
        };
        let next = ActiveSegment::new(segment, self.active.generation + 1);
        let full = std::mem::replace(&mut self.active, next);
        self.core.seal(full.segment);
        Ok(())
    }

    /// Leaves the unflushed pairs to the flusher, and tells it to end.
    pub(super) fn close(self) {
        if self.core.active().0.is_empty() {
            self.core.release_segment(self.active.segment);
        } else if self.core.check_writable().is_ok() {
            self.core.seal(self.active.segment);
        }
        self.core.close();
    }
}

impl<D: Disk, B: BaseStore> EngineCore<D, B> {
    /// Whether the base store has room for `upcoming` bytes of pages. On a full disk, commits that
    /// do not grow the store still fit.
    fn room(&self, upcoming: u64) -> Result<Headroom, StoreError> {
        self.base.room(upcoming).or_else(|error| match error {
            StoreError::Fatal { fault: Fault::Full, reason } => {
                Ok(Headroom::OnlyForShrinking(reason))
            }
            StoreError::Fatal { .. } => Err(self.stop(error.to_string())),
            // Too many readers at the moment.
            StoreError::Retryable(_) | StoreError::MaybeCommitted(_) => Err(error),
        })
    }
}

/// Estimated bytes of pages that a commit's pairs take.
fn commit_page_bytes(commit: &QueuedCommit) -> u64 {
    let bytes = |(key, write): (&Bytes, &Write)| match write {
        Write::Set(value) => page_bytes(key.len(), Some(value.len())),
        Write::Add(_) => page_bytes(key.len(), Some(8)),
        Write::Clear => 0,
    };
    commit.writes.iter().map(bytes).sum()
}

/// A group under construction.
struct GroupBuilder<'a, D: Disk, B: BaseStore> {
    /// The state before the group.
    snapshot: EmbeddedSnapshot<D, B>,
    core: &'a EngineCore<D, B>,
    dropped: u64,
    staged: Staged,
    page_bytes: u64,
}

impl<D: Disk, B: BaseStore> GroupBuilder<'_, D, B> {
    /// Adds a commit to the group, or returns why it is rejected.
    fn add(&mut self, commit: &mut QueuedCommit, has_room_for_all: bool) -> Result<(), StoreError> {
        if self.has_conflict(commit) {
            return Err(StoreError::Retryable("conflict: a key that was read has changed".into()));
        }
        let page_bytes = commit_page_bytes(commit);
        let pairs = self.effects(commit)?;
        if !has_room_for_all {
            let upcoming = self.snapshot.view().page_bytes() + self.page_bytes + page_bytes;
            if let Headroom::OnlyForShrinking(reason) = self.core.room(upcoming)?
                && self.is_growing(&pairs)?
            {
                return Err(StoreError::fatal(Fault::Full, reason));
            }
        }
        self.page_bytes += page_bytes;
        if self.staged.is_empty() && commit.cleared.is_empty() {
            // Most groups have one commit, with sorted pairs: building the map at once is faster.
            self.staged = pairs.into_iter().collect();
        } else {
            self.staged.extend(pairs);
        }
        Ok(())
    }

    /// Whether another commit has changed something that this one read (`COMMITTER-4`).
    fn has_conflict(&self, commit: &QueuedCommit) -> bool {
        let Some(since) = commit.read_at else { return false };
        let memtables = &self.snapshot.view().memtables;
        let is_changed = |read: &CheckedRead| match read {
            CheckedRead::Key(key) => {
                self.staged.contains_key(key)
                    || memtables.iter().any(|memtable| memtable.is_key_changed(key, since))
            }
            CheckedRead::Range(range) => {
                self.staged.range::<[u8], _>(range.bounds()).next().is_some()
                    || memtables.iter().any(|memtable| memtable.is_changed(range, since))
            }
        };
        !commit.reads.is_empty() && (since < self.dropped || commit.reads.iter().any(is_changed))
    }

    fn newest(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.staged.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.snapshot.get(key),
        }
    }

    /// Computes the new value of each key that a commit writes. Drains the commit's writes.
    fn effects(&self, commit: &mut QueuedCommit) -> Result<Vec<Pair>, StoreError> {
        let mut pairs: Vec<Pair> = Vec::with_capacity(commit.writes.len());
        for range in &commit.cleared {
            self.clear(range, &mut pairs)?;
        }
        for (key, write) in std::mem::take(&mut commit.writes) {
            let value = match write {
                Write::Set(value) => Some(value),
                Write::Clear => None,
                Write::Add(delta) => {
                    // Not a key in `cleared`: the overlay turns an `Add` to one into a `Set`.
                    Some(add_to_counter(self.newest(&key)?.as_deref(), delta)?)
                }
            };
            pairs.push((key, value));
        }
        Ok(pairs)
    }

    fn clear(&self, range: &KeyRange, pairs: &mut Vec<Pair>) -> Result<(), StoreError> {
        pairs.extend(
            self.staged.range::<[u8], _>(range.bounds()).map(|(key, _)| (key.clone(), None)),
        );
        let mut next = Some(RangeRead::first(range.clone(), CLEARED_PAGE));
        while let Some(read) = next {
            let page = self.snapshot.page(&read)?;
            next = read.after(&page);
            pairs.extend(page.pairs.into_iter().map(|(key, _)| (key, None)));
        }
        Ok(())
    }

    /// Whether the pairs grow the store by more than [`GROWTH_BYTES_FREE`] per write.
    fn is_growing(&self, pairs: &[Pair]) -> Result<bool, StoreError> {
        let bytes = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let mut growth = 0;
        for (key, value) in pairs {
            let before = self.newest(key)?;
            growth -= before.map_or(0, |value| bytes(key.len() + value.len()));
            growth += value.as_ref().map_or(0, |value| bytes(key.len() + value.len()));
        }
        Ok(growth > bytes(pairs.len() * GROWTH_BYTES_FREE))
    }
}
