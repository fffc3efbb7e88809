//! Segments: the files of the log, which are reused, and the active one.
//!
//! Invariants:
//! - `SEGMENT-1`: a record is durable before the next one is written.
//! - `SEGMENT-2`: a flushed segment is reused, each time with a greater generation.
//! - `SEGMENT-3`: a record longer than a segment gets one of its own, which is extended first.

use super::disk::{Disk, DiskFile, write_fully, write_zeros};
use std::io;

const SUFFIX: &str = ".log";

/// File name of a segment number.
pub(super) fn name_of(number: usize) -> String {
    format!("{number:06}{SUFFIX}")
}

/// Segment number of a file name.
pub(super) fn number_of(name: &str) -> Option<usize> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (name_of(number) == name).then_some(number)
}

/// One file of the log.
pub(super) struct Segment<F> {
    pub(super) name: String,
    pub(super) file: F,
    pub(super) bytes: u64,
}

impl<F: DiskFile> Segment<F> {
    /// Opens an existing segment.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, name: String) -> io::Result<Self> {
        let file = disk.open(&name)?;
        let bytes = file.length()?;
        Ok(Self { name, file, bytes })
    }
}

/// The segment that is being written.
pub(super) struct ActiveSegment<F> {
    pub(super) segment: Segment<F>,
    pub(super) generation: u64,
    position: u64,
}

impl<F: DiskFile> ActiveSegment<F> {
    pub(super) fn new(segment: Segment<F>, generation: u64) -> Self {
        Self { segment, generation, position: 0 }
    }

    /// Whether the record belongs into this segment and not the next.
    pub(super) fn has_room(&self, record_bytes: u64) -> bool {
        self.position == 0 || self.position + record_bytes <= self.segment.bytes
    }

    /// Appends a record and makes it durable. After an error the content is unknown.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let file = &self.segment.file;
        write_fully(file, record, self.position)?;
        file.sync()?;
        self.position += record.len() as u64;
        Ok(())
    }

    /// Extends the segment if the record does not fit. After an error nothing of it is written.
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
