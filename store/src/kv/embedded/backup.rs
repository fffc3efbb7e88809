//! Copies all pairs into a new data directory while the node runs.
//!
//! Invariants:
//! - `EMBEDDED-BACKUP-1`: the copy is one state: every commit before it began and none after.
//! - `EMBEDDED-BACKUP-2`: the copy is a valid data directory only once complete: its format file is
//!   written last.
//! - `EMBEDDED-BACKUP-3`: existing files are never overwritten.
//!
//! LMDB cannot reuse freed pages until the copy ends.

use super::base_store::{BaseStore, FlushMark, LmdbStore};
use super::directory::DataDirectory;
use super::{LmdbCore, LmdbSnapshot, OpenError};
use crate::kv::{BackupSize, Fault, KeyRange, RangeRead, StoreError, limits};
use std::path::Path;
use std::sync::Arc;

const PAGE_PAIRS: usize = 2_000;

/// Copies all pairs into a new directory.
///
/// # Errors
/// `Unsupported` if `target` is not empty; `Stopped` if it cannot be written.
pub(super) fn copy(
    core: &Arc<LmdbCore>,
    target: &Path,
    map_bytes_max: u64,
) -> Result<BackupSize, StoreError> {
    let failed = |error: OpenError| StoreError::fatal(Fault::Stopped, error.to_string());
    if std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        let reason = format!("{} is not empty", target.display());
        return Err(StoreError::fatal(Fault::Unsupported, reason));
    }
    let mut directory = DataDirectory::open(target).map_err(failed)?;
    let base = LmdbStore::open(&directory, map_bytes_max, 1).map_err(failed)?;
    let snapshot = LmdbSnapshot::open(core)?;
    let mut copied = BackupSize::default();
    let everything = KeyRange::new("", vec![0xff; limits::KEY_BYTES_MAX + 1]);
    let mut next = Some(RangeRead::first(everything, PAGE_PAIRS));
    while let Some(read) = next {
        let page = snapshot.page(&read)?;
        let bytes: usize = page.pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        copied.pairs += page.pairs.len() as u64;
        copied.bytes += bytes as u64;
        let pairs: Vec<_> =
            page.pairs.iter().map(|(key, value)| (&key[..], Some(&value[..]))).collect();
        base.apply(&pairs, FlushMark::Done(0))?;
        next = read.after(&page);
    }
    drop(base);
    directory.begin_log().map_err(failed)?;
    Ok(copied)
}
