//! The embedded engine, for a single node: a write-ahead log, memtables in memory, and LMDB below.
//!
//! ```text
//! transaction ── reads ──▶ snapshot: memtables over an LMDB snapshot
//!      └─ commit ──▶ queue ──▶ committer: check conflicts, memtable, record, fdatasync, answer
//!                                 segment full ──▶ sealed memtable ──▶ flusher ──▶ LMDB
//! start: recovery reads back the records that LMDB does not have
//! ```
//! Invariants:
//! - `EMBEDDED-1`: only one process at a time has a data directory open (`LOCK`).
//! - `EMBEDDED-2`: a commit is answered only after fdatasync.
//! - `EMBEDDED-3`: after the first I/O error the engine writes nothing until a restart.
//! - `EMBEDDED-4`: memory and log are bounded, and writers slow down before the bound is reached.
//!
//! Conflicts are found by sequence: a commit fails if a key that it read was written after its
//! snapshot.
//! `engine_core` is the state that the modules share.

mod backup;
mod base_store;
mod committer;
mod data_file;
mod directory;
mod disk;
mod engine_core;
mod flusher;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod inspect;
mod memtable;
mod merge;
mod present_pairs;
mod record;
mod recovery;
mod residency;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;
mod transaction;

pub use directory::OpenError;
pub use inspect::{Inspection, inspect};
pub use recovery::RecoveryReport;

use super::transaction::OverlayTransaction;
use super::{BackupSize, BoxFuture, Engine, Fault, StoreError, Transaction};
use base_store::LmdbStore;
use committer::CommitterMessage;
use directory::DataDirectory;
use disk::LogDirectory;
use engine_core::LogOptions;
use heed::Database;
use heed::types::Bytes as Raw;
use recovery::{OpenedLog, RecoveryError};
use snapshot::Visibility;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};
use transaction::EmbeddedTransaction;

/// LMDB's database of raw keys and values.
type PairDatabase = Database<Raw, Raw>;
type LmdbCore = engine_core::EngineCore<LogDirectory, LmdbStore>;
type LmdbSnapshot = snapshot::EmbeddedSnapshot<LogDirectory, LmdbStore>;

/// Location and limits of a data directory.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Directory of the data; created if absent.
    pub directory: PathBuf,
    /// Maximum bytes of the data file, a multiple of the page size. Reserves address space only.
    pub map_bytes_max: u64,
    /// Maximum bytes of the log, split into [`SEGMENTS_MAX`] segments. Unflushed pairs are also in
    /// memory. A start replaces free segments of another size.
    pub log_bytes_max: u64,
    /// Commits that may wait for the committer; further callers wait to enqueue theirs.
    pub commit_queue_max: usize,
    /// Maximum number of commits that share one fdatasync.
    pub group_transactions_max: usize,
    /// Maximum bytes of commits that share one fdatasync.
    pub group_bytes_max: usize,
    /// Maximum number of transactions that read at the same time.
    pub readers_max: u32,
}

impl EmbeddedOptions {
    fn log(&self) -> LogOptions {
        let segment_bytes = self.log_bytes_max / SEGMENTS_MAX as u64;
        LogOptions {
            segment_bytes: segment_bytes.next_multiple_of(record::BLOCK_BYTES as u64),
            segments_max: SEGMENTS_MAX,
            flush_segments: FLUSH_SEGMENTS,
            readers_max: self.readers_max as usize,
        }
    }
}

/// Maximum number of segments in a log.
pub const SEGMENTS_MAX: usize = 24;
/// Segments flushed together: a key that is soon cleared or set again reaches LMDB at most once.
const FLUSH_SEGMENTS: usize = 6;

/// The embedded engine. Dropping it finishes queued commits, flushes the log and closes the
/// directory.
pub struct EmbeddedEngine {
    core: Arc<LmdbCore>,
    commits: Option<mpsc::Sender<CommitterMessage>>,
    committer: Option<JoinHandle<()>>,
    flusher: Option<JoinHandle<()>>,
    recovered: RecoveryReport,
    map_bytes_max: u64,
    /// Closes when the flusher has ended.
    flushed: watch::Receiver<()>,
}

