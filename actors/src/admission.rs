//! Admission: nothing is sent to an actor without a permit, because ractor's mailboxes have no bound of their own.
//!
//! Invariants: `ADMISSION-1` the permits out never exceed the limits, except that one request larger than the byte limit
//! passes while nothing else is in; `ADMISSION-2` a closed admission gives no permit ever again, and closes only while
//! none is out, so that an actor behind a closed admission has nothing left to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As much is in flight as may be.
    #[error("too much is in flight")]
    Busy,
    /// The actor behind it has ended.
    #[error("closed")]
    Closed,
}

/// Counts what is in flight behind one door.
#[derive(Debug)]
pub struct Admission {
    requests_max: usize,
    bytes_max: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    requests: usize,
    bytes: usize,
    closed: bool,
}

/// The right to have one request in flight; dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// A door with these limits.
    pub fn new(requests_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { requests_max, bytes_max, inside: Mutex::default() })
    }

    /// Takes a permit for a request of `bytes`.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn enter(self: &Arc<Self>, bytes: usize) -> Result<Permit, Refused> {
        let mut inside = self.lock();
        if inside.closed {
            return Err(Refused::Closed);
        }
        let fits = inside.bytes + bytes <= self.bytes_max || inside.bytes == 0;
        if inside.requests >= self.requests_max || !fits {
            return Err(Refused::Busy);
        }
        inside.requests += 1;
        inside.bytes += bytes;
        Ok(Permit { admission: self.clone(), bytes })
    }

    /// Closes the door if nothing is in flight; whether it is closed now.
    pub fn close_if_idle(&self) -> bool {
        let mut inside = self.lock();
        inside.closed |= inside.requests == 0;
        inside.closed
    }

    /// Closes the door for good: the actor behind it is gone.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while holding the lock, so that a poisoned one still guards whole numbers.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inside = self.admission.lock();
        inside.requests -= 1;
        inside.bytes -= self.bytes;
    }
}

/// Counts a request, response or stream that was rejected because a limit was reached.
pub fn count_rejection(limit: &'static str) {
    metrics::counter!("triggers_admission_rejections_total", "limit" => limit).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_request_larger_than_the_limit_passes_alone() {
        let door = Admission::new(2, 100);
        let large = door.enter(1_000).unwrap();
        assert_eq!(door.enter(1).unwrap_err(), Refused::Busy);
        drop(large);
        assert!(door.enter(1).is_ok());
    }

    #[test]
    fn it_closes_only_while_empty_and_for_ever() {
        let door = Admission::new(2, 100);
        let inside = door.enter(1).unwrap();
        assert!(!door.close_if_idle());
        drop(inside);
        assert!(door.close_if_idle());
        assert_eq!(door.enter(1).unwrap_err(), Refused::Closed);
    }

    proptest! {
        #[test]
        fn limits_hold(sizes in prop::collection::vec((0usize..60, any::<bool>()), 0..100)) {
            let door = Admission::new(5, 100);
            let mut permits: Vec<Permit> = Vec::new();
            for (bytes, leave) in sizes {
                if leave && !permits.is_empty() {
                    permits.remove(0);
                }
                permits.extend(door.enter(bytes));
                let total: usize = permits.iter().map(|permit| permit.bytes).sum();
                prop_assert!(permits.len() <= 5 && total <= 100);
                prop_assert_eq!(door.lock().bytes, total);
            }
        }
    }
}
