//! Delivery: what a webhook is, who sends it, and how many are on their way at once.
//!
//! ```text
//! Inbox ── takes slots, claims attempts ──▶ Retry (one per attempt) ──▶ WebhookSender ──▶ the endpoint
//! ```
//! [`WebhookSender`] is the way out: HTTP in production (the node has it), a simulated receiver in tests and simulations.
//! What an answer means is in [`verdict`], when an endpoint is left alone in [`breaker`].
//! Invariants: `DELIVERY-A-1` no attempt begins without a [`DeliveryPermit`], and a slot is held until the attempt's result is stored
//! or given up; `DELIVERY-A-2` slots are given in the order of asking, so that a tenant that waits gets the next free one.
//! It stores nothing and knows no HTTP.

pub(crate) mod breaker;
pub(crate) mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
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
    /// The endpoint gave an answer.
    Answered {
        /// The HTTP status.
        status: u16,
        /// `Retry-After`, if there was one that could be read.
        retry_after: Option<Duration>,
    },
    /// There was no answer, or it did not end in time.
    Failed {
        /// The status, if the head of an answer came.
        status: Option<u16>,
        /// What went wrong.
        failure: SendFailure,
        /// The same in words, for the partner: it names nothing of this node.
        reason: String,
    },
}

/// Why there was no answer.
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
    /// The answer was no HTTP, or ended before its status.
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
            Self::Protocol => "protocol",
        }
    }
}

/// Sends webhooks from this node, within bounds.
pub(crate) struct Delivery {
    pub(crate) sender: Arc<dyn WebhookSender>,
    pub(crate) permits: DeliveryPermits,
}

/// The places for webhooks on their way from this node.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryPermits {
    free: Arc<Semaphore>,
    count: usize,
    bytes_max: usize,
    shared: Arc<Shared>,
    /// Whether none are to be taken for the time being.
    is_quiescing: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of the payloads on their way.
    bytes: AtomicUsize,
    given_back: Notify,
}

/// The right to have one webhook on its way.
#[derive(Debug)]
pub(crate) struct DeliveryPermit {
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
    shared: Arc<Shared>,
}

impl DeliveryPermit {
    /// Notes the size of what is on its way.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for DeliveryPermit {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        drop(self.permit.take());
        self.shared.given_back.notify_waiters();
    }
}

impl DeliveryPermits {
    /// So many slots; none is given while so many bytes are on their way.
    pub(crate) fn new(count: usize, bytes_max: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(count)),
            count,
            bytes_max,
            shared: Arc::default(),
            is_quiescing: Arc::default(),
        }
    }

    /// The same slots, which whoever has them is not to take while this is set.
    pub(crate) fn quiescing_with(&self, is_quiescing: Arc<AtomicBool>) -> Self {
        Self { is_quiescing, ..self.clone() }
    }

    /// Whether none are to be taken for the time being.
    pub(crate) fn is_quiescing(&self) -> bool {
        self.is_quiescing.load(Ordering::Relaxed)
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> DeliveryPermit {
        DeliveryPermit { permit: Some(permit), bytes: 0, shared: self.shared.clone() }
    }

    fn is_full(&self) -> bool {
        self.shared.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Takes up to `wanted` slots that are free now.
    pub(crate) fn try_acquire(&self, wanted: usize) -> Vec<DeliveryPermit> {
        if self.is_full() {
            return Vec::new();
        }
        let take_one =
            |_| self.free.clone().try_acquire_owned().ok().map(|permit| self.slot(permit));
        (0..wanted).map_while(take_one).collect()
    }

    /// Waits for one slot; none once there will be no more.
    pub(crate) async fn acquire(&self) -> Option<DeliveryPermit> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        loop {
            // Registered before it is looked, so that nothing is missed in between.
            let given_back = self.shared.given_back.notified();
            if self.free.is_closed() {
                return None;
            }
            if !self.is_full() {
                return Some(self.slot(permit));
            }
            given_back.await;
        }
    }

    /// Gives no more slots, and waits until nothing is on its way.
    pub(crate) async fn drain(&self) {
        self.free.close();
        // Those who wait with a slot in hand for bytes to be given back learn of it as well.
        self.shared.given_back.notify_waiters();
        loop {
            let given_back = self.shared.given_back.notified();
            if self.free.available_permits() == self.count {
                return;
            }
            given_back.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slots_are_bounded_and_a_drain_waits_for_all() {
        let slots = DeliveryPermits::new(3, usize::MAX);
        let held = slots.try_acquire(5);
        assert_eq!(held.len(), 3);
        assert!(slots.try_acquire(1).is_empty());
        let drained = tokio::time::timeout(Duration::from_secs(1), slots.drain()).await;
        assert!(drained.is_err(), "three are on their way");
        assert!(
            slots.try_acquire(1).is_empty() && slots.acquire().await.is_none(),
            "nothing more begins, also after the wait"
        );
        drop(held);
        slots.drain().await;
        assert!(slots.try_acquire(1).is_empty() && slots.acquire().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_slot_is_given_while_too_much_is_on_its_way() {
        let slots = DeliveryPermits::new(3, 100);
        let mut large = slots.try_acquire(1).remove(0);
        large.hold(100);
        assert!(slots.try_acquire(1).is_empty());
        let waiting = slots.clone();
        let waiting = tokio::spawn(async move { waiting.acquire().await.is_some() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(large);
        assert!(waiting.await.unwrap() && slots.try_acquire(3).len() == 3);
    }
}
