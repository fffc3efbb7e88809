//! Limits and times of the actors, converted from the validated options of the node.
//!
//! Invariant `OPTIONS-1`: a value in this file bounds every queue, cache, wait and restart of this
//! crate.

use std::time::Duration;
use triggers_cluster_config::NodeOptions;

/// Limits and times of inboxes, commits and admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerOptions {
    /// An inbox without requests for this long is closed.
    pub inbox_idle_timeout: Duration,
    /// Approximate bound on open inboxes; the least recently used idle one is closed.
    pub inboxes_max: usize,
    /// Events of one commit, unless a single request has more.
    pub batch_events_max: usize,
    /// Payload bytes of one commit, unless a single request has more.
    pub batch_bytes_max: usize,
    /// Requests of one tenant in progress.
    pub tenant_requests_max: usize,
    /// Payload bytes of the requests of one tenant in progress.
    pub tenant_bytes_max: usize,
    /// Payload bytes of the requests of all tenants in progress.
    pub node_bytes_max: usize,
    /// Commits in flight; further ones wait in the order of arrival.
    pub commits_in_flight_max: usize,
    /// Reads in progress; further ones wait until their deadline.
    pub reads_in_flight_max: usize,
    /// Rows that one step of a lease scans for events that it selects.
    pub lease_scan_rows_max: usize,
    /// Time for a commit, including its retries.
    pub commit_timeout: Duration,
    /// Time for which an idempotency key is kept.
    pub idempotency_retention: Duration,
    /// Restarts of one actor within the window; at one more its supervisor stops it.
    pub restarts_max: usize,
    /// Time window in which restarts are counted.
    pub restart_window: Duration,
    /// Interval between two sweeps, which remove expired rows.
    pub sweep_interval: Duration,
    /// Limits and times of webhooks.
    pub delivery: DeliveryOptions,
}

/// Limits and times of webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// Delivery attempts in progress on this node.
    pub in_flight_max: usize,
    /// Approximate bound on the payload bytes of the delivery attempts in progress.
    pub in_flight_bytes_max: usize,
    /// Delivery attempts of one tenant in progress.
    pub tenant_in_flight_max: usize,
    /// Time to send one webhook.
    pub attempt_timeout: Duration,
    /// An attempt that takes longer is slow, and its endpoint gets fewer at once.
    pub slow_after: Duration,
    /// A subscription is disabled once all its attempts have failed for this long.
    pub disable_after: Duration,
    /// Consecutive failures after which deliveries to an endpoint pause.
    pub breaker_failures_max: u32,
    /// First pause of deliveries to a failing endpoint.
    pub breaker_pause: Duration,
    /// Longest pause of deliveries to a failing endpoint.
    pub breaker_pause_max: Duration,
    /// Subscriptions per tenant.
    pub subscriptions_max: u32,
}

/// How this node takes part in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// The node's name.
    pub name: String,
    /// Address at which clients reach this node.
    pub address: String,
    /// Address at which peers reach this node.
    pub peer_address: String,
    /// Time between two heartbeats.
    pub heartbeat_interval: Duration,
    /// A node without a committed heartbeat for this long stops serving.
    pub stop_after: Duration,
    /// Other nodes take over from a node whose heartbeat has not changed for this long.
    pub take_over_after: Duration,
    /// Partition transfers in flight.
    pub transfers_in_flight_max: usize,
}

/// The defaults are those of the configuration.
impl Default for BrokerOptions {
    fn default() -> Self {
        Self::from(&NodeOptions::default())
    }
}

impl From<&NodeOptions> for BrokerOptions {
    fn from(options: &NodeOptions) -> Self {
        let broker = &options.broker;
        Self {
            inbox_idle_timeout: Duration::from_millis(broker.inbox_idle_timeout_ms),
            inboxes_max: broker.inboxes_max,
            batch_events_max: broker.batch_events_max,
            batch_bytes_max: broker.batch_bytes_max,
            tenant_requests_max: broker.tenant_requests_max,
            tenant_bytes_max: broker.tenant_bytes_max,
            node_bytes_max: broker.node_bytes_max,
            commits_in_flight_max: broker.commits_in_flight_max,
            reads_in_flight_max: broker.reads_in_flight_max,
            lease_scan_rows_max: broker.lease_scan_rows_max,
            commit_timeout: Duration::from_millis(broker.commit_timeout_ms),
            idempotency_retention: Duration::from_secs(broker.idempotency_retention_seconds),
            restarts_max: broker.restarts_max as usize,
            restart_window: Duration::from_millis(broker.restart_window_ms),
            sweep_interval: Duration::from_millis(broker.sweep_interval_ms),
            delivery: DeliveryOptions::from(&options.delivery),
        }
    }
}

impl From<&triggers_cluster_config::DeliveryOptions> for DeliveryOptions {
    fn from(delivery: &triggers_cluster_config::DeliveryOptions) -> Self {
        Self {
            in_flight_max: delivery.in_flight_max,
            in_flight_bytes_max: delivery.in_flight_bytes_max,
            tenant_in_flight_max: delivery.tenant_in_flight_max,
            attempt_timeout: Duration::from_millis(delivery.attempt_timeout_ms),
            slow_after: Duration::from_millis(delivery.slow_after_ms),
            disable_after: Duration::from_secs(delivery.disable_after_seconds),
            breaker_failures_max: delivery.breaker_failures_max,
            breaker_pause: Duration::from_millis(delivery.breaker_pause_ms),
            breaker_pause_max: Duration::from_millis(delivery.breaker_pause_ms_max),
            subscriptions_max: u32::try_from(delivery.subscriptions_max).unwrap_or(u32::MAX),
        }
    }
}

impl BrokerOptions {
    /// Time after which a claimed attempt without an outcome counts as lost: time to send the
    /// webhook and to store the outcome.
    pub(crate) fn claim_time(&self) -> Duration {
        self.delivery.attempt_timeout + 2 * self.commit_timeout.max(Duration::from_secs(1))
    }
}
