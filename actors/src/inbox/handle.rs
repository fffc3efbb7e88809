//! The way to an open inbox: its mailbox, the gate in front of it, and the reply that a request carries.
//!
//! Invariant: `HANDLE-1` a request holds its permits until it is answered or dropped, so that a gate that closes while no
//! permit is out has an idle inbox behind it.

use super::machine::{Request, Requester};
use super::message::InboxMessage;
use super::request::Answer;
use super::signals::InboxSignals;
use crate::admission::{Admission, Permit};
use crate::gate::GatePass;
use ractor::ActorRef;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// An open inbox as the router sees it.
pub(crate) struct InboxHandle {
    pub(crate) actor: ActorRef<InboxMessage>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) signals: Arc<InboxSignals>,
    pub(crate) arrivals: Arc<Arrivals>,
    /// Monotonic milliseconds of the last request.
    used_ms: AtomicU64,
}

impl InboxHandle {
    pub(crate) fn new(
        actor: ActorRef<InboxMessage>,
        admission: Arc<Admission>,
        signals: Arc<InboxSignals>,
        arrivals: Arc<Arrivals>,
        now: Duration,
    ) -> Self {
        let handle = Self { actor, admission, signals, arrivals, used_ms: AtomicU64::new(0) };
        handle.touch(now);
        handle
    }

    /// Notes that the inbox is in use.
    pub(crate) fn touch(&self, now: Duration) {
        self.used_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When it was used last.
    pub(crate) fn used_at(&self) -> Duration {
        Duration::from_millis(self.used_ms.load(Ordering::Relaxed))
    }

    /// Makes the inbox look for leases to end and for webhooks that are due.
    pub(crate) fn tick(&self) {
        // One that is gone has told its partition when to open it again.
        let _ = self.actor.cast(InboxMessage::Tick);
    }

    /// Hands a request over. An inbox that is gone drops it, which its caller sees as an unknown outcome.
    pub(crate) fn send(&self, request: Request<Reply>) {
        if self.arrivals.push(request) && self.actor.cast(InboxMessage::Arrived).is_err() {
            self.arrivals.close();
        }
    }
}

/// Requests that the inbox has not taken yet: they wait here side by side, and it is told of the first one only. It takes all
/// of them when what is under way has come to its end, so that it does not wake up for each.
///
/// Invariant: `ARRIVALS-1` nothing is in it once it is closed. What is in it is bounded by the permits that requests hold.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<Arrived>);

#[derive(Debug, Default)]
struct Arrived {
    requests: Vec<Request<Reply>>,
    is_closed: bool,
}

impl Arrivals {
    /// Whether the request is the first one.
    fn push(&self, request: Request<Reply>) -> bool {
        let mut arrived = self.lock();
        if arrived.is_closed {
            return false;
        }
        arrived.requests.push(request);
        arrived.requests.len() == 1
    }

    /// All of them, in the order in which they came.
    pub(crate) fn take(&self) -> Vec<Request<Reply>> {
        std::mem::take(&mut self.lock().requests)
    }

    /// Drops what is there and what still comes.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut arrived = self.lock();
            arrived.is_closed = true;
            std::mem::take(&mut arrived.requests)
        };
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a request's answer goes. Dropping it unanswered tells the caller that the outcome is unknown.
#[derive(Debug)]
pub(crate) struct Reply {
    channel: oneshot::Sender<Answer>,
    deadline: Instant,
    /// The places of the request with its tenant, on its node and behind the partition's gate; none if the inbox has it
    /// from its own.
    _permits: Option<([Permit; 2], GatePass)>,
}

impl Reply {
    pub(crate) fn new(
        deadline: Instant,
        permits: [Permit; 2],
        entered: GatePass,
    ) -> (Self, oneshot::Receiver<Answer>) {
        Self::with(deadline, Some((permits, entered)))
    }

    /// The reply to somebody who is bounded otherwise: by a slot for webhooks.
    pub(crate) fn internal(deadline: Instant) -> (Self, oneshot::Receiver<Answer>) {
        Self::with(deadline, None)
    }

    fn with(
        deadline: Instant,
        permits: Option<([Permit; 2], GatePass)>,
    ) -> (Self, oneshot::Receiver<Answer>) {
        let (channel, answer) = oneshot::channel();
        (Self { channel, deadline, _permits: permits }, answer)
    }

    pub(crate) fn send(self, answer: Answer) {
        // A caller that is gone has no use for the answer.
        let _ = self.channel.send(answer);
    }
}

impl Requester for Reply {
    fn is_waiting(&self) -> bool {
        !self.channel.is_closed() && Instant::now() < self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::request::Write;

    fn request() -> (Request<Reply>, oneshot::Receiver<Answer>) {
        let (requester, answer) = Reply::internal(Instant::now() + Duration::from_secs(60));
        (Request { requester: Some(requester), ..Request::own(Write::Sweep) }, answer)
    }

    #[tokio::test]
    async fn only_the_first_arrival_is_told_of_and_what_comes_too_late_is_dropped() {
        let arrivals = Arrivals::default();
        let ((first, _), (second, waiting), (third, too_late)) = (request(), request(), request());
        assert!(arrivals.push(first) && arrivals.take().len() == 1);
        assert!(arrivals.push(second), "the inbox had taken the first one");
        arrivals.close();
        waiting.await.unwrap_err();
        assert!(!arrivals.push(third), "ARRIVALS-1");
        too_late.await.unwrap_err();
        assert!(arrivals.take().is_empty(), "ARRIVALS-1");
    }
}
