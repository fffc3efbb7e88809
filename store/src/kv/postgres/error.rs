//! Classifies errors of the database.
//!
//! Invariant: `POSTGRES-ERR-1`: after an `ERROR` of the server the statement had no effect. After
//! any other failure of a commit (a broken connection, a `FATAL`) the outcome is unknown.

use crate::kv::{Fault, StoreError};
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// The options are invalid.
    #[error("{0}")]
    Options(String),
    /// The server is unreachable or rejects the login.
    #[error("the database cannot be used: {0}")]
    Connect(String),
    /// The server's settings would lose committed data.
    #[error("the database is not durable: {0}")]
    NotDurable(String),
}

/// An error with all of its causes in one line; `Display` shows only the outermost.
pub(super) fn text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Classifies a failed read, or any other failure without effect.
pub(super) fn of_read(error: &Error) -> StoreError {
    let reason = text(error);
    let Some(code) = error.code() else { return StoreError::Retryable(reason) };
    if *code == SqlState::DISK_FULL {
        return StoreError::fatal(Fault::Full, reason);
    }
    if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED {
        return StoreError::fatal(Fault::Corrupt, reason);
    }
    // Connections, rollbacks, locks, resources, operators, and a primary that became a standby.
    let passes = ["08", "40", "53", "55", "57"].iter().any(|class| code.code().starts_with(class));
    if passes || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return StoreError::Retryable(reason);
    }
    StoreError::fatal(Fault::Stopped, reason)
}

/// Classifies a failed commit (`POSTGRES-ERR-1`).
pub(super) fn of_commit(error: &Error) -> StoreError {
    match error.as_db_error().map(tokio_postgres::error::DbError::parsed_severity) {
        Some(Some(Severity::Error)) => of_read(error),
        _ => StoreError::MaybeCommitted(text(error)),
    }
}
