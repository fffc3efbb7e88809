//! The transactional, ordered key-value store that everything durable stands on, and its engines.
//!
//! ```text
//! Store::run ──▶ Engine::begin ──▶ Transaction: reads, writes ──▶ commit
//!                ├── embedded     a log, tables in memory, LMDB below; one node
//!                ├── postgres     a PostgreSQL database that nodes share (feature `postgres`)
//!                ├── foundationdb a FoundationDB cluster that nodes share (feature `foundationdb`)
//!                └── simulated    in memory, with seeded faults; tests
//! ```
//! Invariants: `KV-1` transactions are strictly serializable: a committed one behaves as if it ran alone at its commit;
//! `KV-2` a transaction reads its own writes; `KV-3` `commit` returning `Ok` means durable; `KV-4` `MaybeCommitted` is the
//! only error after which a write may exist; `KV-5` every engine has the same limits ([`limits`]), those of FoundationDB.
//! It has no watches and no versionstamps, so that all engines run the same transactions.

pub mod embedded;
mod error;
#[cfg(feature = "foundationdb")]
pub mod foundationdb;
pub mod limits;
mod overlay;
#[cfg(feature = "postgres")]
pub mod postgres;
mod range;
pub mod simulated;
mod store;

pub use error::{Fault, StoreError};
pub use range::{KeyRange, Page, RangeRead};
pub use store::{RetryClass, Run, Store};

use bytes::Bytes;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// A boxed future, so that engines are interchangeable at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is called when a commit has its place in the order of commits; see [`Transaction::commit_pipelined`].
pub type Ordered = Box<dyn FnOnce() + Send>;

/// One implementation of the store.
pub trait Engine: Send + Sync + 'static {
    /// Begins a transaction on the newest committed state.
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>>;

    /// Begins a transaction that sees commits from the moment at which they have their place in the order, before they are
    /// durable, on an engine that knows that moment. Its own commit is answered after theirs, also if it writes nothing, and is
    /// refused if they turn out not to be durable. So what it has read must not be told to anybody before it commits, but for an error
    /// that it ends with.
    fn begin_pipelined(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        self.begin()
    }

    /// Whether the engine can still write; the reason if not. Must not block.
    fn health(&self) -> Result<(), StoreError>;

    /// Finishes what waits, and takes no further commit. What the next start would have to do first is done.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Copies everything that is committed into a new directory of this machine, while work goes on.
    ///
    /// # Errors
    /// `Fatal` if the engine keeps its data elsewhere, or if the copy cannot be made.
    fn backup(&self, _target: PathBuf) -> BoxFuture<'_, Result<Copied, StoreError>> {
        let reason = "the data is in a database, which has backups of its own";
        Box::pin(std::future::ready(Err(StoreError::fatal(Fault::Unsupported, reason))))
    }
}

/// What a backup has copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Pairs.
    pub pairs: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// One transaction. Dropping it without `commit` has no effect on the store.
///
/// Reads come in two kinds: plain ones are checked again at commit (a change in between makes the commit fail with
/// `Retryable`), `…_snapshot` ones are not.
pub trait Transaction: Send {
    /// The value of a key.
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// As [`Transaction::get`], without a read conflict.
    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;

    /// The values of two keys, as by two reads; an engine behind a network makes them at the same time.
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

    /// One page of a range in key order, or in reverse.
    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// As [`Transaction::range`], without a read conflict.
    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Sets a key.
    fn set(&mut self, key: &[u8], value: &[u8]);

    /// As [`Transaction::set`], for an engine that keeps what it is given.
    fn set_owned(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(&key, &value);
    }

    /// Clears a key.
    fn clear(&mut self, key: &[u8]);

    /// Clears every key of a range.
    fn clear_range(&mut self, range: KeyRange);

    /// Adds to the little-endian `i64` under a key (0 if absent; wraps), without a read conflict.
    fn add(&mut self, key: &[u8], delta: i64);

    /// Makes the commit fail if anything in the range changed since this transaction began.
    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Bytes of keys and values that the commit would carry, about.
    fn approximate_size(&self) -> usize;

    /// Commits. A transaction without writes commits without touching the disk.
    ///
    /// # Errors
    /// `Retryable` on a conflict; `MaybeCommitted` if the outcome is not known; `Fatal` with a [`Fault`] otherwise.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// As [`Transaction::commit`]. `ordered` is called as soon as transactions that [`Engine::begin_pipelined`] begins see this
    /// commit: before it is durable, or never, on an engine that does not know that moment. If it then turns out not to be durable, the
    /// engine commits nothing any more. It must return at once, and can still be called after the caller has given up waiting.
    fn commit_pipelined(
        self: Box<Self>,
        ordered: Ordered,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        drop(ordered);
        self.commit()
    }
}

/// Reads the little-endian `i64` that [`Transaction::add`] keeps.
///
/// # Errors
/// `Fatal(Corrupt)` if the value has another length than eight bytes.
pub fn decode_counter(value: Option<&[u8]>) -> Result<i64, StoreError> {
    match value {
        None => Ok(0),
        Some(bytes) => match bytes.try_into() {
            Ok(bytes) => Ok(i64::from_le_bytes(bytes)),
            Err(_) => Err(StoreError::fatal(
                Fault::Corrupt,
                format!("a counter has {} bytes instead of 8", bytes.len()),
            )),
        },
    }
}
