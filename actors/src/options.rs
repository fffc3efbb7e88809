//! The limits and times of the actors. The node's configuration is validated before it becomes this.
//!
//! Invariant: `OPTIONS-1` every queue, cache, wait and restart of this crate is bounded by a value here.

use crate::delivery::breaker::BreakerLimits;
use crate::inbox::dispatch::DispatchLimits;
use std::time::Duration;

/// Limits and times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerOptions {
    /// An inbox without requests for this long is closed.
    pub inbox_idle_timeout: Duration,
    /// Inboxes that may be open on this node, about; the least recently used idle one makes room.
    pub inboxes_max: usize,
    /// Events of one commit, at most, unless a single request has more.
    pub batch_events_max: usize,
    /// Payload bytes of one commit, at most, unless a single request has more.
    pub batch_bytes_max: usize,
    /// Requests that a tenant may have in flight.
    pub tenant_requests_max: usize,
    /// Payload bytes that a tenant may have in flight.
    pub tenant_bytes_max: usize,
    /// Payload bytes that all tenants together may have in flight.
    pub node_bytes_max: usize,
    /// Commits under way at the same time; further ones wait in the order in which they came.
    pub commits_in_flight_max: usize,
    /// Reads under way at the same time; further ones wait until their deadline.
    pub reads_in_flight_max: usize,
    /// How long a commit may take, with its retries.
    pub commit_timeout: Duration,
    /// How long an idempotency key is kept.
    pub idempotency_retention: Duration,
    /// Restarts of one actor within the window before its supervisor gives up on it.
    pub restarts_max: usize,
    /// The window in which restarts are counted.
    pub restart_window: Duration,
    /// Between two looks for what has reached its age.
    pub sweep_interval: Duration,
    /// Webhooks.
    pub delivery: DeliveryOptions,
}

/// Limits and times of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// Webhooks on their way from this node at the same time.
    pub in_flight_max: usize,
    /// Payload bytes of webhooks on their way at the same time, about: no attempt begins while there are as many.
    pub in_flight_bytes_max: usize,
    /// Webhooks of one tenant on their way at the same time.
    pub tenant_in_flight_max: usize,
    /// How long sending one may take.
    pub attempt_timeout: Duration,
    /// How long every attempt to a subscription may fail before it is disabled.
    pub disable_after: Duration,
    /// Failures in a row after which an endpoint is left alone for a while.
    pub breaker_failures_max: u32,
    /// How long at first.
    pub breaker_pause: Duration,
    /// How long at most.
    pub breaker_pause_max: Duration,
    /// Subscriptions of a tenant.
    pub subscriptions_max: u32,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            inbox_idle_timeout: Duration::from_secs(60),
            inboxes_max: 50_000,
            batch_events_max: 500,
            batch_bytes_max: 512 * 1024,
            tenant_requests_max: 1_024,
            tenant_bytes_max: 16 << 20,
            node_bytes_max: 256 << 20,
            commits_in_flight_max: 64,
            reads_in_flight_max: 256,
            commit_timeout: Duration::from_secs(5),
            idempotency_retention: Duration::from_secs(86_400),
            restarts_max: 5,
            restart_window: Duration::from_secs(60),
            sweep_interval: Duration::from_secs(600),
            delivery: DeliveryOptions::default(),
        }
    }
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            in_flight_max: 1_024,
            in_flight_bytes_max: 128 << 20,
            tenant_in_flight_max: 256,
            attempt_timeout: Duration::from_secs(15),
            disable_after: Duration::from_secs(5 * 86_400),
            breaker_failures_max: 10,
            breaker_pause: Duration::from_secs(1),
            breaker_pause_max: Duration::from_secs(30),
            subscriptions_max: 100,
        }
    }
}

impl BrokerOptions {
    /// How long after its claim something must be heard of an attempt: time to send it and to store its end.
    pub(crate) fn claim_time(&self) -> Duration {
        self.delivery.attempt_timeout + 2 * self.commit_timeout.max(Duration::from_secs(1))
    }
}

impl DeliveryOptions {
    pub(crate) fn dispatch_limits(&self) -> DispatchLimits {
        let breaker = BreakerLimits {
            failures_max: self.breaker_failures_max,
            pause_min: self.breaker_pause,
            pause_max: self.breaker_pause_max,
        };
        DispatchLimits { tenant_in_flight_max: self.tenant_in_flight_max, breaker }
    }
}
