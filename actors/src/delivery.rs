//! Delivery: what a webhook is, who sends it, and how many are on their way at once.
//!
//! ```text
//! Inbox ── takes slots, claims attempts ──▶ Retry (one per attempt) ──▶ WebhookSender ──▶ the endpoint
//! ```
//! [`WebhookSender`] is the way out: HTTP in production (the node has it), a simulated receiver in tests and simulations.
//! What an answer means is in [`verdict`], when an endpoint is left alone in [`breaker`].
//! Invariants: `DELIVERY-A-1` no attempt begins without a [`Slot`], and a slot is held until the attempt's result is stored
//! or given up; `DELIVERY-A-2` slots are given in the order of asking, so that a tenant that waits gets the next free one.
//! It stores nothing and knows no HTTP.

pub(crate) mod breaker;
pub(crate) mod verdict;

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{Event, Timestamp};
use triggers_store::kv::BoxFuture;

/// Sends webhooks.
pub trait WebhookSender: Send + Sync + 'static {
    /// Sends one, and waits for what becomes of it. It ends within a time that the sender knows, the attempt timeout.
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome>;
}

/// One webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The event as the receiver gets it.
    pub event: Event,
    /// Where it goes.
    pub target_url: String,
    /// What signs it, the newest first.
    pub keys: Vec<SigningKey>,
    /// When the attempt began.
    pub at: Timestamp,
}

/// What became of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The endpoint gave a whole answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, if there was one that could be read.
        retry_after: Option<Duration>,
    },
    /// There was no whole answer.
    Failed {
        /// The status, if the head of an answer came.
        status: Option<u16>,
        /// What went wrong.
        failure: SendFailure,
        /// The same in words, for the partner: it names nothing of this node.
        reason: String,
    },
}

/// Why there was no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFailure {
    /// The target is none that may be called.
    Forbidden,
    /// The host name has no address.
    Dns,
    /// No connection.
    Connect,
    /// No secure connection.
    Tls,
    /// Time was up.
    Timeout,
    /// The answer was larger than is read.
    TooLarge,
    /// The answer was cut short, or was no HTTP.
    Protocol,
}

impl SendFailure {
    /// The failure as it stands in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Protocol => "protocol",
        }
    }
}

/// The places for webhooks on their way from this node.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    count: u32,
}

/// The right to have one webhook on its way.
#[derive(Debug)]
pub(crate) struct Slot(#[expect(dead_code, reason = "it is held for its end")] OwnedSemaphorePermit);

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(count as usize)), count }
    }

    /// Takes up to `wanted` slots that are free now.
    pub(crate) fn take(&self, wanted: usize) -> Vec<Slot> {
        let take_one = |_| self.free.clone().try_acquire_owned().ok().map(Slot);
        (0..wanted).map_while(take_one).collect()
    }

    /// Waits for one slot; none once there will be no more.
    pub(crate) async fn wait(&self) -> Option<Slot> {
        self.free.clone().acquire_owned().await.ok().map(Slot)
    }

    /// Begins nothing more, and waits until nothing is on its way.
    pub(crate) async fn drain(&self) {
        // An error means that another drain has closed it.
        let _all = self.free.acquire_many(self.count).await;
        self.free.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slots_are_bounded_and_a_drain_waits_for_all() {
        let slots = Slots::new(3);
        let held = slots.take(5);
        assert_eq!(held.len(), 3);
        assert!(slots.take(1).is_empty());
        let drained = tokio::time::timeout(Duration::from_secs(1), slots.drain()).await;
        assert!(drained.is_err(), "three are on their way");
        drop(held);
        slots.drain().await;
        assert!(slots.take(1).is_empty() && slots.wait().await.is_none());
    }
}
