//! The data directory: its lock, its format version, and opening LMDB inside it.
//!
//! ```text
//! LOCK       held (flock) while a process has the directory open
//! FORMAT     "triggers-data 3 log" and the log's secret; made last, so that half-made directories are made again
//! wal/       segments of the log
//! data.mdb   the pairs that are not only in the log; kept longer than its last used page (BASE-4)
//! lock.mdb   LMDB's table of readers; worthless when no process is running
//! ```
//! Invariants: `DATA-DIRECTORY-1` a directory that this version cannot read is refused and left as it is; `DATA-DIRECTORY-2` one of format 1,
//! which has no log, or of format 2, whose log has other records, becomes one of format 3 before a record is added to its log,
//! so that earlier versions refuse it from then on.

use super::PairDatabase;
use super::data_file::used_bytes;
use heed::{Env, EnvOpenOptions, WithoutTls};
use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FORMAT: &str = "triggers-data 1\n";
/// Payloads and secrets are nobody else's business.
pub(super) const FILE_MODE: u32 = 0o600;
pub(super) const DIRECTORY_MODE: u32 = 0o700;
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Readers besides those of transactions.
const READERS_OWN: u32 = 16;
/// The smallest page that LMDB uses; two of them are the least that a data file has.
const PAGE_BYTES_MIN: u64 = 4_096;

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "data directory {0} is open in another process; stop that one first, or give this one its own directory"
    )]
    Locked(PathBuf),
    /// Written by something else, or by another version.
    #[error(
        "data directory {directory} has the format {found:?}; this version writes {expected:?} and reads earlier ones; \
         it was left as it is"
    )]
    Format {
        /// The directory.
        directory: PathBuf,
        /// What its FORMAT file says.
        found: String,
        /// What this version writes.
        expected: String,
    },
    /// The data file is damaged.
    #[error("data file {file} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A segment of the log is damaged.
    #[error(
        "log segment {file} is damaged: {reason}; nothing was changed. Events that were accepted are lost with it: \
         repair the disk, or restore the data directory from a backup"
    )]
    DamagedLog {
        /// The file.
        file: PathBuf,
        /// Where, and what is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot open data directory {directory}: {source}")]
    Io {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// An open, locked data directory.
pub(super) struct DataDirectory {
    path: PathBuf,
    /// The log's secret; none while the directory has no format file.
    secret: Option<u32>,
    /// The lock goes with the file.
    _lock: File,
}

impl DataDirectory {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { directory: path.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(io)?;
        if let Some(parent) = path.canonicalize().map_err(io)?.parent() {
            // The entry of a new directory must be as durable as what is in it.
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("LOCK"))
            .map_err(io)?;
        let mut tries_left = LOCK_TRIES;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // A process that was just started has its starter's files until it begins with its own program.
                Err(TryLockError::WouldBlock) if tries_left > 0 => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
            tries_left -= 1;
        }
        let mut directory = Self { path: path.to_owned(), secret: None, _lock: lock };
        directory.secret = directory.read_format()?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// The log's secret, if there is a log.
    pub(super) fn secret(&self) -> Option<u32> {
        self.secret
    }

    /// Opens LMDB.
    pub(super) fn open_environment(
        &self,
        map_bytes_max: u64,
        readers_max: u32,
    ) -> Result<(Env<WithoutTls>, PairDatabase), OpenError> {
        let io = |source| OpenError::Io { directory: self.path.clone(), source };
        let map_bytes = usize::try_from(map_bytes_max).map_err(|e| io(std::io::Error::other(e)))?;
        self.check_meta_pages()?;
        let mut builder = EnvOpenOptions::new().read_txn_without_tls();
        // The committer reads as well, and so do backups.
        builder.map_size(map_bytes).max_readers(readers_max.saturating_add(READERS_OWN));
        #[expect(
            unsafe_code,
            reason = "LMDB maps the file; the flock makes sure that no other process truncates it"
        )]
        let env = unsafe { builder.open(&self.path) }.map_err(|error| self.open_failed(error))?;
        self.check_length(&env)?;
        let pairs = self.open_pairs(&env)?;
        Ok((env, pairs))
    }

    /// Makes the log's directory, and then the format file with the log's secret, unless both are there.
    pub(super) fn begin_log(&mut self) -> Result<u32, OpenError> {
        let io = |source| OpenError::Io { directory: self.path.clone(), source };
        if let Some(secret) = self.secret() {
            if !self.log().is_dir() {
                return Err(OpenError::Damaged {
                    file: self.log(),
                    reason: "it is not there".to_owned(),
                });
            }
            return Ok(secret);
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(self.log())
            .map_err(io)?;
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(io)?;
        // From the operating system's random source, by way of what the standard library seeds its hash maps with.
        let secret = RandomState::new().build_hasher().finish() as u32;
        write_format(&self.path, secret).map_err(io)?;
        self.secret = Some(secret);
        Ok(secret)
    }

    fn open_pairs(&self, env: &Env<WithoutTls>) -> Result<PairDatabase, OpenError> {
        let mut transaction = env.write_txn().map_err(|error| self.open_failed(error))?;
        let pairs =
            env.create_database(&mut transaction, None).map_err(|error| self.open_failed(error))?;
        transaction.commit().map_err(|error| self.open_failed(error))?;
        Ok(pairs)
    }

    fn data_file(&self) -> PathBuf {
        self.path.join("data.mdb")
    }

    fn open_failed(&self, error: heed::Error) -> OpenError {
        match error {
            heed::Error::Io(source) => OpenError::Io { directory: self.path.clone(), source },
            other => OpenError::Damaged { file: self.data_file(), reason: other.to_string() },
        }
    }

    fn read_format(&self) -> Result<Option<u32>, OpenError> {
        let io = |source| OpenError::Io { directory: self.path.clone(), source };
        let mut found = Vec::new();
        match File::open(self.path.join("FORMAT")) {
            Ok(file) => file.take(1_024).read_to_end(&mut found).map(|_| ()).map_err(io)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.holds_data()? => {
                return Ok(None);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
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

    /// Whether there is a data file with more in it than its two first pages: one that was in use.
    fn holds_data(&self) -> Result<bool, OpenError> {
        match std::fs::metadata(self.data_file()) {
            Ok(metadata) => Ok(metadata.len() > 2 * PAGE_BYTES_MIN),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(OpenError::Io { directory: self.path.clone(), source }),
        }
    }

    /// A data file cut inside its two meta pages would be read past its end through the memory map.
    fn check_meta_pages(&self) -> Result<(), OpenError> {
        match std::fs::metadata(self.data_file()) {
            Ok(metadata)
                if self.path.join("FORMAT").exists() && metadata.len() < 2 * PAGE_BYTES_MIN =>
            {
                Err(self.too_short(metadata.len(), 2 * PAGE_BYTES_MIN))
            }
            Err(error) if self.path.join("FORMAT").exists() => {
                Err(OpenError::Damaged { file: self.data_file(), reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// `BASE-4`: a file that ends before its last used page was cut after it was written.
    fn check_length(&self, env: &Env<WithoutTls>) -> Result<(), OpenError> {
        let length = env.real_disk_size().map_err(|error| self.open_failed(error))?;
        let used = used_bytes(env);
        if self.path.join("FORMAT").exists() && length < used {
            return Err(self.too_short(length, used));
        }
        Ok(())
    }

    fn too_short(&self, length: u64, used: u64) -> OpenError {
        let reason = format!("it has {length} bytes and {used} are in use: its end was cut off");
        OpenError::Damaged { file: self.data_file(), reason }
    }
}

/// Says that a directory is one of this version's, with the secret of its log.
fn write_format(directory: &Path, secret: u32) -> std::io::Result<()> {
    let (path, new) = (directory.join("FORMAT"), directory.join("FORMAT.new"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
    file.write_all(format_text(secret).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    File::open(directory)?.sync_all()
}

/// The format file: with another secret than its own, a log would look empty.
fn format_text(secret: u32) -> String {
    let text = format!("{FORMAT}{secret:08x}");
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
}
