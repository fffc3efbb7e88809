//! The way to an open inbox: its mailbox, the door in front of it, and the reply that a request carries.
//!
//! Invariant: `HANDLE-1` a request holds its permits until it is answered or dropped, so that a door that closes while no
//! permit is out has an idle inbox behind it.

use super::machine::{Request, Requester};
use super::message::InboxMessage;
use super::request::Answer;
use super::signals::InboxSignals;
use crate::admission::{Admission, Permit};
use crate::partition::Entered;
use ractor::ActorRef;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// An open inbox as the router sees it.
pub(crate) struct InboxHandle {
    pub(crate) actor: ActorRef<InboxMessage>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) signals: Arc<InboxSignals>,
    /// Monotonic milliseconds of the last request.
    used_ms: AtomicU64,
}

impl InboxHandle {
    pub(crate) fn new(
        actor: ActorRef<InboxMessage>,
        admission: Arc<Admission>,
        signals: Arc<InboxSignals>,
        now: Duration,
    ) -> Self {
        let handle = Self { actor, admission, signals, used_ms: AtomicU64::new(0) };
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

    /// Hands a request over. A mailbox that is gone drops it, which its caller sees as an unknown outcome.
    pub(crate) fn send(&self, request: Request<Reply>) {
        let _ = self.actor.cast(InboxMessage::Write(request));
    }
}

/// Where a request's answer goes. Dropping it unanswered tells the caller that the outcome is unknown.
#[derive(Debug)]
pub(crate) struct Reply {
    channel: oneshot::Sender<Answer>,
    deadline: Instant,
    /// The places of the request with its tenant, on its node and behind the partition's door; none if the inbox has it
    /// from its own.
    _permits: Option<([Permit; 2], Entered)>,
}

impl Reply {
    pub(crate) fn new(deadline: Instant, permits: [Permit; 2], entered: Entered) -> (Self, oneshot::Receiver<Answer>) {
        Self::with(deadline, Some((permits, entered)))
    }

    /// The reply to somebody who is bounded otherwise: by a slot for webhooks.
    pub(crate) fn internal(deadline: Instant) -> (Self, oneshot::Receiver<Answer>) {
        Self::with(deadline, None)
    }

    fn with(deadline: Instant, permits: Option<([Permit; 2], Entered)>) -> (Self, oneshot::Receiver<Answer>) {
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
