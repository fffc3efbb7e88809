//! Options of section `limits`: what clients may ask for.
//!
//! The upper bounds of payload, batch and page are the wire contract's: an operator can lower them, never raise them, so
//! that a client works with every node. Rates are what a key has that nobody gave another.
//!
//! It is not admission: how much of what is allowed may be in memory at once is in section `broker`.

use crate::field::Bounds;
use crate::rule::Rule;

section! {
    /// What clients may ask for.
    "limits" => LimitOptions {
        /// Requests of a key that has no rate of its own.
        rate_limit_per_minute: u32 = 1_000, Bounds::Whole(1, 100_000_000);
        /// Requests without a good key from one address within unauthenticated_window_seconds; more get 429.
        unauthenticated_requests_max: u32 = 2_000, Bounds::Whole(1, 100_000_000);
        /// Window in which requests without a good key are counted.
        unauthenticated_window_seconds: u64 = 300, Bounds::Whole(1, 86_400);
        /// Addresses for which requests without a good key are counted; beyond it the oldest is forgotten.
        unauthenticated_addresses_max: usize = 65_536, Bounds::Whole(1, 16_777_216);
        /// Keys that are remembered after they were looked up, good ones and bad ones.
        key_cache_max: usize = 100_000, Bounds::Whole(1, 10_000_000);
        /// Time for which a key is remembered, and so the time within which revoking it takes effect.
        key_cache_ttl_ms: u64 = 1_000, Bounds::Whole(1, 1_000);
        /// Size of the payload of an event.
        payload_bytes_max: usize = 1_048_576, Bounds::Whole(1_024, 1_048_576);
        /// Events of a batch request.
        batch_events_max: usize = 1_000, Bounds::Whole(1, 1_000);
        /// Size of a batch request.
        batch_bytes_max: usize = 8 << 20, Bounds::Whole(1_024, 8 << 20);
        /// Events of an inbox page.
        page_events_max: usize = 200, Bounds::Whole(1, 200);
        /// Events of an inbox page if the request names no limit.
        page_events_default: usize = 50, Bounds::Whole(1, 200);
    }
}

impl LimitOptions {
    /// Rates, caches and pages that a short workload exceeds.
    pub(crate) fn simulation() -> Self {
        Self {
            rate_limit_per_minute: 120,
            unauthenticated_requests_max: 20,
            unauthenticated_window_seconds: 10,
            unauthenticated_addresses_max: 4,
            key_cache_max: 4,
            key_cache_ttl_ms: 200,
            payload_bytes_max: 16_384,
            batch_events_max: 10,
            batch_bytes_max: 65_536,
            page_events_max: 10,
            page_events_default: 3,
        }
    }
}

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["limits.batch_bytes_max", "limits.payload_bytes_max"],
        broken: |options| {
            let limits = &options.limits;
            (limits.batch_bytes_max < limits.payload_bytes_max)
                .then(|| "must be at least limits.payload_bytes_max".to_owned())
        },
    },
    Rule {
        fields: &["limits.page_events_default", "limits.page_events_max"],
        broken: |options| {
            let limits = &options.limits;
            (limits.page_events_default > limits.page_events_max)
                .then(|| "must be at most limits.page_events_max".to_owned())
        },
    },
];
