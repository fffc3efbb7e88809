//! Errors of the store, in the three classes that callers must distinguish.
//!
//! Invariant: `ERR-1`: a write can exist after `MaybeCommitted`, not after `Retryable` or `Fatal`.

/// A failed store operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The transaction did not commit, but may succeed when run again.
    #[error("retryable: {0}")]
    Retryable(String),
    /// The transaction may have committed, or still commit. Run it again only if it is idempotent.
    #[error("may have committed: {0}")]
    MaybeCommitted(String),
    /// The transaction did not commit, and an immediate retry will not help.
    #[error("{fault}: {reason}")]
    Fatal {
        /// Kind of fault.
        fault: Fault,
        /// Description for the log.
        reason: String,
    },
}

/// Why an operation failed for longer than a retry can cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The disk is full, or the store has reached its configured maximum.
    #[error("the store is full")]
    Full,
    /// The deadline passed before the commit began.
    #[error("the deadline passed")]
    DeadlinePassed,
    /// A key, value or transaction exceeds a limit: an error of the caller.
    #[error("a limit was exceeded")]
    LimitExceeded,
    /// Stored bytes are malformed.
    #[error("the store is corrupt")]
    Corrupt,
    /// The engine does not support this operation.
    #[error("not supported")]
    Unsupported,
    /// The engine was closed, or stopped writing after an I/O error.
    #[error("the store is stopped")]
    Stopped,
}

impl StoreError {
    /// Makes a `Fatal` error.
    pub fn fatal(fault: Fault, reason: impl Into<String>) -> Self {
        Self::Fatal { fault, reason: reason.into() }
    }

    /// The fault of a `Fatal` error; `None` for other errors.
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
