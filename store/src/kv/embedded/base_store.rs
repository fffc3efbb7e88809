//! The base store: where the log is flushed to; LMDB in production.
//!
//! Invariants:
//! - `BASE-1`: a snapshot sees one state, never a part of an `apply`.
//! - `BASE-2`: an `apply` that returns `Ok` is durable; one that fails has changed all or nothing.
//! - `BASE-3`: the last part of the file is reserved for commits that do not grow the store, so
//!   that clients can acknowledge and delete in a full store.
//! - `BASE-4`: the data file extends past its last used page, so that a truncated file is detected.
//!
//! LMDB does not checksum pages: pages that the disk corrupts silently are not detected.

use super::data_file::{DataFileGrowth, used_bytes};
use super::directory::DataDirectory;
use super::merge::BaseRange;
use super::residency::Residency;
use super::{OpenError, PairDatabase, disk_full, is_full};
use crate::kv::{Fault, KeyRange, StoreError};
use bytes::Bytes;
use heed::{Env, RoTxn, WithoutTls};
use std::ops::Bound;
use std::sync::Mutex;
use triggers_protocol::lock::lock;

const RESERVE_BYTES: u64 = 64 << 20;
const PAGE_BYTES: usize = 4_096;
const MAXIMUM_REACHED: &str = "the data file has reached its configured maximum";
/// Key of the flush marks. It is longer than every user key and sorts after all of them.
const MARKS: &[u8] = &[0xff; 511];

/// Which commits have room in the base store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Headroom {
    /// Every commit has room.
    Enough,
    /// Only commits that do not grow the store have room, for this reason.
    OnlyForShrinking(String),
}

/// Progress of a flush, stored with each `apply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlushMark {
    /// Some records up to this sequence are applied.
    Begun(u64),
    /// All records up to this sequence are applied.
    Done(u64),
}

impl FlushMark {
    pub(super) fn sequence(self) -> u64 {
        match self {
            Self::Begun(sequence) | Self::Done(sequence) => sequence,
        }
    }
}

/// How much of the log is in the base store: all records up to `done`, some up to `begun`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FlushMarks {
    pub(super) done: u64,
    pub(super) begun: u64,
}

impl FlushMarks {
    /// The marks after an `apply` with this mark.
    pub(super) fn with(self, mark: FlushMark) -> Self {
        match mark {
            FlushMark::Begun(begun) => Self { begun, ..self },
            FlushMark::Done(done) => Self { begun: done, done },
        }
    }
}

