//! The broker's tables: [`keys`] builds every key, [`rows`] has every value, [`operations`] has every
//! write of a tenant's data, [`batch`] the transaction that they share. The other files read, or write
//! what belongs to no tenant's partition.
//!
//! Invariants: `TABLE-1` every write and every read of a tenant's data reads its partition's fence in
//! the same transaction and fails with `NotOwner` if it is another's; `TABLE-2` operations take a
//! transaction, so callers compose several into one commit; `TABLE-3` every operation is idempotent:
//! run again after an unknown outcome with the same arguments it changes nothing and gives the same
//! result; `TABLE-4` counters change only beside the row that they count.

pub mod access;
pub mod batch;
pub mod cluster;
pub mod fence;
pub mod inbox;
pub mod keys;
pub mod operations;
pub mod rows;
pub mod settings;
pub mod subscriptions;

use crate::kv::{RetryClass, StoreError};
use triggers_protocol::EventId;

/// A domain transaction that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another node, or another incarnation of this one, owns the partition.
    #[error("the partition is owned by {owner:?} with epoch {epoch}")]
    NotOwner {
        /// The owner's incarnation.
        owner: String,
        /// The epoch of its ownership.
        epoch: u64,
    },
    /// The tenant's last id is not the one the batch was minted after: an earlier batch of unknown outcome has committed.
    #[error("the tenant's last event id is {actual}")]
    HeadMoved {
        /// The last id that the store knows.
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
            // Somebody else owns the partition by now; whether an earlier attempt had committed before, nobody can tell.
            Self::NotOwner { .. } => Self::Store(StoreError::MaybeCommitted(self.to_string())),
            other => other,
        }
    }
}

impl From<triggers_protocol::codec::CodecError> for TableError {
    fn from(error: triggers_protocol::codec::CodecError) -> Self {
        Self::Store(error.into())
    }
}
