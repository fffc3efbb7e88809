//! Segments: files of the log that are written over and over, and the one that is written now.
//!
//! Invariants: `SEGMENT-1` a record is durable before the next one is written; `SEGMENT-2` a segment is written from its beginning
//! again only after everything in it is in the base. Each time it gets a generation that is greater than all before; `SEGMENT-3` a
//! record that is longer than a segment gets one of its own, which is made longer first.
//! It does not know what records say.

use super::disk::{DiskFile, write_whole, write_zeros};
use std::io;

const SUFFIX: &str = ".log";

/// The name of a segment.
pub(super) fn name_of(number: usize) -> String {
    format!("{number:06}{SUFFIX}")
}

/// The number of a name.
pub(super) fn number_of(name: &str) -> Option<usize> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (name_of(number) == name).then_some(number)
}

/// A file of the log.
pub(super) struct Segment<F> {
    pub(super) name: String,
    pub(super) file: F,
    pub(super) bytes: u64,
}

/// The segment that is written.
pub(super) struct ActiveSegment<F> {
    pub(super) segment: Segment<F>,
    pub(super) generation: u64,
    position: u64,
}

impl<F: DiskFile> ActiveSegment<F> {
    pub(super) fn new(segment: Segment<F>, generation: u64) -> Self {
        Self { segment, generation, position: 0 }
    }

    /// Whether a record belongs here, and not into the next segment.
    pub(super) fn has_room(&self, record_bytes: u64) -> bool {
        self.position == 0 || self.position + record_bytes <= self.segment.bytes
    }

    /// Writes a record behind the others, and makes it durable. After an error it is not known what is there.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let file = &self.segment.file;
        write_whole(file, record, self.position)?;
        file.sync()?;
        self.position += record.len() as u64;
        Ok(())
    }

    /// Makes the segment longer if a record has no room in it. After an error nothing of the record is there.
    pub(super) fn make_room(&mut self, record_bytes: u64) -> io::Result<()> {
        let bytes = self.position + record_bytes;
        if bytes <= self.segment.bytes {
            return Ok(());
        }
        let file = &self.segment.file;
        write_zeros(file, self.segment.bytes, bytes - self.segment.bytes)?;
        file.sync()?;
        self.segment.bytes = bytes;
        Ok(())
    }
}
