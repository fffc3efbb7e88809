//! A segment as a file, written with direct I/O where the file system supports it.
//!
//! The log is read only after a crash, so caching it is useless: without the page cache, a write
//! with its sync takes a quarter less time and CPU.
//!
//! Invariants:
//! - `SEGMENT-FILE-1`: partial blocks, and all writes where direct I/O is unsupported, go through
//!   the page cache; the file's content is the same.
//! - `SEGMENT-FILE-2`: a write uses at most [`PIECE_BYTES`] of buffer.

use super::DiskFile;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use triggers_protocol::lock::lock;

/// Alignment of offsets, lengths and memory for direct I/O; no disk has larger sectors.
const ALIGNMENT: usize = 4_096;
/// Maximum bytes of one direct write.
const PIECE_BYTES: usize = 1 << 20;

/// An aligned buffer that successive writes share.
#[derive(Clone, Default)]
pub(super) struct AlignedBuffer(Arc<Mutex<Vec<u8>>>);

impl AlignedBuffer {
    /// Calls `write` with an aligned copy of `bytes`, which has at most [`PIECE_BYTES`].
    fn with<T>(&self, bytes: &[u8], write: impl FnOnce(&[u8]) -> T) -> T {
        let mut memory = lock(&self.0);
        if memory.is_empty() {
            memory.resize(PIECE_BYTES + ALIGNMENT, 0);
        }
        let begin = memory.as_ptr().align_offset(ALIGNMENT);
        let aligned = &mut memory[begin..begin + bytes.len()];
        aligned.copy_from_slice(bytes);
        write(aligned)
    }
}

/// An open segment file.
pub(in crate::kv::embedded) struct SegmentFile {
    file: File,
    /// The same file opened for direct I/O; `None` if the file system does not support it.
    direct: Option<File>,
    is_direct: AtomicBool,
    buffer: AlignedBuffer,
}

impl SegmentFile {
    /// Opens an existing file.
    pub(super) fn open(path: &Path, buffer: AlignedBuffer) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let flags = OFlags::DIRECT.bits() as i32;
        let direct = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(direct) => Some(direct),
            Err(error) if is_unsupported(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { file, is_direct: AtomicBool::new(direct.is_some()), direct, buffer })
    }

    /// Opens an existing file to read it.
    pub(super) fn open_read_only(path: &Path) -> io::Result<Self> {
        let (file, buffer) = (File::open(path)?, AlignedBuffer::default());
        Ok(Self { file, is_direct: AtomicBool::new(false), direct: None, buffer })
    }

    /// The same file with another buffer.
    pub(super) fn with(self, buffer: AlignedBuffer) -> Self {
        Self { buffer, ..self }
    }

    /// Makes the content and the length durable.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Writes whole blocks with direct I/O; returns `None` if that is not possible.
    fn write_direct(&self, bytes: &[u8], offset: u64) -> Option<io::Result<usize>> {
        let direct = self.direct.as_ref().filter(|_| self.is_direct.load(Ordering::Relaxed))?;
        let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
        if piece.is_empty()
            || !piece.len().is_multiple_of(ALIGNMENT)
            || !offset.is_multiple_of(ALIGNMENT as u64)
        {
            return None;
        }
        match self.buffer.with(piece, |aligned| direct.write_at(aligned, offset)) {
            // The file system has stricter rules; nothing was written.
            Err(error) if is_unsupported(&error) => {
                self.is_direct.store(false, Ordering::Relaxed);
                None
            }
            written => Some(written),
        }
    }
}

/// Whether the error says that direct I/O, or this kind of it, is unsupported.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

impl DiskFile for SegmentFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_direct(bytes, offset).unwrap_or_else(|| self.file.write_at(bytes, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::embedded::disk::{read_file, write_fully};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn whole_and_partial_blocks_read_back_as_written(
            writes in prop::collection::vec(
                (0u64..40, 0u64..3, 1usize..6, 0usize..2, 1u8..),
                1..12,
            ),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("segment");
            const BLOCKS: usize = 50;
            let mut expected = vec![0; BLOCKS * ALIGNMENT];
            std::fs::write(&path, &expected).unwrap();
            let file = SegmentFile::open(&path, AlignedBuffer::default()).unwrap();
            prop_assert!(file.write_direct(&[0; ALIGNMENT], 1).is_none(), "a part of a block");
            // If the file opens for direct I/O, whole blocks are written with it.
            prop_assert_eq!(file.write_direct(&[0; ALIGNMENT], 0).is_some(), file.direct.is_some());
            for (block, within, blocks, more, fill) in writes {
                let offset = block * ALIGNMENT as u64 + within;
                let bytes = vec![fill; blocks * ALIGNMENT + more];
                write_fully(&file, &bytes, offset).unwrap();
                file.sync().unwrap();
                expected[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
                prop_assert_eq!(&read_file(&file).unwrap(), &expected, "SEGMENT-FILE-1");
            }
        }
    }

    #[test]
    fn a_long_write_reads_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        std::fs::write(&path, "").unwrap();
        let file = SegmentFile::open(&path, AlignedBuffer::default()).unwrap();
        let bytes: Vec<u8> =
            (0..2 * PIECE_BYTES + 3 * ALIGNMENT).map(|at| (at / 7) as u8).collect();
        write_fully(&file, &bytes, 0).unwrap();
        assert_eq!(read_file(&file).unwrap(), bytes);
    }
}
