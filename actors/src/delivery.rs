//! Delivery of webhooks: what a webhook is, who sends it, and how many are in flight.
//!
//! ```text
//! Inbox ── acquires permits, claims webhooks ──▶ DeliveryAttempt ──▶ WebhookSender ──▶ endpoint
//! ```
//! The node sends webhooks over HTTP; tests and simulations have simulated receivers. [`verdict`]
//! interprets outcomes, [`breaker`] pauses deliveries to a failing endpoint. This module stores
//! nothing and knows no HTTP.
//! Invariants: `DELIVERY-A-1` no attempt begins without a [`DeliveryPermit`], which is held until
//! the outcome is stored or abandoned; `DELIVERY-A-2` permits are given in the order in which they
//! were asked for, so a tenant that waits gets the next free one.

pub(crate) mod breaker;
pub(crate) mod verdict;

use crate::node_faults::{NodeFault, NodeFaults};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{Event, Timestamp};
use triggers_store::kv::BoxFuture;

/// Sends webhooks to their endpoints.
pub trait WebhookSender: Send + Sync + 'static {
    /// Sends one webhook and returns its outcome. The sender bounds the time itself.
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome>;
}

/// One webhook to send.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The event as the receiver gets it.
    pub event: Event,
    /// URL of the endpoint.
    pub target_url: String,
    /// Keys that sign it, the newest first.
    pub keys: Vec<SigningKey>,
    /// Time at which the attempt began.
    pub at: Timestamp,
}

/// The outcome of sending a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The endpoint answered.
    Answered {
        /// HTTP status of the answer.
        status: u16,
        /// Wait that the endpoint asks for with a valid `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no complete answer.
    Failed {
        /// HTTP status, if the head of an answer arrived.
        status: Option<u16>,
        /// The kind of failure.
        failure: SendFailure,
        /// Explanation for the partner; it reveals nothing about this node.
        reason: String,
    },
}

/// The kind of failure when there was no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFailure {
    /// The target may not be called.
    Forbidden,
    /// The host name has no address.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The attempt timeout has passed.
    Timeout,
    /// The answer was not HTTP, or ended before its status.
    Protocol,
    /// It is not known whether the endpoint or this node is at fault, or whether the event arrived.
    Unclear,
    /// This node could not make the attempt; nothing has reached the endpoint.
    Node(NodeFault),
}

impl SendFailure {
    /// The label of the failure in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Unclear => "unclear",
            Self::Node(_) => "node",
        }
    }
}

/// The sender of webhooks and the bound on how many are in flight.
pub(crate) struct Delivery {
    pub(crate) sender: Arc<dyn WebhookSender>,
    pub(crate) permits: DeliveryPermits,
    pub(crate) faults: NodeFaults,
}

/// The permits for webhooks in flight from this node; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryPermits {
    free: Arc<Semaphore>,
    count: usize,
    bytes_max: usize,
    in_flight: Arc<InFlight>,
    /// True while the holder of this clone must acquire no permits.
    is_quiescing: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct InFlight {
    /// Payload bytes in flight.
    bytes: AtomicUsize,
    released: Notify,
}

/// The right to have one webhook in flight.
#[derive(Debug)]
pub(crate) struct DeliveryPermit {
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
    in_flight: Arc<InFlight>,
}

impl DeliveryPermit {
    /// Adds the size of the webhook to the bytes in flight.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.in_flight.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for DeliveryPermit {
    fn drop(&mut self) {
        self.in_flight.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        drop(self.permit.take());
        self.in_flight.released.notify_waiters();
    }
}

impl DeliveryPermits {
    /// At most `count` permits; none is given while `bytes_max` or more bytes are in flight.
    pub(crate) fn new(count: usize, bytes_max: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(count)),
            count,
            bytes_max,
            in_flight: Arc::default(),
            is_quiescing: Arc::default(),
        }
    }

    /// The same permits for a holder that checks [`Self::is_quiescing`] before it acquires one.
    pub(crate) fn quiescing_with(&self, is_quiescing: Arc<AtomicBool>) -> Self {
        Self { is_quiescing, ..self.clone() }
    }

    /// True while the holder must acquire no permits.
    pub(crate) fn is_quiescing(&self) -> bool {
        self.is_quiescing.load(Ordering::Relaxed)
    }

    fn permit(&self, permit: OwnedSemaphorePermit) -> DeliveryPermit {
        DeliveryPermit { permit: Some(permit), bytes: 0, in_flight: self.in_flight.clone() }
    }

    fn is_full(&self) -> bool {
        self.in_flight.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Acquires up to `wanted` permits that are free now.
    pub(crate) fn try_acquire(&self, wanted: usize) -> Vec<DeliveryPermit> {
        if self.is_full() {
            return Vec::new();
        }
        let acquire_one =
            |_| self.free.clone().try_acquire_owned().ok().map(|permit| self.permit(permit));
        (0..wanted).map_while(acquire_one).collect()
    }

    /// Waits for one permit; none after [`Self::drain`] was called.
    pub(crate) async fn acquire(&self) -> Option<DeliveryPermit> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        loop {
            // Registered before the check, so that no release in between is missed.
            let released = self.in_flight.released.notified();
            if self.free.is_closed() {
                return None;
            }
            if !self.is_full() {
                return Some(self.permit(permit));
            }
            released.await;
        }
    }

    /// Gives no more permits and waits until no webhook is in flight.
    pub(crate) async fn drain(&self) {
        self.free.close();
        // Wakes the waiters that have a permit and wait for bytes to be released.
        self.in_flight.released.notify_waiters();
        loop {
            let released = self.in_flight.released.notified();
            if self.free.available_permits() == self.count {
                return;
            }
            released.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_are_bounded_and_a_drain_waits_for_all() {
        let permits = DeliveryPermits::new(3, usize::MAX);
        let held = permits.try_acquire(5);
        assert_eq!(held.len(), 3);
        assert!(permits.try_acquire(1).is_empty());
        let drained = tokio::time::timeout(Duration::from_secs(1), permits.drain()).await;
        assert!(drained.is_err(), "three are in flight");
        assert!(
            permits.try_acquire(1).is_empty() && permits.acquire().await.is_none(),
            "no permit is given after a drain began, even if the drain was abandoned"
        );
        drop(held);
        permits.drain().await;
        assert!(permits.try_acquire(1).is_empty() && permits.acquire().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn no_permit_is_given_while_too_many_bytes_are_in_flight() {
        let permits = DeliveryPermits::new(3, 100);
        let mut large = permits.try_acquire(1).remove(0);
        large.hold(100);
        assert!(permits.try_acquire(1).is_empty());
        let waiting = permits.clone();
        let waiting = tokio::spawn(async move { waiting.acquire().await.is_some() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(large);
        assert!(waiting.await.unwrap() && permits.try_acquire(3).len() == 3);
    }
}
