//! The handle to an open inbox: its mailbox, its admission, and the requests that wait.

use super::message::InboxMessage;
use super::request::Request;
use super::signals::InboxSignals;
use crate::admission::Admission;
use ractor::ActorRef;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_protocol::lock::lock;

/// An open inbox as the router sees it.
pub(crate) struct InboxHandle {
    pub(crate) actor: ActorRef<InboxMessage>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) signals: Arc<InboxSignals>,
    pub(crate) arrivals: Arc<Arrivals>,
    /// Monotonic milliseconds of the last request.
    pub(crate) used_ms: AtomicU64,
}

impl InboxHandle {
    /// Records that the inbox is in use.
    pub(crate) fn touch(&self, now: Duration) {
        self.used_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Monotonic time of the last use.
    pub(crate) fn used_at(&self) -> Duration {
        Duration::from_millis(self.used_ms.load(Ordering::Relaxed))
    }

    /// Makes the inbox end leases that have run out and claim webhooks that are due.
    pub(crate) fn wake(&self) {
        // If the inbox is gone, the partition knows when to open it again.
        let _ = self.actor.cast(InboxMessage::Timer);
    }

    /// Sends a request. An inbox that is gone drops it, which its caller sees as an unknown
    /// outcome.
    pub(crate) fn send(&self, request: Request) {
        if self.arrivals.push(request) && self.actor.cast(InboxMessage::Arrived).is_err() {
            self.arrivals.close();
        }
    }
}

/// Requests that the inbox has not drained yet. It is notified of the first one only and drains all
/// of them when the load or batch under way has ended, so it does not wake up for each.
///
/// Invariant: `ARRIVALS-1` nothing is in it once it is closed. The permits that requests hold bound
/// it.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Arrived>);

#[derive(Debug, Default)]
struct Arrived {
    requests: Vec<Request>,
    is_closed: bool,
}

impl Arrivals {
    /// Adds a request; whether it is the first one.
    fn push(&self, request: Request) -> bool {
        let mut arrived = lock(&self.0);
        if arrived.is_closed {
            return false;
        }
        arrived.requests.push(request);
        arrived.requests.len() == 1
    }

    /// Removes and returns all requests, in the order of arrival.
    pub(crate) fn drain(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.0).requests)
    }

    /// Drops all requests, and those that still arrive.
    pub(crate) fn close(&self) {
        lock(&self.0).is_closed = true;
        drop(self.drain());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::BrokerError;
    use tokio::sync::oneshot;
    use tokio::time::Instant;
    use triggers_store::tables::operations::{Operation, Sweep, Swept};

    fn request() -> (Request, oneshot::Receiver<Result<Swept, BrokerError>>) {
        let sweep = Sweep::default();
        let footprint = sweep.footprint();
        Request::new(sweep, footprint, Instant::now() + Duration::from_secs(60), None)
    }

    #[tokio::test]
    async fn only_the_first_arrival_is_announced_and_late_arrivals_are_dropped() {
        let arrivals = Arrivals::default();
        let ((first, _), (second, waiting), (third, too_late)) = (request(), request(), request());
        assert!(arrivals.push(first) && arrivals.drain().len() == 1);
        assert!(arrivals.push(second), "the inbox had drained the first one");
        arrivals.close();
        waiting.await.unwrap_err();
        assert!(!arrivals.push(third), "ARRIVALS-1");
        too_late.await.unwrap_err();
        assert!(arrivals.drain().is_empty(), "ARRIVALS-1");
    }
}
