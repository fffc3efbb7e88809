//! The broker's tables: their keys ([`keys`]), rows ([`rows`]), reads, and writes ([`operations`]).
//!
//! - `TABLE-1`: every transaction on a tenant's data reads the fence of its partition, and fails
//!   with `NotOwner` if another incarnation owns it.
//! - `TABLE-2`: operations take a transaction, so callers compose several into one commit.
//! - `TABLE-3`: an operation repeated with the same arguments after an unknown outcome changes
//!   nothing and gives the same result.
//! - `TABLE-4`: a counter changes only together with the row that it counts.
//!
//! Every function on a transaction can fail with [`TableError::Store`], and one that takes a guard
//! with [`TableError::NotOwner`]. Their documentation names only other errors.

pub mod access;
pub mod batch;
pub mod cluster;
pub mod fence;
pub mod inbox;
pub mod keys;
mod lease_rows;
pub mod operations;
pub mod rows;
pub mod settings;
pub mod subscriptions;
pub mod webhook_marks;

use crate::kv::{KeyRange, Prefetch, RangeRead, RetryClass, StoreError, Transaction};
use bytes::Bytes;
use triggers_protocol::EventId;

/// Error of a transaction on the tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another node, or another incarnation of this one, owns the partition.
    #[error("the partition is owned by {owner:?} with epoch {epoch}")]
    NotOwner {
        /// Incarnation of the owner.
        owner: String,
        /// Epoch of the owner's fence.
        epoch: u64,
    },
    /// The batch was planned after another last id: an earlier batch of unknown outcome committed.
    #[error("the tenant's last event id is {actual}")]
    HeadMoved {
        /// The tenant's last id in the store.
        actual: EventId,
    },
}

impl RetryClass for TableError {
    fn retry_class(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::NotOwner { .. } | Self::HeadMoved { .. } => None,
        }
    }

    fn after_unknown(self) -> Self {
        match self {
            // An earlier attempt may have committed before the partition changed its owner.
            Self::NotOwner { .. } => Self::Store(StoreError::MaybeCommitted(self.to_string())),
            other => other,
        }
    }
}

/// Lets a remote engine read several keys and pages in one round trip.
async fn prefetch(
    tx: &mut dyn Transaction,
    add: impl FnOnce(&mut Prefetch) + Send,
) -> Result<(), StoreError> {
    if !tx.is_remote() {
        return Ok(());
    }
    let mut reads = Prefetch::default();
    add(&mut reads);
    tx.prefetch(reads).await
}

/// Reads a complete range as a snapshot, `page_rows` rows at a time.
async fn read_range(
    tx: &mut dyn Transaction,
    mut range: KeyRange,
    page_rows: usize,
) -> Result<Vec<(Bytes, Bytes)>, TableError> {
    let mut pairs = Vec::new();
    loop {
        let page = tx.range_snapshot(RangeRead::first(range.clone(), page_rows)).await?;
        pairs.extend(page.pairs);
        match pairs.last() {
            Some((last, _)) if page.has_more => range.begin = [&last[..], &[0]].concat().into(),
            _ => return Ok(pairs),
        }
    }
}

impl From<triggers_protocol::codec::CodecError> for TableError {
    fn from(error: triggers_protocol::codec::CodecError) -> Self {
        Self::Store(error.into())
    }
}
