//! Looking at a stopped data directory: what is in it, and whether all of it can be read.
//!
//! Invariant: `INSPECT-1` nothing in the directory is changed, except for its locks (`LOCK`, `lock.mdb`).

use super::base_store::{BaseStore, LmdbStore};
use super::directory::DataDirectory;
use super::disk::LogDirectory;
use super::{OpenError, RecoveryReport, open_error, recovery};
use crate::kv::{KeyRange, StoreError, limits};
use std::path::Path;

const MAP_BYTES_MIN: u64 = 1 << 30;

/// What a data directory holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Pairs in the data file. What waits in the log is not counted.
    pub pairs: u64,
    /// Bytes of the data file, and those of its pages that are in use.
    pub file_bytes: u64,
    /// See `file_bytes`.
    pub used_bytes: u64,
    /// Segments of the log.
    pub segments: usize,
    /// Their bytes.
    pub segment_bytes: u64,
    /// What waits in the log: it is read back at the next start.
    pub unflushed: RecoveryReport,
}

/// Looks at a data directory. The log is read whole; with `reads_pairs` the data file is too.
///
/// # Errors
/// [`OpenError`] if it is none, is in use, or is damaged.
pub fn inspect(directory: &Path, reads_pairs: bool) -> Result<Inspection, OpenError> {
    let data_file = directory.join("data.mdb");
    let io = |source| OpenError::Io { directory: directory.to_owned(), source };
    let file_bytes = std::fs::metadata(&data_file).map_err(io)?.len();
    let map_bytes_max = file_bytes.max(MAP_BYTES_MIN).next_multiple_of(1 << 20);
    let opened = DataDirectory::open(directory)?;
    let (env, pairs) = opened.open_environment(map_bytes_max, 1)?;
    let base = LmdbStore::new(env, pairs, map_bytes_max)?;
    let damaged = |error: StoreError| OpenError::Damaged {
        file: data_file.clone(),
        reason: error.to_string(),
    };
    let (used_bytes, pairs) = base.size().map_err(damaged)?;
    let mut inspection = Inspection { pairs, file_bytes, used_bytes, ..Inspection::default() };
    if reads_pairs {
        inspection.pairs = count(&base).map_err(damaged)?;
    }
    if let Some(secret) = opened.secret() {
        let marks = base.marks().map_err(damaged)?;
        let log = recovery::read(&LogDirectory::of(&opened), marks, secret);
        let log = log.map_err(|error| open_error(directory, error))?;
        (inspection.segments, inspection.segment_bytes) = log.segments();
        inspection.unflushed = log.recovered;
    }
    Ok(inspection)
}

/// Reads every pair of the data file.
fn count(base: &LmdbStore) -> Result<u64, StoreError> {
    let snapshot = base.snapshot()?;
    let everything = KeyRange::new("", vec![0xff; limits::KEY_BYTES_MAX + 1]);
    let mut pairs = 0;
    for pair in base.range(&snapshot, &everything, false)? {
        let (key, value) = pair?;
        limits::check_key(key)?;
        limits::check_value(value)?;
        pairs += 1;
    }
    Ok(pairs)
}
