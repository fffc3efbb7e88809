//! The limits of every engine: FoundationDB's, so that what runs on one engine runs on all.
//!
//! Invariant: `LIMIT-1` a transaction that exceeds a limit fails at commit with `Fatal(LimitExceeded)` and has no effect.

use super::{Fault, StoreError};

/// Bytes of a key at most. LMDB's own limit is 511 with its standard build; engines must refuse above this one.
pub const KEY_BYTES_MAX: usize = 500;
/// Bytes of a value at most.
pub const VALUE_BYTES_MAX: usize = 90_000;
/// Bytes of keys and values that one transaction may carry at most.
pub const TRANSACTION_BYTES_MAX: usize = 10_000_000;
/// Bytes of keys and values that one page of a range holds at most, about.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a transaction may take from its first read to its commit, in milliseconds.
pub const TRANSACTION_MS_MAX: u64 = 5_000;

/// Checks a key.
///
/// # Errors
/// `Fatal(LimitExceeded)` if it is empty or too long.
pub fn check_key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(exceeded(format!(
            "a key has {} bytes; 1 to {KEY_BYTES_MAX} are allowed",
            key.len()
        )));
    }
    Ok(())
}

/// Checks a value.
///
/// # Errors
/// `Fatal(LimitExceeded)` if it is too long.
pub fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(exceeded(format!(
            "a value has {} bytes; {VALUE_BYTES_MAX} are allowed",
            value.len()
        )));
    }
    Ok(())
}

/// Checks the size of a whole transaction.
///
/// # Errors
/// `Fatal(LimitExceeded)` if it is too large.
pub fn check_transaction(bytes: usize) -> Result<(), StoreError> {
    if bytes > TRANSACTION_BYTES_MAX {
        return Err(exceeded(format!(
            "a transaction has {bytes} bytes; {TRANSACTION_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

fn exceeded(reason: String) -> StoreError {
    StoreError::fatal(Fault::LimitExceeded, reason)
}
