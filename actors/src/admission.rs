//! Admission: nothing is sent to an actor without a permit, because ractor's mailboxes are
//! unbounded.
//!
//! Invariants: `ADMISSION-1` the permits out never exceed the limits, except that one request
//! larger than the byte limit passes while no other bytes are in flight; `ADMISSION-2` a closed
//! admission never gives a permit again, and closes only while none is out, so an actor behind a
//! closed admission has nothing left to do.

use std::sync::{Arc, Mutex};
use triggers_protocol::lock::lock;

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The requests or bytes in flight have reached their limit.
    #[error("too much is in flight")]
    Busy,
    /// The actor behind the admission has ended.
    #[error("closed")]
    Closed,
}

/// Counts the requests and bytes in flight to one actor, or on one node.
#[derive(Debug)]
pub struct Admission {
    requests_max: usize,
    bytes_max: usize,
    in_flight: Mutex<InFlight>,
}

#[derive(Debug, Default)]
struct InFlight {
    requests: usize,
    bytes: usize,
    is_closed: bool,
}

/// The right to have one request in flight. Dropping the permit gives it back.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    bytes: usize,
}

impl Admission {
    /// An open admission with these limits.
    pub fn new(requests_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { requests_max, bytes_max, in_flight: Mutex::default() })
    }

    /// Acquires a permit for a request of `bytes`.
    pub fn enter(self: &Arc<Self>, bytes: usize) -> Result<Permit, Rejected> {
        let mut inside = lock(&self.in_flight);
        if inside.is_closed {
            return Err(Rejected::Closed);
        }
        let fits = inside.bytes + bytes <= self.bytes_max || inside.bytes == 0;
        if inside.requests >= self.requests_max || !fits {
            return Err(Rejected::Busy);
        }
        inside.requests += 1;
        inside.bytes += bytes;
        Ok(Permit { admission: self.clone(), bytes })
    }

    /// Closes the admission if nothing is in flight; whether it is closed now.
    pub fn close_if_idle(&self) -> bool {
        let mut inside = lock(&self.in_flight);
        inside.is_closed |= inside.requests == 0;
        inside.is_closed
    }

    /// Closes the admission for good, because the actor behind it is gone.
    pub fn close(&self) {
        lock(&self.in_flight).is_closed = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inside = lock(&self.admission.in_flight);
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
        let admission = Admission::new(2, 100);
        let large = admission.enter(1_000).unwrap();
        assert_eq!(admission.enter(1).unwrap_err(), Rejected::Busy);
        drop(large);
        assert!(admission.enter(1).is_ok());
    }

    #[test]
    fn it_closes_only_while_empty_and_for_ever() {
        let admission = Admission::new(2, 100);
        let inside = admission.enter(1).unwrap();
        assert!(!admission.close_if_idle());
        drop(inside);
        assert!(admission.close_if_idle());
        assert_eq!(admission.enter(1).unwrap_err(), Rejected::Closed);
    }

    proptest! {
        #[test]
        fn limits_hold(sizes in prop::collection::vec((0usize..60, any::<bool>()), 0..100)) {
            let admission = Admission::new(5, 100);
            let mut permits: Vec<Permit> = Vec::new();
            for (bytes, leave) in sizes {
                if leave && !permits.is_empty() {
                    permits.remove(0);
                }
                permits.extend(admission.enter(bytes));
                let total: usize = permits.iter().map(|permit| permit.bytes).sum();
                prop_assert!(permits.len() <= 5 && total <= 100);
                prop_assert_eq!(lock(&admission.in_flight).bytes, total);
            }
        }
    }
}
