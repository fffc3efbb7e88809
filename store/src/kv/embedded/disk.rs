//! The disk operations that the log needs, as a trait and on a real directory.
//!
//! Invariants:
//! - `DISK-1`: bytes written before a successful `sync` survive a power loss.
//! - `DISK-2`: a file that `create` returned survives a power loss with its full length.
//!
//! Bytes written after the last `sync` may survive in part: any of their sectors, in any order.

mod file;

use super::directory::{DataDirectory, FILE_MODE};
use file::{AlignedBuffer, SegmentFile};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A directory of segments.
pub(super) trait Disk: Send + Sync + 'static {
    /// Type of an open segment.
    type File: DiskFile;

    /// Names of all files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file. It may reappear after a power loss.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Creates a file of zeros. If it fails, the log ignores whatever remains.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;
}

/// An open file. Reads and writes may be short.
pub(super) trait DiskFile: Send + Sync + 'static {
    fn length(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes all written bytes durable.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a file to its end.
pub(super) fn read_file(file: &impl DiskFile) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_fully(file: &impl DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Overwrites a part of a file with zeros.
pub(super) fn write_zeros(file: &impl DiskFile, offset: u64, bytes: u64) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let zeros = vec![0; STEP.min(bytes) as usize];
    for done in (0..bytes).step_by(STEP as usize) {
        write_fully(file, &zeros[..STEP.min(bytes - done) as usize], offset + done)?;
    }
    Ok(())
}

/// The directory of segments in a data directory.
pub(super) struct LogDirectory {
    path: PathBuf,
    buffer: AlignedBuffer,
    /// Keeps the data directory locked; `None` if the log is only read.
    directory: Option<DataDirectory>,
}

const UNFINISHED: &str = ".new";

impl LogDirectory {
    /// Opens the directory and keeps the data directory locked.
    pub(super) fn open(directory: DataDirectory) -> io::Result<Self> {
        let path = directory.log();
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { path, buffer: AlignedBuffer::default(), directory: Some(directory) })
    }

    /// Gives read-only access; the caller keeps the data directory locked.
    pub(super) fn read_only(directory: &DataDirectory) -> Self {
        Self { path: directory.log(), buffer: AlignedBuffer::default(), directory: None }
    }
}

impl Disk for LogDirectory {
    type File = SegmentFile;

    fn names(&self) -> io::Result<Vec<String>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let entries = std::fs::read_dir(&self.path)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str) -> io::Result<SegmentFile> {
        let path = self.path.join(name);
        match self.directory {
            Some(_) => SegmentFile::open(&path, self.buffer.clone()),
            None => SegmentFile::open_read_only(&path),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<SegmentFile> {
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        let made = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(FILE_MODE)
                .open(&unfinished)?;
            // With a buffer of its own, so that the committer does not wait for this.
            let file = SegmentFile::open(&unfinished, AlignedBuffer::default())?;
            // Writes zeros, because overwriting reserved space involves the journal.
            write_zeros(&file, 0, bytes)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, self.path.join(name))?;
            File::open(&self.path)?.sync_all()?;
            Ok(file.with(self.buffer.clone()))
        };
        made().inspect_err(|_| {
            // If this fails too, the next start removes the file.
            let _ = std::fs::remove_file(&unfinished);
        })
    }
}
