//! The transactional, ordered key-value store, and the engines that implement it.
//!
//! ```text
//! Store::run ──▶ Engine::begin ──▶ Transaction: reads, writes ──▶ commit
//!                ├── embedded     a log, memtables, LMDB below; one node
//!                ├── postgres     a PostgreSQL database that nodes share (feature `postgres`)
//!                ├── foundationdb a FoundationDB cluster that nodes share (feature `foundationdb`)
//!                └── simulated    in memory, with seeded faults; tests
//! ```
//! Invariants:
//! - `KV-1`: transactions are strictly serializable: each behaves as if it ran alone at its commit.
//! - `KV-2`: a transaction reads its own writes.
//! - `KV-3`: when `commit` returns `Ok`, the writes are durable.
//! - `KV-4`: `MaybeCommitted` is the only error after which a write may exist.
//! - `KV-5`: all engines enforce the same [`limits`].
//!
//! There are no watches and no versionstamps, so that every engine runs the same transactions.

pub mod embedded;
mod error;
#[cfg(feature = "foundationdb")]
pub mod foundationdb;
pub mod limits;
mod overlay;
#[cfg(feature = "postgres")]
pub mod postgres;
mod prefetch;
mod range;
pub mod simulated;
mod store;
mod transaction;

pub use error::{Fault, StoreError};
pub use prefetch::Prefetch;
pub(crate) use range::covered_by;
pub use range::{KeyRange, Page, RangeRead};
pub use store::{RetryClass, Run, Store};

use bytes::Bytes;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// A boxed future, which makes engines interchangeable at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Callback that runs once a commit has its position in the commit order; see
/// [`Transaction::commit_pipelined`].
pub type Ordered = Box<dyn FnOnce() + Send>;

/// An implementation of the key-value store.
pub trait Engine: Send + Sync + 'static {
    /// Begins a transaction on the newest committed state.
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>>;

    /// Begins a transaction that also sees commits that are ordered but not yet durable, if the
    /// engine can tell them apart.
    ///
    /// Its own commit returns after those commits are durable, even if it writes nothing, and fails
    /// if they do not become durable. Until then the caller must not reveal what it has read.
    fn begin_pipelined(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        self.begin()
    }

    /// Returns the reason if the engine cannot write. Must not block.
    fn health(&self) -> Result<(), StoreError>;

    /// Finishes queued commits, rejects new ones, and does the next start's work in advance.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Copies all committed pairs into a new directory on this machine, while work goes on.
    ///
    /// # Errors
    /// `Fatal` if the engine keeps its data elsewhere, or if the copy cannot be made.
    fn backup(&self, _target: PathBuf) -> BoxFuture<'_, Result<BackupSize, StoreError>> {
        let reason = "use the database's own backups";
        Box::pin(std::future::ready(Err(StoreError::fatal(Fault::Unsupported, reason))))
    }
}

/// Size of a finished backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupSize {
    /// Number of copied pairs.
    pub pairs: u64,
    /// Total bytes of the copied keys and values.
    pub bytes: u64,
}

/// One transaction. Dropping it without `commit` has no effect on the store.
///
/// The engine checks plain reads again at commit: if another commit changed one, the commit fails
/// with `Retryable`. It does not check `…_snapshot` reads.
pub trait Transaction: Send {
    /// Reads the value of a key.
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// As [`Transaction::get`], without a read conflict.
    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// Reads the values of two keys. Engines behind a network send both requests at once.
    fn get_pair<'a>(
        &'a mut self,
        [first, second]: [&'a [u8]; 2],
        is_checked: bool,
    ) -> BoxFuture<'a, Result<[Option<Bytes>; 2], StoreError>> {
        Box::pin(async move {
            Ok(match is_checked {
                true => [self.get(first).await?, self.get(second).await?],
                false => [self.get_snapshot(first).await?, self.get_snapshot(second).await?],
            })
        })
    }

    /// Whether each read is a round trip over a network, so that [`Transaction::prefetch`] pays.
    fn is_remote(&self) -> bool {
        false
    }

    /// Reads keys and pages all at once, so that later reads of them take no round trip.
    ///
    /// It adds no read conflict: that is left to the later reads. Engines that are not remote
    /// ignore it.
    fn prefetch(&mut self, _reads: Prefetch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reads one page of a range in key order, or in reverse.
    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// As [`Transaction::range`], without a read conflict.
    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Sets the value of a key.
    fn set(&mut self, key: &[u8], value: &[u8]);

    /// As [`Transaction::set`], but lets the engine keep the buffers instead of copying them.
    fn set_owned(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(&key, &value);
    }

    /// Clears one key.
    fn clear(&mut self, key: &[u8]);

    /// Clears every key of a range.
    fn clear_range(&mut self, range: KeyRange);

    /// Adds to the little-endian `i64` under a key (0 if absent; wraps), without a read conflict.
    fn add(&mut self, key: &[u8], delta: i64);

    /// Makes the commit fail if another commit changes anything in the range.
    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Approximate bytes of keys and values that the commit would carry.
    fn approximate_size(&self) -> usize;

    /// Commits. A transaction without writes commits without touching the disk.
    ///
    /// # Errors
    /// `Retryable` on a conflict; `MaybeCommitted` if the outcome is unknown; `Fatal` with a
    /// [`Fault`] otherwise.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// As [`Transaction::commit`], and calls `ordered` once transactions of
    /// [`Engine::begin_pipelined`] see this commit.
    ///
    /// That moment is before the commit is durable. An engine that does not know it never calls
    /// `ordered`. If the commit then does not become durable, the engine rejects all further
    /// commits. `ordered` must return at once; it may run after the caller has stopped waiting.
    fn commit_pipelined(
        self: Box<Self>,
        ordered: Ordered,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        drop(ordered);
        self.commit()
    }
}

/// Decodes the little-endian `i64` that [`Transaction::add`] keeps; an absent value is 0.
///
/// # Errors
/// `Fatal(Corrupt)` if the value does not have eight bytes.
pub fn decode_counter(value: Option<&[u8]>) -> Result<i64, StoreError> {
    match value {
        None => Ok(0),
        Some(bytes) => bytes.try_into().map(i64::from_le_bytes).map_err(|_| {
            let reason = format!("a counter must have 8 bytes, but has {}", bytes.len());
            StoreError::fatal(Fault::Corrupt, reason)
        }),
    }
}

/// The value of a counter after [`Transaction::add`].
fn add_to_counter(value: Option<&[u8]>, delta: i64) -> Result<Bytes, StoreError> {
    let sum = decode_counter(value)?.wrapping_add(delta);
    Ok(Bytes::copy_from_slice(&sum.to_le_bytes()))
}