impl EmbeddedEngine {
    /// Opens or creates a data directory, and reads back the records that LMDB does not have.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it open, or its format or files are not usable.
    pub fn open(options: &EmbeddedOptions) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { directory: options.directory.clone(), source };
        let mut directory = DataDirectory::open(&options.directory)?;
        let base = LmdbStore::open(&directory, options.map_bytes_max, options.readers_max)?;
        let secret = directory.begin_log()?;
        let log = LogDirectory::open(directory).map_err(failed)?;
        let OpenedLog { core, committer, recovered } =
            recovery::open(log, base, options.log(), secret)
                .map_err(|error| open_error(&options.directory, error))?;
        if recovered != RecoveryReport::default() {
            let RecoveryReport { records, bytes, segments, ref cut } = recovered;
            tracing::info!(records, bytes, segments, ?cut, "read the log back");
        }
        let map_bytes_max = options.map_bytes_max;
        let (commits, queue) = mpsc::channel(options.commit_queue_max);
        let (transactions_max, bytes_max) =
            (options.group_transactions_max, options.group_bytes_max);
        let committer = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(queue, transactions_max, bytes_max))
            .map_err(failed)?;
        let (flusher_core, weak) = (core.clone(), commits.downgrade());
        let (until_flushed, flushed) = watch::channel(());
        let flusher = std::thread::Builder::new()
            .name("flusher".into())
            .spawn(move || {
                let _until_flushed = until_flushed;
                flusher::run(&flusher_core, &weak);
            })
            .map_err(failed)?;
        Ok(Self {
            core,
            commits: Some(commits),
            committer: Some(committer),
            flusher: Some(flusher),
            recovered,
            map_bytes_max,
            flushed,
        })
    }

    /// What the engine read back from the log when it opened.
    pub fn recovered(&self) -> &RecoveryReport {
        &self.recovered
    }

    fn transaction(&self, visibility: Visibility) -> Box<dyn Transaction> {
        let commits =
            self.commits.as_ref().expect("the sender is there until the engine is dropped");
        let core = self.core.clone();
        let reads = EmbeddedTransaction::new(core, commits.downgrade(), visibility);
        OverlayTransaction::boxed(reads)
    }
}

fn open_error(directory: &Path, error: RecoveryError) -> OpenError {
    match error {
        RecoveryError::Damaged { file, reason } => {
            OpenError::DamagedLog { file: directory.join("wal").join(file), reason }
        }
        RecoveryError::Io { file, source } => OpenError::Io {
            directory: directory.to_owned(),
            source: std::io::Error::new(source.kind(), format!("{file}: {source}")),
        },
        RecoveryError::Store(error) => {
            OpenError::Damaged { file: directory.join("data.mdb"), reason: error.to_string() }
        }
    }
}

impl Engine for EmbeddedEngine {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(std::future::ready(Ok(self.transaction(Visibility::Durable))))
    }

    fn begin_pipelined(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(std::future::ready(Ok(self.transaction(Visibility::Ordered))))
    }

    fn health(&self) -> Result<(), StoreError> {
        for (name, thread) in [("committer", &self.committer), ("flusher", &self.flusher)] {
            if thread.as_ref().is_none_or(JoinHandle::is_finished) {
                let reason = format!("the {name} thread has ended");
                return Err(StoreError::fatal(Fault::Stopped, reason));
            }
        }
        self.core.check_writable()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(commits) = &self.commits {
                // If the committer has ended, the engine is closed already.
                let _ = commits.send(CommitterMessage::Close).await;
            }
            let mut flushed = self.flushed.clone();
            while flushed.changed().await.is_ok() {}
        })
    }

    fn backup(&self, target: PathBuf) -> BoxFuture<'_, Result<BackupSize, StoreError>> {
        let (core, map_bytes_max) = (self.core.clone(), self.map_bytes_max);
        let (done, copied) = oneshot::channel();
        let copy = move || {
            // The caller may have stopped waiting; the copy is valid all the same.
            let _ = done.send(backup::copy(&core, &target, map_bytes_max));
        };
        let spawned = std::thread::Builder::new().name("backup".into()).spawn(copy);
        Box::pin(async move {
            spawned.map_err(|error| StoreError::fatal(Fault::Stopped, error.to_string()))?;
            copied
                .await
                .map_err(|_| StoreError::fatal(Fault::Stopped, "the backup thread panicked"))?
        })
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        // The committer ends when all senders are gone: this one and those of sending transactions.
        drop(self.commits.take());
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer thread panicked");
        }
        // If the committer panicked, it did not notify the flusher.
        self.core.close();
        if let Some(flusher) = self.flusher.take()
            && flusher.join().is_err()
        {
            tracing::error!("the flusher thread panicked");
        }
    }
}

/// The error of a write that found no room on the disk.
fn disk_full(what: &str, error: &std::io::Error) -> StoreError {
    StoreError::fatal(Fault::Full, format!("the disk is full: {what}: {error}"))
}

/// The disk, the quota or the process's file size limit is exhausted.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
