//! The data directory: its lock, its format file, and opening LMDB in it.
//!
//! ```text
//! LOCK       held (flock) while a process has the directory open
//! FORMAT     "triggers-data 1" and the log's secret; written last, so that a start can repeat
//!            the creation of a half-made directory
//! wal/       segments of the log
//! data.mdb   LMDB: the flushed pairs; longer than its last used page (BASE-4)
//! lock.mdb   LMDB's table of readers; worthless when no process is running
//! ```
//! Invariant: `DATA-DIRECTORY-1`: a directory of an unknown format is rejected and left as it is.

use super::PairDatabase;
use super::data_file::used_bytes;
use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FORMAT: &str = "triggers-data 1\n";
/// Files hold payloads and secrets, so only the owner may read them.
pub(super) const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// LMDB readers for the committer and backups, besides those of transactions.
const READERS_OWN: u32 = 16;
/// LMDB's smallest page size. A data file has at least two pages.
const PAGE_BYTES_MIN: u64 = 4_096;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open.
    #[error(
        "data directory {0} is open in another process; stop that process or configure another \
         directory"
    )]
    Locked(PathBuf),
    /// The format is not that of this version.
    #[error(
        "data directory {directory} has format {found:?}; this version supports only {expected:?}; \
         nothing was changed"
    )]
    Format {
        /// Path of the directory.
        directory: PathBuf,
        /// Content of its format file.
        found: String,
        /// The format that this version reads and writes.
        expected: String,
    },
    /// The data file is damaged.
    #[error("data file {file} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// Path of the file.
        file: PathBuf,
        /// Description of the damage.
        reason: String,
    },
    /// A segment of the log is damaged.
    #[error(
        "log segment {file} is damaged: {reason}; nothing was changed. The segment holds accepted \
         events: repair the disk, or restore the data directory from a backup"
    )]
    DamagedLog {
        /// Path of the segment.
        file: PathBuf,
        /// Position and description of the damage.
        reason: String,
    },
    /// The operating system returned an error.
    #[error("cannot open data directory {directory}: {source}")]
    Io {
        /// Path of the directory.
        directory: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

/// A data directory that this process has locked.
pub(super) struct DataDirectory {
    path: PathBuf,
    /// The log's secret; `None` while the directory has no format file.
    secret: Option<u32>,
    is_read_only: bool,
    /// Dropping the file releases the lock. `None` for a copy that no process has opened yet.
    _lock: Option<File>,
}

impl DataDirectory {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { directory: path.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(io)?;
        if let Some(parent) = path.canonicalize().map_err(io)?.parent() {
            // A new directory is durable only once its entry in the parent is.
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("LOCK"))
            .map_err(io)?;
        Self::lock(path, Some(lock), false)
    }

    /// Opens a directory to read it, without creating or changing anything.
    pub(super) fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let lock = match File::open(path.join("LOCK")) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(OpenError::Io { directory: path.to_owned(), source }),
        };
        Self::lock(path, lock, true)
    }

    fn lock(path: &Path, lock: Option<File>, is_read_only: bool) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { directory: path.to_owned(), source };
        let mut tries_left = LOCK_TRIES;
        while let Some(lock) = &lock {
            match if is_read_only { lock.try_lock_shared() } else { lock.try_lock() } {
                Ok(()) => break,
                // Between fork and exec, a child process holds its parent's files for a moment.
                Err(TryLockError::WouldBlock) if tries_left > 0 => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
            tries_left -= 1;
        }
        let mut directory = Self { path: path.to_owned(), secret: None, is_read_only, _lock: lock };
        directory.secret = directory.read_format()?;
        Ok(directory)
    }

    /// Directory of the log's segments.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// The log's secret; `None` if there is no log yet.
    pub(super) fn secret(&self) -> Option<u32> {
        self.secret
    }

    /// Whether nothing in the directory may change.
    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Opens the LMDB environment.
    pub(super) fn open_environment(
        &self,
        map_bytes_max: u64,
        readers_max: u32,
    ) -> Result<(Env<WithoutTls>, PairDatabase), OpenError> {
        let map_bytes = usize::try_from(map_bytes_max)
            .map_err(|error| self.io(std::io::Error::other(error)))?;
        self.check_meta_pages()?;
        let mut builder = EnvOpenOptions::new().read_txn_without_tls();
        builder.map_size(map_bytes).max_readers(readers_max.saturating_add(READERS_OWN));
        if self.is_read_only {
            #[expect(
                unsafe_code,
                reason = "the flock keeps writers away, and nothing is written here"
            )]
            // LMDB's own lock would create `lock.mdb`.
            unsafe {
                builder.flags(EnvFlags::READ_ONLY | EnvFlags::NO_LOCK)
            };
        }
        #[expect(
            unsafe_code,
            reason = "LMDB maps the file; the flock makes sure that no other process truncates it"
        )]
        let env = unsafe { builder.open(&self.path) }.map_err(|error| self.open_failed(error))?;
        self.check_length(&env)?;
        let pairs = self.open_pairs(&env)?;
        Ok((env, pairs))
    }

    /// Creates the log's directory and the format file, unless they exist; returns the secret.
    pub(super) fn begin_log(&mut self) -> Result<u32, OpenError> {
        if let Some(secret) = self.secret() {
            if !self.log().is_dir() {
                return Err(OpenError::Damaged {
                    file: self.log(),
                    reason: "the log's directory is missing".to_owned(),
                });
            }
            return Ok(secret);
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(self.log())
            .map_err(|source| self.io(source))?;
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| self.io(source))?;
        // Hash maps of the standard library are seeded from the operating system's random source.
        let secret = RandomState::new().build_hasher().finish() as u32;
        write_format(&self.path, secret).map_err(|source| self.io(source))?;
        self.secret = Some(secret);
        Ok(secret)
    }

    fn open_pairs(&self, env: &Env<WithoutTls>) -> Result<PairDatabase, OpenError> {
        if self.is_read_only {
            let transaction = env.read_txn().map_err(|error| self.open_failed(error))?;
            let pairs = env.open_database(&transaction, None);
            let pairs = pairs.map_err(|error| self.open_failed(error))?.ok_or_else(|| {
                OpenError::Damaged { file: self.data_file(), reason: "it has no pairs".into() }
            })?;
            // The handle stays open only if the transaction is committed.
            transaction.commit().map_err(|error| self.open_failed(error))?;
            return Ok(pairs);
        }
        let mut transaction = env.write_txn().map_err(|error| self.open_failed(error))?;
        let pairs =
            env.create_database(&mut transaction, None).map_err(|error| self.open_failed(error))?;
        transaction.commit().map_err(|error| self.open_failed(error))?;
        Ok(pairs)
    }

    fn io(&self, source: std::io::Error) -> OpenError {
        OpenError::Io { directory: self.path.clone(), source }
    }

    fn data_file(&self) -> PathBuf {
        self.path.join("data.mdb")
    }

    fn open_failed(&self, error: heed::Error) -> OpenError {
        match error {
            heed::Error::Io(source) => self.io(source),
            other => OpenError::Damaged { file: self.data_file(), reason: other.to_string() },
        }
    }

    fn read_format(&self) -> Result<Option<u32>, OpenError> {
        let mut found = Vec::new();
        match File::open(self.path.join("FORMAT")) {
            Ok(file) => file
                .take(1_024)
                .read_to_end(&mut found)
                .map(|_| ())
                .map_err(|source| self.io(source))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.holds_data()? => {
                return Ok(None);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.io(error)),
        }
        let found = String::from_utf8_lossy(&found);
        let secret = found
            .strip_prefix(FORMAT)
            .and_then(|rest| u32::from_str_radix(rest.get(..8)?, 16).ok())
            .filter(|secret| found == format_text(*secret));
        secret.map(Some).ok_or_else(|| OpenError::Format {
            directory: self.path.clone(),
            found: found.trim().into(),
            expected: FORMAT.trim().into(),
        })
    }

    /// Whether the data file is longer than its two initial pages, and so was in use.
    fn holds_data(&self) -> Result<bool, OpenError> {
        match std::fs::metadata(self.data_file()) {
            Ok(metadata) => Ok(metadata.len() > 2 * PAGE_BYTES_MIN),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.io(source)),
        }
    }

    /// Rejects a file that is cut inside its two meta pages, past whose end LMDB would read.
    fn check_meta_pages(&self) -> Result<(), OpenError> {
        if self.secret.is_none() {
            return Ok(());
        }
        let (file, least) = (self.data_file(), 2 * PAGE_BYTES_MIN);
        match std::fs::metadata(&file) {
            Ok(metadata) if metadata.len() < least => Err(self.too_short(metadata.len(), least)),
            Ok(_) => Ok(()),
            Err(error) => Err(OpenError::Damaged { file, reason: error.to_string() }),
        }
    }

    /// Rejects a data file that ends before its last used page (`BASE-4`).
    fn check_length(&self, env: &Env<WithoutTls>) -> Result<(), OpenError> {
        let length = env.real_disk_size().map_err(|error| self.open_failed(error))?;
        let used = used_bytes(env);
        if self.secret.is_some() && length < used {
            return Err(self.too_short(length, used));
        }
        Ok(())
    }

    fn too_short(&self, length: u64, used: u64) -> OpenError {
        let reason = format!("it is truncated: it has {length} bytes, but {used} are in use");
        OpenError::Damaged { file: self.data_file(), reason }
    }
}

/// Writes the format file, durably and at once.
fn write_format(directory: &Path, secret: u32) -> std::io::Result<()> {
    let (path, new) = (directory.join("FORMAT"), directory.join("FORMAT.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
    file.write_all(format_text(secret).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    File::open(directory)?.sync_all()
}

/// Content of the format file. The checksum protects the secret: with another, a log looks empty.
fn format_text(secret: u32) -> String {
    let text = format!("{FORMAT}{secret:08x}");
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
}
