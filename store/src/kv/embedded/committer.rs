//! The committer thread: takes the commits that wait, checks each one's reads, applies them, one fsync, answers all.
//!
//! Invariants: `COMMITTER-1` commits take effect in the order of the queue; each sees the ones before it, also those of
//! its own group; `COMMITTER-2` no commit is answered before the fsync of its group; `COMMITTER-3` one commit that cannot
//! be applied (the file is full, a counter is none) does not fail the others of its group: they run again one by one.
//! While a group is synced the next one gathers; there is no timer.

use super::directory::{Growth, used_bytes};
use super::residency::Residency;
use super::transaction::{bounds, range_digest};
use super::{EmbeddedOptions, OpenError, Shared, store_error};
use crate::kv::overlay::Write;
use crate::kv::{Fault, KeyRange, StoreError, decode_counter};
use bytes::Bytes;
use heed::RwTxn;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

const RESERVE_BYTES: u64 = 64 << 20;
/// A commit that grows what is stored by less than this for each of its writes does not count as growing: a few bytes come
/// with acknowledgements and tombstones, while a new pair is larger than that by its key alone.
const GROWTH_BYTES_FREE: usize = 64;

/// What one transaction hands over.
pub(super) struct Commit {
    pub(super) reads: Vec<ReadCheck>,
    pub(super) cleared: Vec<KeyRange>,
    pub(super) writes: BTreeMap<Bytes, Write>,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// A read that must give the same at commit.
pub(super) enum ReadCheck {
    Key(Bytes, Option<Bytes>),
    Range(KeyRange, [u8; 32]),
}

/// Starts the thread; it ends when the last sender of the queue is gone.
pub(super) fn start(
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Commit>,
    options: &EmbeddedOptions,
) -> Result<std::thread::JoinHandle<()>, OpenError> {
    let failed = |source| OpenError::Io { directory: options.directory.clone(), source };
    let growth = Growth::new(&shared.env, options.map_bytes_max)
        .map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    let committer = Committer {
        shared,
        growth,
        residency: Residency::new(&options.directory),
        growth_bytes_max: options.map_bytes_max - reserve_bytes(options.map_bytes_max),
        group_transactions_max: options.group_transactions_max,
        group_bytes_max: options.group_bytes_max,
    };
    std::thread::Builder::new().name("committer".into()).spawn(move || committer.run(queue)).map_err(failed)
}

/// What is kept for commits that do not grow what is stored.
fn reserve_bytes(map_bytes_max: u64) -> u64 {
    (map_bytes_max / 4).min(RESERVE_BYTES)
}

struct Committer {
    shared: Arc<Shared>,
    growth: Growth,
    residency: Residency,
    /// Pages used beyond which only commits that do not grow what is stored are taken (`EMBEDDED-5`).
    growth_bytes_max: u64,
    group_transactions_max: usize,
    group_bytes_max: usize,
}

impl Committer {
    fn run(mut self, mut queue: mpsc::Receiver<Commit>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while group.len() < self.group_transactions_max && bytes < self.group_bytes_max {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.bytes;
                group.push(next);
            }
            metrics::histogram!("triggers_store_group_transactions").record(group.len() as f64);
            self.commit_group(group, bytes as u64);
        }
    }

    fn commit_group(&mut self, group: Vec<Commit>, bytes: u64) {
        if let Err(error) = self.shared.check_writable() {
            return answer_all(group, &Err(error));
        }
        if let Err(error) = self.growth.make_room(&self.shared.env, bytes) {
            let error = if super::is_full(&error) {
                StoreError::fatal(Fault::Full, format!("cannot extend the data file: {error}"))
            } else {
                self.stop(format!("cannot extend the data file: {error}"))
            };
            return answer_all(group, &Err(error));
        }
        self.residency.note(bytes);
        match self.try_group(&group) {
            Ok(verdicts) => {
                for (commit, verdict) in group.into_iter().zip(verdicts) {
                    // A receiver that is gone has given up waiting; the commit stands all the same.
                    let _ = commit.answer.send(verdict);
                }
            }
            Err(error) if group.len() > 1 && matches!(error.fault(), Some(Fault::Full | Fault::Corrupt)) => {
                for commit in group {
                    let writable = self.shared.check_writable();
                    let attempt = writable.and_then(|()| self.try_group(std::slice::from_ref(&commit)));
                    let outcome = attempt.and_then(|mut one| one.remove(0));
                    let _ = commit.answer.send(outcome);
                }
            }
            Err(error) => answer_all(group, &Err(error)),
        }
    }

