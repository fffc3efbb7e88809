//! Classifies error codes of the FoundationDB client.
//!
//! Invariants:
//! - `FOUNDATION-ERR-1`: a commit counts as failed only for codes known to mean that; all other
//!   codes leave the outcome unknown.
//! - `FOUNDATION-ERR-2`: reads have no effect, so every transient error of a read is retryable.
//!
//! The codes are those of `error_definitions.h`, whose meaning is stable between versions.

use crate::kv::{Fault, StoreError};
use foundationdb::FdbError;
use std::ops::RangeInclusive;

/// Why the engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum FoundationOpenError {
    /// The options are invalid.
    #[error("{0}")]
    Options(String),
    /// The client library cannot be started in this process.
    #[error("cannot start the FoundationDB client: {0}")]
    Client(String),
    /// The cluster is unreachable, or does not answer in time.
    #[error("cannot use the FoundationDB cluster of {cluster_file}: {reason}")]
    Connect {
        /// Path of the cluster file.
        cluster_file: String,
        /// Description of the failure.
        reason: String,
    },
}

/// Commits that did not take effect, but may succeed when run again.
const NOT_COMMITTED: [i32; 10] = [
    1007, // transaction_too_old
    1009, // future_version
    1020, // not_committed: a conflict
    1037, // process_behind
    1038, // database_locked
    1042, // commit_proxy_memory_limit_exceeded
    1051, // batch_transaction_throttled
    1078, // grv_proxy_memory_limit_exceeded
    1213, // tag_throttled
    1223, // proxy_tag_throttled
];
/// The only unknown outcome that the client reports after a fence of its own.
const COMMIT_UNKNOWN_RESULT: i32 = 1021;
/// Class "normal failure": failures of a running cluster, timeouts, cancellations.
const NORMAL: RangeInclusive<i32> = 1000..=1499;
/// Class "attempt to do something illegal": rejected before it takes effect.
const ILLEGAL: RangeInclusive<i32> = 2000..=2999;
/// The one code of [`ILLEGAL`] that can end a commit in flight.
const USED_DURING_COMMIT: i32 = 2017;
/// The codes transaction_too_large, key_too_large and value_too_large.
const TOO_LARGE: RangeInclusive<i32> = 2101..=2103;

/// An error in one line.
pub(super) fn text(failed: FdbError) -> String {
    format!("{} (FoundationDB {})", failed.message(), failed.code())
}

/// Classifies a failed read, or any other failure without effect.
pub(super) fn of_read(failed: FdbError) -> StoreError {
    read_class(failed.code(), text(failed))
}

/// Classifies a failed commit.
pub(super) fn of_commit(failed: FdbError) -> StoreError {
    // A newer library may know more codes.
    if failed.is_retryable_not_committed() {
        return StoreError::Retryable(text(failed));
    }
    commit_class(failed.code(), text(failed))
}

/// Whether a commit with this error can no longer arrive.
pub(super) fn is_fenced(failed: FdbError) -> bool {
    failed.code() == COMMIT_UNKNOWN_RESULT
}

fn read_class(code: i32, reason: String) -> StoreError {
    if NORMAL.contains(&code) {
        return StoreError::Retryable(reason);
    }
    let fault = if TOO_LARGE.contains(&code) { Fault::LimitExceeded } else { Fault::Stopped };
    StoreError::fatal(fault, reason)
}

fn commit_class(code: i32, reason: String) -> StoreError {
    let is_rejected =
        NOT_COMMITTED.contains(&code) || ILLEGAL.contains(&code) && code != USED_DURING_COMMIT;
    if is_rejected { read_class(code, reason) } else { StoreError::MaybeCommitted(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Class {
        Retryable,
        MaybeCommitted,
        Fatal(Fault),
    }

    fn class(error: &StoreError) -> Class {
        match error {
            StoreError::Retryable(_) => Class::Retryable,
            StoreError::MaybeCommitted(_) => Class::MaybeCommitted,
            StoreError::Fatal { fault, .. } => Class::Fatal(*fault),
        }
    }

    #[test]
    fn codes_are_classified() {
        use Class::{Fatal, MaybeCommitted, Retryable};
        let table = [
            // Not committed.
            (1007, Retryable, Retryable),
            (1009, Retryable, Retryable),
            (1020, Retryable, Retryable),
            (1037, Retryable, Retryable),
            (1038, Retryable, Retryable),
            (1042, Retryable, Retryable),
            (1051, Retryable, Retryable),
            (1078, Retryable, Retryable),
            (1213, Retryable, Retryable),
            (1223, Retryable, Retryable),
            // Unknown result, cancelled, maybe delivered, timed out, other version, internal.
            (1021, Retryable, MaybeCommitted),
            (1022, Retryable, MaybeCommitted),
            (1025, Retryable, MaybeCommitted),
            (1026, Retryable, MaybeCommitted),
            (1030, Retryable, MaybeCommitted),
            (1031, Retryable, MaybeCommitted),
            (1039, Retryable, MaybeCommitted),
            (1100, Retryable, MaybeCommitted),
            (1101, Retryable, MaybeCommitted),
            (1500, Fatal(Fault::Stopped), MaybeCommitted),
            (2017, Fatal(Fault::Stopped), MaybeCommitted),
            (4000, Fatal(Fault::Stopped), MaybeCommitted),
            (4100, Fatal(Fault::Stopped), MaybeCommitted),
            (6000, Fatal(Fault::Stopped), MaybeCommitted),
            (9999, Fatal(Fault::Stopped), MaybeCommitted),
            // Rejected for good.
            (2000, Fatal(Fault::Stopped), Fatal(Fault::Stopped)),
            (2004, Fatal(Fault::Stopped), Fatal(Fault::Stopped)),
            (2101, Fatal(Fault::LimitExceeded), Fatal(Fault::LimitExceeded)),
            (2102, Fatal(Fault::LimitExceeded), Fatal(Fault::LimitExceeded)),
            (2103, Fatal(Fault::LimitExceeded), Fatal(Fault::LimitExceeded)),
            (2108, Fatal(Fault::Stopped), Fatal(Fault::Stopped)),
        ];
        for (code, read, commit) in table {
            assert_eq!(class(&read_class(code, String::new())), read, "{code} of a read");
            assert_eq!(class(&commit_class(code, String::new())), commit, "{code} of a commit");
        }
    }

    #[test]
    fn classes_agree_with_the_library() {
        for code in 1..10_000 {
            let failed = FdbError::from_code(code);
            let class = class(&of_commit(failed));
            assert!(!failed.is_maybe_committed() || class == Class::MaybeCommitted, "{code}");
            assert!(!failed.is_retryable_not_committed() || class == Class::Retryable, "{code}");
        }
    }
}
