//! Why a request to the broker failed, without terms of HTTP or of actors.
//!
//! Invariant: `REQUEST-1` after every error but [`BrokerError::Unknown`] the request has had no
//! effect.

use triggers_store::kv::{Fault, StoreError};
use triggers_store::tables::TableError;

/// Why a request failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The tenant has as much in flight as it may.
    #[error("the tenant has as much in flight as it may")]
    TenantBusy,
    /// The node has as much in flight as it may.
    #[error("the node has as much in flight as it may")]
    NodeBusy,
    /// The node lacks descriptors or memory to send webhooks.
    #[error("the node lacks descriptors or memory to send webhooks")]
    NodeExhausted,
    /// The wall clock of this node is probably wrong, so it accepts no events.
    #[error("the clock of this node is far behind the times in the store; no events are accepted")]
    ClockSuspect,
    /// This node does not own the tenant's partition.
    #[error("the tenant's partition is owned elsewhere")]
    NotOwner,
    /// The deadline passed before anything was done.
    #[error("the deadline passed before anything was done")]
    DeadlinePassed,
    /// The request may have taken effect, or may still.
    #[error("the outcome is unknown")]
    Unknown,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for BrokerError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::MaybeCommitted(_) => Self::Unknown,
            StoreError::Fatal { fault: Fault::DeadlinePassed, .. } => Self::DeadlinePassed,
            other => Self::Store(other),
        }
    }
}

impl From<TableError> for BrokerError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Store(error) => error.into(),
            TableError::NotOwner { .. } => Self::NotOwner,
            // The inbox plans such a batch again; one that still fails had no effect.
            TableError::HeadMoved { .. } => Self::NodeBusy,
        }
    }
}