    /// One LMDB transaction for a group. The outer error means that nothing of it is on disk, or may be.
    fn try_group(&self, group: &[Commit]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        let mut lmdb =
            self.shared.env.write_txn().map_err(|error| self.stop(format!("no commit can begin: {error}")))?;
        let mut verdicts = Vec::with_capacity(group.len());
        let is_nearly_full = self.is_nearly_full(&lmdb)?;
        for commit in group {
            let mut verdict = self.check(&lmdb, commit);
            if verdict.is_ok() && is_nearly_full && self.is_growing(&lmdb, commit)? {
                verdict = Err(StoreError::fatal(Fault::Full, "the data file has reached its configured maximum"));
            }
            if verdict.is_ok() {
                self.apply(&mut lmdb, commit)?;
            }
            verdicts.push(verdict);
        }
        if verdicts.iter().all(Result::is_err) {
            return Ok(verdicts);
        }
        lmdb.commit().map_err(|error| match store_error(error) {
            full if full.fault() == Some(Fault::Full) => full,
            other => self.stop(format!("a commit failed: {other}")),
        })?;
        Ok(verdicts)
    }

    /// Whether the part of the file that is kept for shrinking commits has been reached.
    fn is_nearly_full(&self, lmdb: &RwTxn<'_>) -> Result<bool, StoreError> {
        if used_bytes(&self.shared.env) < self.growth_bytes_max {
            return Ok(false);
        }
        // Pages that were freed are used again before the file grows.
        let tree = self.shared.pairs.stat(lmdb).map_err(store_error)?;
        let pages = tree.branch_pages + tree.leaf_pages + tree.overflow_pages;
        let in_use = (pages * tree.page_size as usize) as u64;
        Ok(in_use >= self.growth_bytes_max - reserve_bytes(self.growth_bytes_max))
    }

    /// Whether a commit adds to what is stored.
    fn is_growing(&self, lmdb: &RwTxn<'_>, commit: &Commit) -> Result<bool, StoreError> {
        let bytes = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let mut growth = 0;
        for (key, write) in &commit.writes {
            let before = self.shared.pairs.get(lmdb, key).map_err(store_error)?;
            growth -= before.map_or(0, |value| bytes(key.len() + value.len()));
            growth += match write {
                Write::Set(value) => bytes(key.len() + value.len()),
                Write::Add(_) => bytes(key.len() + 8),
                Write::Clear => 0,
            };
        }
        Ok(growth > bytes(commit.writes.len() * GROWTH_BYTES_FREE))
    }

    /// Repeats the reads of a transaction and compares.
    fn check(&self, lmdb: &RwTxn<'_>, commit: &Commit) -> Result<(), StoreError> {
        for read in &commit.reads {
            let same = match read {
                ReadCheck::Key(key, value) => {
                    self.shared.pairs.get(lmdb, key).map_err(store_error)? == value.as_deref()
                }
                ReadCheck::Range(range, digest) => range_digest(self.shared.pairs, lmdb, range)? == *digest,
            };
            if !same {
                return Err(StoreError::Retryable("what was read has changed since".into()));
            }
        }
        Ok(())
    }

    fn apply(&self, lmdb: &mut RwTxn<'_>, commit: &Commit) -> Result<(), StoreError> {
        let pairs = self.shared.pairs;
        for range in &commit.cleared {
            pairs.delete_range(lmdb, &bounds(range)).map_err(store_error)?;
        }
        for (key, write) in &commit.writes {
            match write {
                Write::Set(value) => pairs.put(lmdb, key, value).map_err(store_error)?,
                Write::Clear => {
                    pairs.delete(lmdb, key).map_err(store_error)?;
                }
                Write::Add(delta) => {
                    let before = decode_counter(pairs.get(lmdb, key).map_err(store_error)?)?;
                    pairs.put(lmdb, key, &before.wrapping_add(*delta).to_le_bytes()).map_err(store_error)?;
                }
            }
        }
        Ok(())
    }

    /// `EMBEDDED-3`: what a failed sync has left on the disk is not known to anybody, so nothing is built on it.
    fn stop(&self, reason: String) -> StoreError {
        tracing::error!(reason, "the store has stopped writing; check the disk and restart the node");
        let _ = self.shared.stopped.set(reason.clone());
        StoreError::MaybeCommitted(reason)
    }
}

fn answer_all(group: Vec<Commit>, outcome: &Result<(), StoreError>) {
    for commit in group {
        let _ = commit.answer.send(outcome.clone());
    }
}