/// A key with its new value, or `None` if it was cleared.
pub(super) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// The store that the log is flushed into.
pub(super) trait BaseStore: Send + Sync + 'static {
    /// A consistent, read-only view.
    type Snapshot: Send;

    fn snapshot(&self) -> Result<Self::Snapshot, StoreError>;
    fn get(&self, snapshot: &Self::Snapshot, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    fn range<'a>(
        &'a self,
        snapshot: &'a Self::Snapshot,
        range: &KeyRange,
        is_reverse: bool,
    ) -> Result<BaseRange<'a>, StoreError>;

    /// Applies pairs, which are sorted by key, and the mark in one durable transaction.
    fn apply(&self, pairs: &[Change<'_>], mark: FlushMark) -> Result<(), StoreError>;

    /// The marks after the last `apply`.
    fn marks(&self) -> Result<FlushMarks, StoreError>;

    /// Makes room for `upcoming` bytes of pages, and tells which commits may use it.
    fn room(&self, upcoming: u64) -> Result<Headroom, StoreError>;
}

/// An LMDB environment as the base store.
pub(super) struct LmdbStore {
    env: Env<WithoutTls>,
    pairs: PairDatabase,
    growth: Mutex<DataFileGrowth>,
    residency: Mutex<Residency>,
    /// Used bytes above which only commits that do not grow the store are accepted (`BASE-3`).
    growth_bytes_max: u64,
}

impl LmdbStore {
    pub(super) fn open(
        data: &DataDirectory,
        map_bytes_max: u64,
        readers_max: u32,
    ) -> Result<Self, OpenError> {
        let (env, pairs) = data.open_environment(map_bytes_max, readers_max)?;
        let directory = env.path().to_owned();
        let growth = DataFileGrowth::new(&env, map_bytes_max, data.is_read_only());
        let growth = growth.map_err(|error| OpenError::Io {
            directory: directory.clone(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Self {
            env,
            pairs,
            growth: Mutex::new(growth),
            residency: Mutex::new(Residency::new(&directory)),
            growth_bytes_max: map_bytes_max - reserve_bytes(map_bytes_max),
        })
    }

    /// Bytes of pages in use, and number of pairs.
    pub(super) fn size(&self) -> Result<(u64, u64), StoreError> {
        let snapshot = self.snapshot()?;
        let tree = self.pairs.stat(&snapshot).map_err(store_error)?;
        let pages = tree.branch_pages + tree.leaf_pages + tree.overflow_pages;
        let has_marker = self.pairs.get(&snapshot, MARKS).map_err(store_error)?.is_some();
        Ok(((pages * tree.page_size as usize) as u64, tree.entries as u64 - u64::from(has_marker)))
    }

    fn marks_in(&self, transaction: &RoTxn<'_, WithoutTls>) -> Result<FlushMarks, StoreError> {
        let Some(row) = self.pairs.get(transaction, MARKS).map_err(store_error)? else {
            return Ok(FlushMarks::default());
        };
        let number = |at: usize| Some(u64::from_le_bytes(row.get(at..at + 8)?.try_into().ok()?));
        let marks = number(0).zip(number(8)).map(|(done, begun)| FlushMarks { done, begun });
        let malformed =
            || StoreError::fatal(Fault::Corrupt, "the row with the flush marks is malformed");
        marks.ok_or_else(malformed)
    }

    fn make_room(&self, upcoming: u64) -> Result<(), StoreError> {
        let mut growth = lock(&self.growth);
        growth.make_room(&self.env, upcoming).map_err(|error| {
            if is_full(&error) {
                return disk_full("cannot extend the data file", &error);
            }
            StoreError::fatal(Fault::Stopped, format!("cannot extend the data file: {error}"))
        })
    }

    fn is_nearly_full(&self, upcoming: u64) -> Result<bool, StoreError> {
        if used_bytes(&self.env) + upcoming < self.growth_bytes_max {
            return Ok(false);
        }
        // LMDB reuses freed pages before the file grows.
        let (in_use, _) = self.size()?;
        Ok(in_use + upcoming >= self.growth_bytes_max - reserve_bytes(self.growth_bytes_max))
    }
}

/// Bytes reserved for commits that do not grow the store.
fn reserve_bytes(map_bytes_max: u64) -> u64 {
    (map_bytes_max / 4).min(RESERVE_BYTES)
}

impl BaseStore for LmdbStore {
    type Snapshot = RoTxn<'static, WithoutTls>;

    fn snapshot(&self) -> Result<Self::Snapshot, StoreError> {
        self.env.clone().static_read_txn().map_err(store_error)
    }

    fn get(&self, snapshot: &Self::Snapshot, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pairs.get(snapshot, key).map_err(store_error)?.map(Bytes::copy_from_slice))
    }

    fn range<'a>(
        &'a self,
        snapshot: &'a Self::Snapshot,
        range: &KeyRange,
        is_reverse: bool,
    ) -> Result<BaseRange<'a>, StoreError> {
        if range.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        // LMDB rejects empty keys, so a range from the empty key is unbounded below.
        let begin = if range.begin.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Included(&range.begin[..])
        };
        let bounds = (begin, Bound::Excluded(&range.end[..]));
        if is_reverse {
            let found = self.pairs.rev_range(snapshot, &bounds).map_err(store_error)?;
            return Ok(Box::new(found.map(|pair| pair.map_err(store_error))));
        }
        let found = self.pairs.range(snapshot, &bounds).map_err(store_error)?;
        Ok(Box::new(found.map(|pair| pair.map_err(store_error))))
    }

    fn apply(&self, pairs: &[Change<'_>], mark: FlushMark) -> Result<(), StoreError> {
        // LMDB copies at most one page per key, besides the space of the value.
        let bytes: usize =
            pairs.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum();
        self.make_room((bytes + pairs.len() * PAGE_BYTES) as u64)?;
        let mut transaction = self.env.write_txn().map_err(store_error)?;
        // Read in the write transaction: a flush must work even when LMDB's table of readers is
        // full.
        let marks = self.marks_in(&transaction)?.with(mark);
        for (key, value) in pairs {
            match value {
                Some(value) => self.pairs.put(&mut transaction, key, value).map_err(store_error)?,
                None => drop(self.pairs.delete(&mut transaction, key).map_err(store_error)?),
            }
        }
        let row = [marks.done.to_le_bytes(), marks.begun.to_le_bytes()].concat();
        self.pairs.put(&mut transaction, MARKS, &row).map_err(store_error)?;
        transaction.commit().map_err(store_error)?;
        lock(&self.residency).add_committed(bytes as u64);
        Ok(())
    }

    fn marks(&self) -> Result<FlushMarks, StoreError> {
        self.marks_in(&self.snapshot()?)
    }

    fn room(&self, upcoming: u64) -> Result<Headroom, StoreError> {
        self.make_room(upcoming)?;
        let is_full = self.is_nearly_full(upcoming)?;
        let shrinking = || Headroom::OnlyForShrinking(MAXIMUM_REACHED.to_owned());
        Ok(if is_full { shrinking() } else { Headroom::Enough })
    }
}

/// Maps an LMDB error to the matching class of store error.
fn store_error(error: heed::Error) -> StoreError {
    use heed::MdbError;
    match error {
        heed::Error::Mdb(MdbError::MapFull) => StoreError::fatal(Fault::Full, MAXIMUM_REACHED),
        heed::Error::Mdb(MdbError::ReadersFull) => {
            StoreError::Retryable("too many transactions are reading".into())
        }
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound | MdbError::Invalid) => {
            StoreError::fatal(Fault::Corrupt, error.to_string())
        }
        heed::Error::Io(error) if is_full(&error) => {
            disk_full("cannot write the data file", &error)
        }
        other => StoreError::fatal(Fault::Stopped, other.to_string()),
    }
}
