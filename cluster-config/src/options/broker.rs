//! Options of section `broker`: inboxes, commits and admission.
//!
//! Before a request is sent to an inbox, it acquires permits: of its tenant, then of the node.
//! Without a permit of the tenant it is rejected with 429, without one of the node with 503.
//! Requests that arrive during a commit of their inbox are gathered into the next commit.
//!
//! Limits on a single request are in section `limits`.

use crate::field::Bounds;

section! {
    /// Inboxes, commits and admission limits.
    "broker" => BrokerOptions {
        /// An inbox without requests for this long is removed from memory; its events stay in the
        /// store.
        inbox_idle_timeout_ms: u64 = 60_000, Bounds::Range(100, 86_400_000);
        /// Inboxes in memory; for a further one the least recently used one is removed.
        inboxes_max: usize = 50_000, Bounds::Range(1, 10_000_000);
        /// Events of one commit of a tenant.
        batch_events_max: usize = 500, Bounds::Range(1, 1_000);
        /// Total size of the events of one commit of a tenant. A larger event is committed alone.
        batch_bytes_max: usize = 524_288, Bounds::Range(1_024, 4 << 20);
        /// Requests of one tenant in progress; more are rejected with 429.
        tenant_requests_max: usize = 1_024, Bounds::Range(1, 1_048_576);
        /// Total body size of the requests of one tenant in progress; more are rejected with 429.
        /// A full batch request must fit.
        tenant_bytes_max: usize = 16 << 20, Bounds::Range(9 << 20, 1 << 30);
        /// Total body size of all requests in progress; more are rejected with 503.
        node_bytes_max: usize = 256 << 20, Bounds::Range(9 << 20, 64 << 30);
        /// Commits in flight over all tenants; further ones wait in turn.
        commits_in_flight_max: usize = 64, Bounds::Range(1, 4_096);
        /// Reads in progress over all tenants; at most store.readers_max.
        reads_in_flight_max: usize = 256, Bounds::Range(1, 65_536);
        /// Time for a commit; after it the outcome is unknown and the node answers 503.
        commit_timeout_ms: u64 = 5_000, Bounds::Range(100, 60_000);
        /// Time for which an idempotency key is kept. Clients rely on one day.
        idempotency_retention_seconds: u64 = 86_400, Bounds::Range(1, 604_800);
        /// Restarts of one component within restart_window_ms; at one more the node stops.
        restarts_max: u32 = 5, Bounds::Range(0, 1_000);
        /// Time window in which restarts are counted.
        restart_window_ms: u64 = 60_000, Bounds::Range(1_000, 3_600_000);
        /// Rows that are read for one inbox page; then the page is returned, full or not.
        scan_rows_max: usize = 10_000, Bounds::Range(10, 1_000_000);
        /// Rows that one commit reads for a lease with event types; the lease goes on in the next.
        lease_scan_rows_max: usize = 2_000, Bounds::Range(1, 100_000);
        /// Interval between two sweeps, which remove expired events, idempotency keys and deletion
        /// records.
        sweep_interval_ms: u64 = 600_000, Bounds::Range(1_000, 86_400_000);
    }
}

impl BrokerOptions {
    /// Small limits; commits and idle inboxes time out within a short run.
    pub(crate) fn simulation() -> Self {
        Self {
            inbox_idle_timeout_ms: 2_000,
            inboxes_max: 8,
            batch_events_max: 4,
            batch_bytes_max: 4_096,
            tenant_requests_max: 8,
            tenant_bytes_max: 9 << 20,
            node_bytes_max: 18 << 20,
            commits_in_flight_max: 2,
            reads_in_flight_max: 4,
            commit_timeout_ms: 1_000,
            idempotency_retention_seconds: 60,
            scan_rows_max: 20,
            lease_scan_rows_max: 2,
            sweep_interval_ms: 5_000,
            ..Self::default()
        }
    }
}

rules! {
    ["broker.node_bytes_max", "broker.tenant_bytes_max"]
        |options| options.broker.node_bytes_max < options.broker.tenant_bytes_max
        => "must be at least broker.tenant_bytes_max";
    ["broker.reads_in_flight_max", "store.readers_max"]
        |options| options.broker.reads_in_flight_max > options.store.readers_max as usize
        => "must be at most store.readers_max: every read needs a reader";
    ["broker.commit_timeout_ms", "listen.request_timeout_ms"]
        |options| options.broker.commit_timeout_ms > options.listen.request_timeout_ms
        => "must be at most listen.request_timeout_ms";
    ["broker.scan_rows_max", "limits.page_events_max"]
        |options| options.broker.scan_rows_max < options.limits.page_events_max
        => "must be at least limits.page_events_max: a page could never be full";
}
