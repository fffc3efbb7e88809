//! The size of LMDB's data file: how much of it is in use, and growing it ahead of its use.
//!
//! The file always reaches past its last used page (`BASE-4`). It never shrinks.

use super::is_full;
use heed::{Env, WithoutTls};
use std::fs::{File, OpenOptions};

/// Smallest and largest step, in bytes, in which the data file grows.
const GROWTH_BYTES_MIN: u64 = 8 << 20;
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Bytes up to the end of the last page that LMDB has used.
pub(super) fn used_bytes(env: &Env<WithoutTls>) -> u64 {
    // The page size is fixed when the file is created.
    (env.info().last_page_number as u64 + 1) * u64::from(env.stat().page_size)
}

/// Keeps the data file longer than the next flush needs, and makes the new length durable.
pub(super) struct DataFileGrowth {
    file: File,
    length: u64,
    map_bytes_max: u64,
}

impl DataFileGrowth {
    pub(super) fn new(
        env: &Env<WithoutTls>,
        map_bytes_max: u64,
        is_read_only: bool,
    ) -> Result<Self, heed::Error> {
        // A separate descriptor: an I/O error of a write is reported to the descriptor that syncs.
        let file = OpenOptions::new()
            .read(is_read_only)
            .write(!is_read_only)
            .open(env.path().join("data.mdb"))?;
        Ok(Self { file, length: env.real_disk_size()?, map_bytes_max })
    }

    /// Makes room for `upcoming` bytes of pages.
    ///
    /// # Errors
    /// The file system's error if it has no room.
    pub(super) fn make_room(
        &mut self,
        env: &Env<WithoutTls>,
        upcoming: u64,
    ) -> std::io::Result<()> {
        // Copy-on-write touches additional pages.
        let least = used_bytes(env) + upcoming + upcoming / 4 + (1 << 20);
        let needed = (least + (15 << 20)).min(self.map_bytes_max);
        if needed <= self.length {
            return Ok(());
        }
        let step = (needed / 4).clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX);
        let length = (needed + step).min(self.map_bytes_max);
        if let Err(error) = self.extend(length) {
            // The present length may still be enough, for deletions above all.
            return if least <= self.length && is_full(&error) { Ok(()) } else { Err(error) };
        }
        self.length = length;
        Ok(())
    }

    /// Allocates the space now, so that a full disk fails here and not inside an LMDB commit.
    fn extend(&self, length: u64) -> std::io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let present = self.file.metadata()?.len();
        if length > present {
            match fallocate(&self.file, FallocateFlags::empty(), present, length - present) {
                Ok(()) => {}
                // This file system cannot reserve space; setting the length must do.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(length)?,
                Err(error) => return Err(error.into()),
            }
        }
        self.file.sync_all()
    }
}
