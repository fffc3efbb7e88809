//! Options of section `delivery`: webhooks, where they may go, and when they are given up.
//!
//! A partner names the target, so a target is checked: it must be `https`, and no address of it may be private, unless
//! an option allows it. Every wait on an endpoint has an end here, and so has everything an endpoint can make the node
//! hold. An endpoint that keeps failing is left alone for a pause that grows, a subscription that failed for long is
//! disabled.
//!
//! It is not the retry policy of an event: a tenant sets that.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::field::Bounds;
use crate::rule::Rule;

/// Networks that may be allowed; each address of a target is compared with all of them.
const NETWORKS_MAX: usize = 64;

/// Webhooks that one commit may add, by the limits of a transaction.
const BATCH_WEBHOOKS_MAX: usize = 50_000;

section! {
    /// Webhooks: where they may go, how long they may take, when they are given up.
    "delivery" => DeliveryOptions {
        /// Webhooks of this node that are on their way at the same time; more wait.
        in_flight_max: usize = 1_024, Bounds::Whole(1, 65_536);
        /// Size of the payloads that are on their way at the same time; while it is reached no webhook begins.
        in_flight_bytes_max: usize = 128 << 20, Bounds::Whole(1 << 20, 64 << 30);
        /// Webhooks of one tenant that are on their way at the same time.
        tenant_in_flight_max: usize = 256, Bounds::Whole(1, 65_536);
        /// Wait for a connection: looking the host name up, TCP and TLS.
        connect_timeout_ms: u64 = 5_000, Bounds::Whole(100, 60_000);
        /// Wait for the next byte of an answer, also for the first one.
        read_timeout_ms: u64 = 15_000, Bounds::Whole(100, 120_000);
        /// Time for a whole attempt, after which it has failed.
        attempt_timeout_ms: u64 = 15_000, Bounds::Whole(100, 120_000);
        /// Size up to which the body of an answer is read. What is in it does not matter.
        response_bytes_max: usize = 65_536, Bounds::Whole(1_024, 16 << 20);
        /// Refuse targets that are not https.
        is_https_required: bool = true, Bounds::Free;
        /// Networks that may be called though they are private. Empty: none. Without this no webhook reaches a service
        /// that only this machine or its network can reach.
        allowed_targets: Vec<String> = Vec::new(),
            Bounds::Described("a list of at most 64 networks, such as 10.1.0.0/16");
        /// Certificates, PEM, that endpoints may have theirs from, besides the public authorities.
        tls_ca_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// Subscriptions of a tenant.
        subscriptions_max: usize = 100, Bounds::Whole(1, 200);
        /// A subscription whose every attempt has failed for this long is disabled.
        disable_after_seconds: u64 = 432_000, Bounds::Whole(60, 31_536_000);
        /// Failures in a row after which an endpoint is left alone for breaker_pause_ms.
        breaker_failures_max: u32 = 10, Bounds::Whole(1, 10_000);
        /// First pause of an endpoint that keeps failing; the next ones are longer.
        breaker_pause_ms: u64 = 1_000, Bounds::Whole(10, 600_000);
        /// Longest pause of an endpoint that keeps failing.
        breaker_pause_ms_max: u64 = 30_000, Bounds::Whole(10, 3_600_000);
    }
}

impl DeliveryOptions {
    /// A handful of webhooks at once, short waits and pauses, subscriptions that are soon disabled.
    pub(crate) fn simulation() -> Self {
        Self {
            in_flight_max: 8,
            in_flight_bytes_max: 1 << 20,
            tenant_in_flight_max: 4,
            connect_timeout_ms: 500,
            read_timeout_ms: 1_000,
            attempt_timeout_ms: 1_500,
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

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["delivery.tenant_in_flight_max", "delivery.in_flight_max"],
        broken: |options| {
            (options.delivery.tenant_in_flight_max > options.delivery.in_flight_max)
                .then(|| "must be at most delivery.in_flight_max".to_owned())
        },
    },
    Rule {
        fields: &["delivery.connect_timeout_ms", "delivery.attempt_timeout_ms"],
        broken: |options| {
            (options.delivery.connect_timeout_ms > options.delivery.attempt_timeout_ms)
                .then(|| "must be at most delivery.attempt_timeout_ms".to_owned())
        },
    },
    Rule {
        fields: &["delivery.read_timeout_ms", "delivery.attempt_timeout_ms"],
        broken: |options| {
            (options.delivery.read_timeout_ms > options.delivery.attempt_timeout_ms)
                .then(|| "must be at most delivery.attempt_timeout_ms".to_owned())
        },
    },
    Rule {
        fields: &["delivery.breaker_pause_ms", "delivery.breaker_pause_ms_max"],
        broken: |options| {
            (options.delivery.breaker_pause_ms > options.delivery.breaker_pause_ms_max)
                .then(|| "must be at most delivery.breaker_pause_ms_max".to_owned())
        },
    },
    Rule {
        fields: &["delivery.subscriptions_max", "broker.batch_events_max"],
        broken: |options| {
            let webhooks = options.delivery.subscriptions_max * options.broker.batch_events_max;
            (webhooks > BATCH_WEBHOOKS_MAX).then(|| {
                "must be at most 50_000 divided by broker.batch_events_max: a commit has room for no more".to_owned()
            })
        },
    },
    Rule {
        fields: &["delivery.allowed_targets"],
        broken: |options| networks_fault(&options.delivery.allowed_targets),
    },
];

/// What is wrong with a list of networks, or nothing.
fn networks_fault(networks: &[String]) -> Option<String> {
    if networks.len() > NETWORKS_MAX {
        return Some(format!(
            "must be at most {NETWORKS_MAX} networks, but are {}",
            networks.len()
        ));
    }
    let faulty = networks.iter().filter(|network| network.parse::<IpNet>().is_err());
    let faults: Vec<String> = faulty
        .map(|network| format!("{network:?} must be a network, such as 10.1.0.0/16"))
        .collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

#[cfg(test)]
mod tests {
    use super::networks_fault;

    #[test]
    fn networks_are_taken_and_everything_else_is_named() {
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
        let expected = "\"a\" must be a network, such as 10.1.0.0/16; \"b\" must be a network, such as 10.1.0.0/16";
        assert_eq!(fault(&["a", "b"]).as_deref(), Some(expected));
        let expected = "must be at most 64 networks, but are 65";
        assert_eq!(fault(&["10.0.0.0/8"; 65]).as_deref(), Some(expected));
    }
}
