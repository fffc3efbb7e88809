//! The counters that every request of a listener passes.

use super::flood::Flood;
use super::rate_limit::RateLimits;
use std::time::Duration;
use triggers_actors::keyed_limit::KeyedLimit;
use triggers_cluster_config::LimitOptions;
use triggers_protocol::TenantId;

/// Request rates by key, bad keys by address, and open streams by tenant.
pub struct Counters {
    /// Rates of keys.
    pub rates: RateLimits,
    /// Bad keys by address.
    pub flood: Flood,
    /// Open streams by tenant.
    pub streams: KeyedLimit<TenantId>,
}

impl Counters {
    /// Makes counters with the limits of a node.
    pub fn new(limits: &LimitOptions) -> Self {
        let window = Duration::from_secs(limits.unauthenticated_window_seconds);
        Self {
            rates: RateLimits::new(limits.rate_limit_per_minute, limits.key_cache_max),
            flood: Flood::new(
                limits.unauthenticated_requests_max,
                window,
                limits.unauthenticated_addresses_max,
            ),
            streams: KeyedLimit::default(),
        }
    }
}
