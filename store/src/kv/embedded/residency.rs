//! Keeps pages of the data file out of the process's resident memory.
//!
//! LMDB reads through a memory map. Each page that it has read counts as resident as long as the
//! page cache holds it, so that a healthy node looks as if it leaked memory. This module
//! periodically drops the map from the page tables. The pages stay in the cache; the next access
//! takes a minor fault.
//!
//! Invariant: `RESIDENCY-1`: only the data file's read-only map is affected, and no byte of it.

use std::path::{Path, PathBuf};

/// Committed bytes between two drops.
const PERIOD_BYTES: u64 = 256 << 20;

pub(super) struct Residency {
    data_file: PathBuf,
    since_bytes: u64,
}

impl Residency {
    pub(super) fn new(directory: &Path) -> Self {
        let data_file = directory.join("data.mdb");
        Self { data_file: data_file.canonicalize().unwrap_or(data_file), since_bytes: 0 }
    }

    /// Counts committed bytes, and drops the map when enough have accumulated.
    pub(super) fn add_committed(&mut self, bytes: u64) {
        self.since_bytes += bytes;
        if self.since_bytes < PERIOD_BYTES {
            return;
        }
        self.since_bytes = 0;
        // Without /proc the figures stay too high; nothing else is lost.
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        for (start, length) in maps.lines().filter_map(|line| self.parse(line)) {
            drop_from_page_tables(start, length);
        }
    }

    /// Start and length of a mapping of the data file, from a line like
    /// `7f…-7f… r--s 0000 08:01 12 /data/data.mdb`.
    fn parse(&self, line: &str) -> Option<(usize, usize)> {
        let (range, rest) = line.split_once(' ')?;
        let is_ours = rest.starts_with("r--s")
            && Path::new(rest.splitn(5, ' ').last()?.trim_start()) == self.data_file;
        let (start, end) = range.split_once('-')?;
        let (start, end) =
            (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        is_ours.then_some((start, end.checked_sub(start)?))
    }
}

fn drop_from_page_tables(start: usize, length: usize) {
    use rustix::mm::{Advice, madvise};
    let start = std::ptr::with_exposed_provenance_mut(start);
    #[expect(
        unsafe_code,
        reason = "a shared, read-only file map loses its page table entries and nothing else"
    )]
    let advised = unsafe { madvise(start, length, Advice::LinuxDontNeed) };
    if let Err(error) = advised {
        tracing::debug!(%error, "cannot drop the data file's map from the page tables");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_data_file_map_matches() {
        let residency = Residency { data_file: "/data/a b/data.mdb".into(), since_bytes: 0 };
        let line = |rights, path| {
            format!("7f0000001000-7f0000003000 {rights} 00000000 08:01 12     {path}")
        };
        assert_eq!(
            residency.parse(&line("r--s", "/data/a b/data.mdb")),
            Some((0x7f00_0000_1000, 0x2000))
        );
        assert_eq!(residency.parse(&line("rw-p", "/data/a b/data.mdb")), None);
        assert_eq!(residency.parse(&line("r--s", "/data/lock.mdb")), None);
        assert_eq!(residency.parse("7f00-7f01 rw-p 0 00:00 0"), None);
    }
}
