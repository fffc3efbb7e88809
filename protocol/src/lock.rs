//! Locks a mutex whether or not it is poisoned.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose value stays valid if a holder of the lock panics.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
