//! Inspects the data directory of a stopped node, and checks that all of it can be read.
//!
//! Invariant: `INSPECT-1`: an inspection changes and creates nothing, so that the directory may be
//! on a file system that is mounted read-only.

use super::base_store::{BaseStore, LmdbStore};
use super::directory::DataDirectory;
use super::disk::LogDirectory;
use super::{OpenError, RecoveryReport, open_error, recovery};
use crate::kv::{KeyRange, StoreError, limits};
use std::path::Path;

const MAP_BYTES_MIN: u64 = 1 << 30;

/// Sizes of a data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Number of pairs in the data file, without those that are only in the log.
    pub pairs: u64,
    /// Length of the data file in bytes.
    pub file_bytes: u64,
    /// Bytes of its pages that are in use.
    pub used_bytes: u64,
    /// Number of the log's segments.
    pub segments: usize,
    /// Total bytes of the segments.
    pub segment_bytes: u64,
    /// Records that are only in the log; the next start reads them back.
    pub unflushed: RecoveryReport,
}

/// Inspects a data directory: always the log, and with `reads_pairs` every pair of the data file.
///
/// # Errors
/// [`OpenError`] if it is no data directory, is in use, or is damaged.
pub fn inspect(directory: &Path, reads_pairs: bool) -> Result<Inspection, OpenError> {
    let data_file = directory.join("data.mdb");
    let io = |source| OpenError::Io { directory: directory.to_owned(), source };
    let file_bytes = std::fs::metadata(&data_file).map_err(io)?.len();
    let map_bytes_max = file_bytes.max(MAP_BYTES_MIN).next_multiple_of(1 << 20);
    let opened = DataDirectory::open_read_only(directory)?;
    let base = LmdbStore::open(&opened, map_bytes_max, 1)?;
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
        let log = recovery::read(&LogDirectory::read_only(&opened), marks, secret);
        let log = log.map_err(|error| open_error(directory, error))?;
        (inspection.segments, inspection.segment_bytes) = log.segments();
        inspection.unflushed = log.recovered;
    }
    Ok(inspection)
}

/// Reads and counts every pair of the data file.
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
