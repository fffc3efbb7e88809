//! Limits that every engine enforces, so that a transaction that runs on one engine runs on all.
//!
//! Keys are limited by LMDB (511 bytes in its standard build). Values, transactions and transaction
//! time are limited by FoundationDB.
//!
//! Invariant: `LIMIT-1`: a transaction that exceeds a limit fails at commit with
//! `Fatal(LimitExceeded)` and has no effect.

use super::{Fault, StoreError};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Maximum bytes of a key.
pub const KEY_BYTES_MAX: usize = 500;
/// Maximum bytes of a value.
pub const VALUE_BYTES_MAX: usize = 90_000;
/// Maximum total bytes of the keys and values in one transaction.
pub const TRANSACTION_BYTES_MAX: usize = 10_000_000;
/// Approximate maximum bytes of keys and values in one page of a range.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Maximum age of a transaction, in milliseconds from its first read to its commit.
pub const TRANSACTION_MS_MAX: u64 = 5_000;

/// Checks the length of a key.
///
/// # Errors
/// `Fatal(LimitExceeded)` if it is empty or too long.
pub fn check_key(key: &[u8]) -> Result<(), StoreError> {
    check(key.len(), 1..=KEY_BYTES_MAX, "a key")
}

/// Checks the length of a value.
///
/// # Errors
/// `Fatal(LimitExceeded)` if it is too long.
pub fn check_value(value: &[u8]) -> Result<(), StoreError> {
    check(value.len(), 0..=VALUE_BYTES_MAX, "a value")
}

/// Checks the size of a transaction in bytes.
///
/// # Errors
/// `Fatal(LimitExceeded)` if it is too large.
pub fn check_transaction(bytes: usize) -> Result<(), StoreError> {
    check(bytes, 0..=TRANSACTION_BYTES_MAX, "a transaction")
}

/// Checks that a transaction is not older than `ms_max` milliseconds.
///
/// # Errors
/// `Retryable` if it is.
pub(super) fn check_age(age: Duration, ms_max: u64) -> Result<(), StoreError> {
    if age > Duration::from_millis(ms_max) {
        return Err(StoreError::Retryable("the transaction is too old".into()));
    }
    Ok(())
}

fn check(bytes: usize, allowed: RangeInclusive<usize>, what: &str) -> Result<(), StoreError> {
    if allowed.contains(&bytes) {
        return Ok(());
    }
    let (min, max) = allowed.into_inner();
    let reason = format!("{what} must have {min} to {max} bytes, but has {bytes}");
    Err(StoreError::fatal(Fault::LimitExceeded, reason))
}
