//! The size of LMDB's data file: how much of it is in use, and growing it ahead of its use.
//!
//! The file always reaches past its last used page (`BASE-4`). It never shrinks.

use super::is_full;
use heed::{Env, WithoutTls};
use std::fs::{File, OpenOptions};

/// Smallest and largest step, in bytes, by which the data file grows ahead of what LMDB uses.
const GROWTH_BYTES_MIN: u64 = 8 << 20;
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Bytes up to the end of the last page that LMDB has used.
pub(super) fn used_bytes(env: &Env<WithoutTls>) -> u64 {
    // The page size is the operating system's when the file is made, and stays with the file.
    (env.info().last_page_number as u64 + 1) * u64::from(env.stat().page_size)
}

/// Keeps the data file longer than what a group of `upcoming` bytes can use, and makes the new length durable.
pub(super) struct DataFileGrowth {
    file: File,
    length: u64,
    map_bytes_max: u64,
}

impl DataFileGrowth {
    pub(super) fn new(env: &Env<WithoutTls>, map_bytes_max: u64) -> Result<Self, heed::Error> {
        // Its own, so that an error of a write is told to whoever syncs what was written.
        let file = OpenOptions::new().write(true).open(env.path().join("data.mdb"))?;
        Ok(Self { file, length: env.real_disk_size()?, map_bytes_max })
    }

    /// Makes room ahead of a group.
    ///
    /// # Errors
    /// What the file system says, when it has no room.
    pub(super) fn make_room(
        &mut self,
        env: &Env<WithoutTls>,
        upcoming: u64,
    ) -> std::io::Result<()> {
        // Copy-on-write touches pages besides.
        let least = used_bytes(env) + upcoming + upcoming / 4 + (1 << 20);
        let needed = (least + (15 << 20)).min(self.map_bytes_max);
        if needed <= self.length {
            return Ok(());
        }
        let step = (needed / 4).clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX);
        let length = (needed + step).min(self.map_bytes_max);
        if let Err(error) = self.extend(length) {
            // What the file has already may still be enough, for deletions above all.
            return if least <= self.length && is_full(&error) { Ok(()) } else { Err(error) };
        }
        self.length = length;
        Ok(())
    }

    /// Takes the space from the file system now: a full disk shows here, where nothing is half done, and not as a short
    /// write inside a commit. The file never becomes shorter.
    fn extend(&self, length: u64) -> std::io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let present = self.file.metadata()?.len();
        if length > present {
            match fallocate(&self.file, FallocateFlags::empty(), present, length - present) {
                Ok(()) => {}
                // Such a file system has no reservations; the length alone must do.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(length)?,
                Err(error) => return Err(error.into()),
            }
        }
        self.file.sync_all()
    }
}
