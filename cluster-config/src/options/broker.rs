//! Options of section `broker`: inboxes, commits and admission.
//!
//! Admission is before any message is sent: permits for a tenant, then for the node. A tenant over its own gets 429, a
//! node over its own 503, both with `Retry-After`. While a commit of an inbox is in flight, arrivals gather; the next
//! commit takes all of them up to the limits of a batch.
//!
//! It is not what one request may contain: that is in section `limits`.

use crate::field::Bounds;
use crate::rule::Rule;

section! {
    /// Inboxes, commits and admission.
    "broker" => BrokerOptions {
        /// An inbox without requests for this long leaves memory; its events stay in the store.
        inbox_idle_timeout_ms: u64 = 60_000, Bounds::Whole(100, 86_400_000);
        /// Inboxes in memory; beyond it the least recently used one leaves.
        inboxes_max: usize = 50_000, Bounds::Whole(1, 10_000_000);
        /// Events of one tenant that one commit takes.
        batch_events_max: usize = 500, Bounds::Whole(1, 1_000);
        /// Size of the events of one tenant that one commit takes. A single larger event is committed alone.
        batch_bytes_max: usize = 524_288, Bounds::Whole(1_024, 4 << 20);
        /// Requests of one tenant that are admitted at the same time; more get 429.
        tenant_requests_max: usize = 1_024, Bounds::Whole(1, 1_048_576);
        /// Size of the bodies of one tenant that are held at the same time; more get 429.
        /// A full batch request has to fit in.
        tenant_bytes_max: usize = 16 << 20, Bounds::Whole(9 << 20, 1 << 30);
        /// Size of all bodies that are held at the same time; more get 503.
        node_bytes_max: usize = 256 << 20, Bounds::Whole(9 << 20, 64 << 30);
        /// Commits that are in flight at the same time, over all tenants, who take turns.
        commits_in_flight_max: usize = 64, Bounds::Whole(1, 4_096);
        /// Reads that run at the same time, over all tenants. At most store.readers_max.
        reads_in_flight_max: usize = 256, Bounds::Whole(1, 65_536);
        /// Wait for a commit, after which the outcome is unknown and 503 is answered.
        commit_timeout_ms: u64 = 5_000, Bounds::Whole(100, 60_000);
        /// Time for which an idempotency key is remembered. Clients rely on a day.
        idempotency_retention_seconds: u64 = 86_400, Bounds::Whole(1, 604_800);
        /// Restarts of one component within restart_window_ms, after which the node stops.
        restarts_max: u32 = 5, Bounds::Whole(0, 1_000);
        /// Window in which restarts are counted.
        restart_window_ms: u64 = 60_000, Bounds::Whole(1_000, 3_600_000);
        /// Rows that one inbox page may look at before it is answered with what was found.
        scan_rows_max: usize = 10_000, Bounds::Whole(10, 1_000_000);
        /// Time between two looks for events, idempotency keys and traces of deletions that have reached their age.
        sweep_interval_ms: u64 = 600_000, Bounds::Whole(1_000, 86_400_000);
    }
}

impl BrokerOptions {
    /// A handful of everything; commits and idle inboxes time out within a short run.
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
            sweep_interval_ms: 5_000,
            ..Self::default()
        }
    }
}

/// What the declarations above cannot say, with the sections that it has to fit.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["broker.node_bytes_max", "broker.tenant_bytes_max"],
        broken: |options| {
            let broker = &options.broker;
            (broker.node_bytes_max < broker.tenant_bytes_max)
                .then(|| "must be at least broker.tenant_bytes_max".to_owned())
        },
    },
    Rule {
        fields: &["broker.reads_in_flight_max", "store.readers_max"],
        broken: |options| {
            (options.broker.reads_in_flight_max as u64 > u64::from(options.store.readers_max))
                .then(|| "must be at most store.readers_max: every read needs a reader".to_owned())
        },
    },
    Rule {
        fields: &["broker.commit_timeout_ms", "listen.request_timeout_ms"],
        broken: |options| {
            (options.broker.commit_timeout_ms > options.listen.request_timeout_ms)
                .then(|| "must be at most listen.request_timeout_ms".to_owned())
        },
    },
    Rule {
        fields: &["broker.scan_rows_max", "limits.page_events_max"],
        broken: |options| {
            (options.broker.scan_rows_max < options.limits.page_events_max).then(|| {
                "must be at least limits.page_events_max: a page could never be full".to_owned()
            })
        },
    },
];
