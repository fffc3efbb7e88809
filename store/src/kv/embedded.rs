//! The embedded engine: LMDB behind one committer thread, for a node that needs nothing else.
//!
//! ```text
//! transaction ── reads ──▶ LMDB snapshot (memory map, no lock)
//!      └─ commit ──▶ queue ──▶ committer thread: drain what waits, check each, apply, one fsync, answer all
//! ```
//! Invariants: `EMBEDDED-1` one process at a time has a data directory open (`LOCK`); `EMBEDDED-2` a commit is answered
//! only after fdatasync; `EMBEDDED-3` after the first I/O error of a commit nothing is written any more until a restart;
//! `EMBEDDED-4` the data file always reaches past its last used page, so that a shorter one is known to be cut.
//! `EMBEDDED-5` the last part of the file is kept for commits that do not grow what is stored, so that a full store can
//! still be acknowledged and deleted from.
//! Conflicts are found by value: the committer repeats a transaction's reads and compares what they give.
//! It does not checksum pages: a disk that changes them unnoticed is not noticed here either.

mod committer;
mod directory;
mod residency;
mod transaction;

pub use directory::OpenError;

use super::{BoxFuture, Engine, Fault, StoreError, Transaction};
use committer::Commit;
use directory::DataDirectory;
use heed::types::Bytes as Raw;
use heed::{Database, Env, WithoutTls};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use transaction::EmbeddedTransaction;

/// The key space: raw bytes to raw bytes.
type Pairs = Database<Raw, Raw>;

/// How to open a data directory.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Where the data is.
    pub directory: PathBuf,
    /// The size that the data file never exceeds, in bytes, a multiple of the page size. Only address space is taken.
    pub map_bytes_max: u64,
    /// Commits that may wait for the committer thread; further ones wait for a place.
    pub commit_queue_max: usize,
    /// Commits that share one fsync at most.
    pub group_transactions_max: usize,
    /// Bytes of commits that share one fsync at most.
    pub group_bytes_max: usize,
    /// Transactions that may read at the same time.
    pub readers_max: u32,
}

impl EmbeddedOptions {
    /// Default limits for a directory.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self {
            directory: directory.as_ref().to_owned(),
            map_bytes_max: 64 << 30,
            commit_queue_max: 8_192,
            group_transactions_max: 1_024,
            group_bytes_max: 8 << 20,
            readers_max: 1_024,
        }
    }
}

/// The engine. Dropping it finishes what waits and closes the directory.
pub struct EmbeddedEngine {
    shared: Arc<Shared>,
    commits: Option<mpsc::Sender<Commit>>,
    committer: Option<std::thread::JoinHandle<()>>,
}

/// What transactions and the committer thread have in common.
struct Shared {
    env: Env<WithoutTls>,
    pairs: Pairs,
    /// Why writing stopped (`EMBEDDED-3`).
    stopped: OnceLock<String>,
    /// Held for its lock.
    _directory: DataDirectory,
}

impl EmbeddedEngine {
    /// Opens a data directory, or makes one.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it open, its format is another one, or its files are damaged.
    pub fn open(options: &EmbeddedOptions) -> Result<Self, OpenError> {
        let directory = DataDirectory::open(&options.directory)?;
        let (env, pairs) = directory.open_environment(options)?;
        let shared = Arc::new(Shared { env, pairs, stopped: OnceLock::new(), _directory: directory });
        let (commits, queue) = mpsc::channel(options.commit_queue_max);
        let committer = committer::start(shared.clone(), queue, options)?;
        Ok(Self { shared, commits: Some(commits), committer: Some(committer) })
    }
}

impl Engine for EmbeddedEngine {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        let commits = self.commits.as_ref().expect("the sender is there until the engine is dropped");
        let transaction = EmbeddedTransaction::new(self.shared.clone(), commits.downgrade());
        Box::pin(std::future::ready(Ok(Box::new(transaction) as Box<dyn Transaction>)))
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.committer.as_ref().is_none_or(std::thread::JoinHandle::is_finished) {
            return Err(StoreError::fatal(Fault::Stopped, "the committer thread has ended"));
        }
        self.shared.check_writable()
    }
}

impl Shared {
    fn check_writable(&self) -> Result<(), StoreError> {
        match self.stopped.get() {
            Some(reason) => Err(StoreError::fatal(Fault::Stopped, reason.clone())),
            None => Ok(()),
        }
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        // The thread ends when the last sender is gone: this one, and those of commits not yet queued.
        drop(self.commits.take());
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer thread had panicked");
        }
    }
}

/// A failed LMDB call as a store error of the right class.
fn store_error(error: heed::Error) -> StoreError {
    use heed::MdbError;
    match error {
        heed::Error::Mdb(MdbError::MapFull) => {
            StoreError::fatal(Fault::Full, "the data file has reached its configured maximum")
        }
        heed::Error::Mdb(MdbError::ReadersFull) => StoreError::Retryable("too many transactions read at once".into()),
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound | MdbError::Invalid) => {
            StoreError::fatal(Fault::Corrupt, error.to_string())
        }
        heed::Error::Io(error) if is_full(&error) => StoreError::fatal(Fault::Full, error.to_string()),
        other => StoreError::fatal(Fault::Stopped, other.to_string()),
    }
}

/// No space, quota used up, or the process's file size limit.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
