//! Options of section `delivery`: permitted webhook targets, timeouts and failing endpoints.
//!
//! A tenant chooses the target of a webhook, so the node checks it: unless an option allows it, the
//! target must use `https` and none of its addresses may be private. The section bounds every wait
//! for an endpoint and everything an endpoint makes the node hold. After repeated failures the node
//! pauses deliveries to an endpoint, and finally disables the subscription.
//!
//! The retry policy is not an option of the node: each subscription has its own.

use crate::field::Bounds;
use crate::rule::list_fault;
use ipnet::IpNet;
use std::path::PathBuf;

/// Webhooks that one commit may add, given the limits of a transaction.
const BATCH_WEBHOOKS_MAX: usize = 50_000;

section! {
    /// Delivery of webhooks: permitted targets, timeouts and failing endpoints.
    "delivery" => DeliveryOptions {
        /// Delivery attempts in progress on this node; further ones wait.
        in_flight_max: usize = 1_024, Bounds::Range(1, 65_536);
        /// Total payload size of the delivery attempts in progress; at this size no further attempt
        /// starts.
        in_flight_bytes_max: usize = 128 << 20, Bounds::Range(1 << 20, 64 << 30);
        /// Delivery attempts of one tenant in progress; further ones wait.
        tenant_in_flight_max: usize = 256, Bounds::Range(1, 65_536);
        /// Time to connect: name resolution, TCP and TLS.
        connect_timeout_ms: u64 = 5_000, Bounds::Range(100, 60_000);
        /// Time for which the addresses of a host name are used again; 0 looks the name up for
        /// each connection. Every use checks the addresses.
        name_cache_ms: u64 = 10_000, Bounds::Range(0, 300_000);
        /// Time to wait for the status of a response, once connected.
        read_timeout_ms: u64 = 15_000, Bounds::Range(100, 120_000);
        /// Time for a complete attempt; after it the attempt has failed.
        attempt_timeout_ms: u64 = 15_000, Bounds::Range(100, 120_000);
        /// An attempt that takes longer is slow: its endpoint gets fewer attempts at once, but at
        /// least 8 while they succeed.
        slow_after_ms: u64 = 5_000, Bounds::Range(10, 120_000);
        /// An unused connection to an endpoint is closed after this time; 0 keeps none. It should
        /// be less than the idle time of endpoints and proxies (Node.js 5 s, most others 60 s).
        idle_timeout_ms: u64 = 4_000, Bounds::Range(0, 600_000);
        /// Bytes of a response body that are read; its content is ignored.
        response_bytes_max: usize = 65_536, Bounds::Range(1_024, 16 << 20);
        /// Reject targets that do not use https.
        is_https_required: bool = true, Bounds::Free;
        /// Private networks that webhooks may be sent to. Without it, targets on this machine or in
        /// its private network are rejected.
        allowed_targets: Vec<String> = Vec::new(),
            Bounds::Described("a list of at most 64 networks, such as 10.1.0.0/16");
        /// CA certificates in PEM that are trusted for endpoints, besides public CAs.
        tls_ca_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// Subscriptions per tenant.
        subscriptions_max: usize = 100, Bounds::Range(1, 200);
        /// A subscription is disabled once all its attempts have failed for this long.
        disable_after_seconds: u64 = 432_000, Bounds::Range(60, 31_536_000);
        /// Consecutive failures after which deliveries to an endpoint pause.
        breaker_failures_max: u32 = 10, Bounds::Range(1, 10_000);
        /// First pause of deliveries to a failing endpoint; the following pauses are longer.
        breaker_pause_ms: u64 = 1_000, Bounds::Range(10, 600_000);
        /// Longest pause of deliveries to a failing endpoint.
        breaker_pause_ms_max: u64 = 30_000, Bounds::Range(10, 3_600_000);
    }
}

impl DeliveryOptions {
    /// Few attempts at once, short timeouts and pauses, subscriptions that are soon disabled.
    pub(crate) fn simulation() -> Self {
        Self {
            in_flight_max: 8,
            in_flight_bytes_max: 1 << 20,
            tenant_in_flight_max: 4,
            connect_timeout_ms: 500,
            read_timeout_ms: 1_000,
            attempt_timeout_ms: 1_500,
            slow_after_ms: 500,
            response_bytes_max: 1_024,
            subscriptions_max: 4,
            disable_after_seconds: 60,
            breaker_failures_max: 3,
            breaker_pause_ms: 100,
            breaker_pause_ms_max: 1_000,
            ..Self::default()
        }
    }
}

rules! {
    ["delivery.tenant_in_flight_max", "delivery.in_flight_max"]
        |options| options.delivery.tenant_in_flight_max > options.delivery.in_flight_max
        => "must be at most delivery.in_flight_max";
    ["delivery.connect_timeout_ms", "delivery.attempt_timeout_ms"]
        |options| options.delivery.connect_timeout_ms > options.delivery.attempt_timeout_ms
        => "must be at most delivery.attempt_timeout_ms";
    ["delivery.read_timeout_ms", "delivery.attempt_timeout_ms"]
        |options| options.delivery.read_timeout_ms > options.delivery.attempt_timeout_ms
        => "must be at most delivery.attempt_timeout_ms";
    ["delivery.breaker_pause_ms", "delivery.breaker_pause_ms_max"]
        |options| options.delivery.breaker_pause_ms > options.delivery.breaker_pause_ms_max
        => "must be at most delivery.breaker_pause_ms_max";
    ["delivery.subscriptions_max", "broker.batch_events_max"]
        |options| options.delivery.subscriptions_max * options.broker.batch_events_max
            > BATCH_WEBHOOKS_MAX
        => "must be at most 50_000 divided by broker.batch_events_max: \
            one commit cannot add more webhooks";
    ["delivery.allowed_targets"]
        |options| networks_fault(&options.delivery.allowed_targets);
}

/// Describes what is wrong with a list of networks.
fn networks_fault(networks: &[String]) -> Option<String> {
    list_fault(networks, "networks", |network| {
        network.parse::<IpNet>().is_err().then_some("must be a network, such as 10.1.0.0/16")
    })
}

#[cfg(test)]
mod tests {
    use super::networks_fault;

    #[test]
    fn faults_name_the_texts_that_are_not_networks() {
        let fault = |networks: &[&str]| {
            networks_fault(&networks.iter().map(|text| text.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(fault(&[]), None);
        assert_eq!(
            fault(&["10.1.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128", "0.0.0.0/0"]),
            None
        );
        for text in
            ["", "10.1.0.0", "10.1.0.0/33", "10.1/16", "::1/129", "localhost/8", " 10.0.0.0/8", "*"]
        {
            let expected = format!("{text:?} must be a network, such as 10.1.0.0/16");
            assert_eq!(fault(&["10.1.0.0/16", text]), Some(expected), "{text}");
        }
        let expected = "\"a\" must be a network, such as 10.1.0.0/16; \
                        \"b\" must be a network, such as 10.1.0.0/16";
        assert_eq!(fault(&["a", "b"]).as_deref(), Some(expected));
        let expected = "must be at most 64 networks, but are 65";
        assert_eq!(fault(&["10.0.0.0/8"; 65]).as_deref(), Some(expected));
    }
}
