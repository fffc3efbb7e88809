//! The embedded engine: a log, what is in it and not yet flushed in memory, and LMDB below, for a node that needs nothing else.
//!
//! ```text
//! transaction ── reads ──▶ reader: tables in memory over an LMDB snapshot
//!      └─ commit ──▶ queue ──▶ committer: drain what waits, check each, table, one record, one fdatasync, publish, answer all
//!                                 segment full ──▶ sealed table ──▶ flusher ──▶ LMDB; the segment is free again
//! start: recovery reads back what the log has and LMDB has not
//! ```
//! Invariants: `EMBEDDED-1` one process at a time has a data directory open (`LOCK`); `EMBEDDED-2` a commit is answered
//! only after fdatasync; `EMBEDDED-3` after the first I/O error nothing is written any more until a restart; `EMBEDDED-4` memory
//! and log have a most, and writers slow down before it is reached.
//! The files of `embedded/` are in the order of a commit's way: `transaction`, `committer`, `record`, `segment`, `memory`, `reader`,
//! `merge`, `flusher`, `base`; what they share is in `shared`; then `recovery`, `disk`, `directory`, `residency`, `backup`, `inspect`.
//! Conflicts are found by sequence: a commit fails if a key that it has read was written after its snapshot.

mod backup;
mod base_store;
mod committer;
#[cfg(test)]
mod crashes;
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
mod record;
mod recovery;
mod residency;
mod segment;
mod snapshot;
mod transaction;

pub use directory::OpenError;
pub use inspect::{Inspection, inspect};
pub use recovery::RecoveryReport;

use super::{BoxFuture, Copied, Engine, Fault, StoreError, Transaction};
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

/// The key space: raw bytes to raw bytes.
type PairDatabase = Database<Raw, Raw>;
type EngineCore = engine_core::EngineCore<LogDirectory, LmdbStore>;
type EmbeddedSnapshot = snapshot::EmbeddedSnapshot<LogDirectory, LmdbStore>;

/// How to open a data directory.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Where the data is.
    pub directory: PathBuf,
    /// The size that the data file never exceeds, in bytes, a multiple of the page size. Only address space is taken.
    pub map_bytes_max: u64,
    /// Bytes of the log, in [`SEGMENTS_MAX`] segments; what is in them is in memory as well until it is flushed. Free
    /// segments of another size are made anew at the start.
    pub log_bytes_max: u64,
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
    fn log(&self) -> LogOptions {
        let segment_bytes =
            (self.log_bytes_max / SEGMENTS_MAX as u64).next_multiple_of(record::BLOCK_BYTES as u64);
        let readers_max = self.readers_max as usize;
        LogOptions {
            segment_bytes,
            segments_max: SEGMENTS_MAX,
            flush_segments: FLUSH_SEGMENTS,
            readers_max,
        }
    }
}

/// Segments of a log at most.
pub const SEGMENTS_MAX: usize = 24;
/// So many are flushed at once: a key that is set and soon cleared, or set again, never reaches the data file, or only once.
const FLUSH_SEGMENTS: usize = 6;

/// The engine. Dropping it finishes what waits, flushes the log, and closes the directory.
pub struct EmbeddedEngine {
    core: Arc<EngineCore>,
    commits: Option<mpsc::Sender<CommitterMessage>>,
    committer: Option<JoinHandle<()>>,
    flusher: Option<JoinHandle<()>>,
    recovered: RecoveryReport,
    map_bytes_max: u64,
    /// It ends when the flusher has.
    flushed: watch::Receiver<()>,
}

impl EmbeddedEngine {
    /// Opens a data directory, or makes one. What the log has that the data file has not is read back.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it open, its format is another one, or its files are damaged.
    pub fn open(options: &EmbeddedOptions) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { directory: options.directory.clone(), source };
        let mut directory = DataDirectory::open(&options.directory)?;
        let (env, pairs) =
            directory.open_environment(options.map_bytes_max, options.readers_max)?;
        let base = LmdbStore::new(env, pairs, options.map_bytes_max)?;
        let secret = directory.begin_log()?;
        let log = LogDirectory::open(directory).map_err(failed)?;
        let OpenedLog { core, committer, recovered } =
            recovery::open(log, base, options.log(), secret)
                .map_err(|error| open_error(&options.directory, error))?;
        if recovered != RecoveryReport::default() {
            let RecoveryReport { records, bytes, segments, ref cut } = recovered;
            tracing::info!(records, bytes, segments, ?cut, "the log was read back");
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

    /// What was read back from the log when the directory was opened.
    pub fn recovered(&self) -> &RecoveryReport {
        &self.recovered
    }

    fn transaction(&self, visibility: Visibility) -> Box<dyn Transaction> {
        let commits =
            self.commits.as_ref().expect("the sender is there until the engine is dropped");
        Box::new(EmbeddedTransaction::new(self.core.clone(), commits.downgrade(), visibility))
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
        if self.committer.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(StoreError::fatal(Fault::Stopped, "the committer thread has ended"));
        }
        if self.flusher.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(StoreError::fatal(Fault::Stopped, "the flusher thread has ended"));
        }
        self.core.check_writable()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(commits) = &self.commits {
                // A committer that is gone has closed already.
                let _ = commits.send(CommitterMessage::Close).await;
            }
            let mut flushed = self.flushed.clone();
            while flushed.changed().await.is_ok() {}
        })
    }

    fn backup(&self, target: PathBuf) -> BoxFuture<'_, Result<Copied, StoreError>> {
        let (core, map_bytes_max) = (self.core.clone(), self.map_bytes_max);
        let (done, copied) = oneshot::channel();
        let copy = move || {
            // Whoever asked may be gone; the copy stands all the same.
            let _ = done.send(backup::copy(&core, &target, map_bytes_max));
        };
        let spawned = std::thread::Builder::new().name("backup".into()).spawn(copy);
        Box::pin(async move {
            spawned.map_err(|error| StoreError::fatal(Fault::Stopped, error.to_string()))?;
            copied.await.map_err(|_| StoreError::fatal(Fault::Stopped, "the copy ended early"))?
        })
    }
}

impl Drop for EmbeddedEngine {
    fn drop(&mut self) {
        // The committer ends when the last sender is gone: this one, and those of commits not yet queued.
        drop(self.commits.take());
        if let Some(committer) = self.committer.take()
            && committer.join().is_err()
        {
            tracing::error!("the committer thread had panicked");
        }
        // After a committer that has panicked.
        self.core.close();
        if let Some(flusher) = self.flusher.take()
            && flusher.join().is_err()
        {
            tracing::error!("the flusher thread had panicked");
        }
    }
}

/// No space, quota used up, or the process's file size limit.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
