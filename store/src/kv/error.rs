//! What can go wrong in a store, in the three classes that callers must tell apart.
//!
//! Invariant: `ERR-1` only `MaybeCommitted` leaves it open whether a write exists; after `Retryable` and `Fatal` it does
//! not. The text is for logs; nothing of it reaches a client.

/// A failed store operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The transaction did not commit; the same one may succeed when run again.
    #[error("retryable: {0}")]
    Retryable(String),
    /// The transaction may have committed, or may still. Run it again only if it is idempotent.
    #[error("may have committed: {0}")]
    MaybeCommitted(String),
    /// The transaction did not commit, and running it again at once will not help.
    #[error("{fault}: {reason}")]
    Fatal {
        /// What kind of fault it is.
        fault: Fault,
        /// What happened.
        reason: String,
    },
}

/// Why a store refuses for good, or for longer than a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The disk or the configured maximum is full.
    #[error("store full")]
    Full,
    /// The deadline passed before the commit began.
    #[error("deadline passed")]
    DeadlinePassed,
    /// A key, value or transaction is over the limits: a fault of the caller.
    #[error("limit exceeded")]
    LimitExceeded,
    /// Stored bytes are not what they should be.
    #[error("store corrupt")]
    Corrupt,
    /// The engine cannot do this, or not here.
    #[error("not supported")]
    Unsupported,
    /// The engine stopped, or stopped writing after an I/O error.
    #[error("store stopped")]
    Stopped,
}

impl StoreError {
    /// A `Fatal` error.
    pub fn fatal(fault: Fault, reason: impl Into<String>) -> Self {
        Self::Fatal { fault, reason: reason.into() }
    }

    /// The fault of a `Fatal` error.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Fatal { fault, .. } => Some(*fault),
            Self::Retryable(_) | Self::MaybeCommitted(_) => None,
        }
    }
}

impl From<triggers_protocol::codec::CodecError> for StoreError {
    fn from(error: triggers_protocol::codec::CodecError) -> Self {
        Self::fatal(Fault::Corrupt, error.to_string())
    }
}
