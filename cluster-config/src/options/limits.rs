//! Options of section `limits`: limits on single requests and on their rate.
//!
//! The largest accepted payload, batch and page are part of the API: an operator can lower these
//! limits but not raise them above the defaults. Limits on all requests in progress together are
//! in section `broker`.

use crate::field::Bounds;

section! {
    /// Limits on requests of clients.
    "limits" => LimitOptions {
        /// Requests per key, unless the key has its own rate limit.
        rate_limit_per_minute: u32 = 1_000, Bounds::Range(1, 100_000_000);
        /// Requests without a valid key per client address within unauthenticated_window_seconds;
        /// more are rejected with 429.
        unauthenticated_requests_max: u32 = 2_000, Bounds::Range(1, 100_000_000);
        /// Time window in which requests without a valid key are counted.
        unauthenticated_window_seconds: u64 = 300, Bounds::Range(1, 86_400);
        /// Client addresses for which such requests are counted; for a further one the oldest is
        /// dropped.
        unauthenticated_addresses_max: usize = 65_536, Bounds::Range(1, 16_777_216);
        /// Keys in the cache of looked-up keys, valid and invalid ones.
        key_cache_max: usize = 100_000, Bounds::Range(1, 10_000_000);
        /// Time for which a key is cached. Revoking a key takes effect within this time.
        key_cache_ttl_ms: u64 = 1_000, Bounds::Range(1, 1_000);
        /// Payload size of an event.
        payload_bytes_max: usize = 1_048_576, Bounds::Range(1_024, 1_048_576);
        /// Events in a batch request.
        batch_events_max: usize = 1_000, Bounds::Range(1, 1_000);
        /// Body size of a batch request.
        batch_bytes_max: usize = 8 << 20, Bounds::Range(1_024, 8 << 20);
        /// Events in an inbox page.
        page_events_max: usize = 200, Bounds::Range(1, 200);
        /// Events in an inbox page if the request has no limit.
        page_events_default: usize = 50, Bounds::Range(1, 200);
    }
}

impl LimitOptions {
    /// Rates, caches and pages small enough for a short workload to exceed.
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

rules! {
    ["limits.batch_bytes_max", "limits.payload_bytes_max"]
        |options| options.limits.batch_bytes_max < options.limits.payload_bytes_max
        => "must be at least limits.payload_bytes_max";
    ["limits.page_events_default", "limits.page_events_max"]
        |options| options.limits.page_events_default > options.limits.page_events_max
        => "must be at most limits.page_events_max";
}
