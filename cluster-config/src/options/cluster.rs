//! Options of section `cluster`: how nodes reach each other, and when one takes over from another.
//!
//! Each node writes a heartbeat into the store. A node that fails to do so for `stop_after_ms`
//! stops serving; after `take_over_after_ms` the other nodes take over its partitions. The order of
//! the two times avoids failed requests. Correctness does not depend on it: the store rejects
//! writes of a former owner.
//!
//! A client of the cluster listener can act as any tenant. Off loopback, therefore, both sides of
//! a connection must present a certificate. With the embedded engine the section has no effect.
//!
//! The section does not list the nodes: they find each other in the store.

use super::listen::host_fits;
use crate::field::Bounds;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

section! {
    /// Communication between the nodes of a cluster. Used only with a store.engine that nodes
    /// share.
    "cluster" => ClusterOptions {
        /// Address and port to listen on for the other nodes; port 0 selects a free port.
        /// Clients must not be able to reach it.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            Bounds::Described("an IP address and port, such as 10.0.0.1:7400");
        /// Host and port at which the other nodes reach this one. Defaults to address.
        advertised_address: Option<String> = None,
            Bounds::Described("a host and port, such as node-1.internal:7400; empty: none");
        /// Certificate chain of this node in PEM, issued for node.name. The node presents it both
        /// as a server and as a client.
        tls_certificate_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// Private key of the certificate in PEM.
        tls_key_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// CA certificates in PEM that the certificates of all nodes are verified with. The CA
        /// should issue certificates for the nodes of this cluster only.
        tls_ca_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// Interval at which a node writes its heartbeat into the store.
        heartbeat_interval_ms: u64 = 2_000, Bounds::Range(100, 60_000);
        /// A node that fails to write its heartbeat for this long stops serving.
        stop_after_ms: u64 = 8_000, Bounds::Range(300, 300_000);
        /// The other nodes take over from a node whose heartbeat is unchanged for this long.
        take_over_after_ms: u64 = 10_000, Bounds::Range(301, 600_000);
        /// Partitions that this node transfers to other nodes at the same time.
        transfers_in_flight_max: usize = 8, Bounds::Range(1, 256);
        /// Requests of one other node in progress on this node; more are rejected with 503.
        peer_requests_max: usize = 4_096, Bounds::Range(1, 1_048_576);
        /// Total size of the requests of one other node in progress on this node.
        peer_bytes_max: usize = 64 << 20, Bounds::Range(9 << 20, 16 << 30);
    }
}

impl ClusterOptions {
    /// Short times, so that other nodes take over within a second, and few requests.
    pub(crate) fn simulation() -> Self {
        Self {
            heartbeat_interval_ms: 100,
            stop_after_ms: 400,
            take_over_after_ms: 600,
            transfers_in_flight_max: 2,
            peer_requests_max: 16,
            peer_bytes_max: 9 << 20,
            ..Self::default()
        }
    }
}

rules! {
    ["cluster.address", "listen.address", "admin.address", "store.engine"]
        |options| options.store.engine.is_shared()
            && [options.listen.address, options.admin.address].contains(&options.cluster.address)
            && options.cluster.address.port() != 0
        => "must differ from listen.address and admin.address: each listener needs its own";
    ["cluster.advertised_address"]
        |options| options.cluster.advertised_address.as_deref().is_some_and(|address| {
            !peer_address_fits(address)
        })
        => "must be a host and port, such as node-1.internal:7400";
    ["cluster.advertised_address", "cluster.address", "store.engine"]
        |options| options.store.engine.is_shared()
            && options.cluster.address.ip().is_unspecified()
            && options.cluster.advertised_address.is_none()
        => format!(
            "must be set, since no other node can reach this one at cluster.address {}",
            options.cluster.address
        );
    ["cluster.tls_certificate_file", "cluster.tls_key_file", "cluster.tls_ca_file"]
        |options| (1..=2).contains(&tls_files_set(&options.cluster))
        => "must be set together with cluster.tls_key_file and cluster.tls_ca_file, or none";
    [
        "cluster.tls_certificate_file",
        "cluster.tls_key_file",
        "cluster.tls_ca_file",
        "cluster.address",
        "store.engine"
    ]
        |options| options.store.engine.is_shared()
            && !options.cluster.address.ip().is_loopback()
            && tls_files_set(&options.cluster) == 0
        => "must be set with cluster.tls_key_file and cluster.tls_ca_file, \
            since cluster.address is not on loopback";
    ["cluster.heartbeat_interval_ms", "cluster.stop_after_ms"]
        |options| options.cluster.heartbeat_interval_ms * 3 > options.cluster.stop_after_ms
        => "must be at most a third of cluster.stop_after_ms: \
            one late heartbeat must not stop a node";
    ["cluster.stop_after_ms", "cluster.take_over_after_ms"]
        |options| options.cluster.stop_after_ms >= options.cluster.take_over_after_ms
        => "must be less than cluster.take_over_after_ms: \
            a node stops before others take over from it";
}

/// The number of TLS files that are set, of three.
fn tls_files_set(cluster: &ClusterOptions) -> usize {
    let files = [&cluster.tls_certificate_file, &cluster.tls_key_file, &cluster.tls_ca_file];
    files.into_iter().flatten().count()
}

/// Tests whether a text is a port from 1 to 65535 on a host that is not the unspecified address.
fn peer_address_fits(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_unspecified = bare.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let port_fits = !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    port_fits && host_fits(host) && !is_unspecified
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::options::{NodeOptions, StoreEngine};

    /// Valid options of a clustered node that does not listen on loopback.
    fn clustered() -> NodeOptions {
        let mut options = NodeOptions::default();
        options.store.engine = StoreEngine::Foundationdb;
        options.cluster.address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7400));
        options.cluster.advertised_address = Some("node-1.internal:7400".to_owned());
        options.cluster.tls_certificate_file = Some(PathBuf::from("node-1.pem"));
        options.cluster.tls_key_file = Some(PathBuf::from("node-1-key.pem"));
        options.cluster.tls_ca_file = Some(PathBuf::from("ca.pem"));
        options
    }

    /// The fields whose faults `validate` reports after the change.
    fn blamed(change: impl FnOnce(&mut NodeOptions)) -> Vec<String> {
        let mut options = clustered();
        change(&mut options);
        options.validate().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn options_of_a_clustered_node_are_valid() {
        assert_eq!(clustered().validate(), Vec::new());
    }

    #[test]
    fn an_unspecified_address_requires_an_advertised_one() {
        assert_eq!(
            blamed(|options| options.cluster.advertised_address = None),
            ["cluster.advertised_address"]
        );
        let unspecified = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7400));
        let change = |options: &mut NodeOptions| {
            options.cluster.address = unspecified;
            options.cluster.advertised_address = None;
        };
        assert_eq!(blamed(change), ["cluster.advertised_address"]);
        let reachable = |options: &mut NodeOptions| {
            options.cluster.address = SocketAddr::from(([10, 0, 0, 1], 7400));
            options.cluster.advertised_address = None;
        };
        assert!(blamed(reachable).is_empty());
    }

    #[test]
    fn tls_files_are_set_together_and_required_off_loopback() {
        assert_eq!(
            blamed(|options| options.cluster.tls_key_file = None),
            ["cluster.tls_certificate_file"]
        );
        assert_eq!(
            blamed(|options| options.cluster.tls_ca_file = None),
            ["cluster.tls_certificate_file"]
        );
        let without = |options: &mut NodeOptions| {
            options.cluster.tls_certificate_file = None;
            options.cluster.tls_key_file = None;
            options.cluster.tls_ca_file = None;
        };
        assert_eq!(blamed(without), ["cluster.tls_certificate_file"]);
        let on_loopback = |options: &mut NodeOptions| {
            without(options);
            options.cluster.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        };
        assert!(blamed(on_loopback).is_empty());
    }

    #[test]
    fn the_node_name_must_be_valid_in_a_certificate() {
        for name in ["1", "0xff", "1-a", "-a", "a-"] {
            assert_eq!(
                blamed(|options| options.node.name = name.to_owned()),
                ["node.name"],
                "{name}"
            );
        }
        for name in ["", "A", "a.b"] {
            assert_eq!(
                blamed(|options| options.node.name = name.to_owned()),
                ["node.name"],
                "once: {name}"
            );
        }
        assert!(blamed(|options| options.node.name = "a1".to_owned()).is_empty());
        let alone = |options: &mut NodeOptions| {
            options.node.name = "1".to_owned();
            options.store.engine = StoreEngine::Embedded;
        };
        assert!(blamed(alone).is_empty());
    }

    #[test]
    fn stop_after_lies_between_three_heartbeats_and_take_over() {
        assert_eq!(
            blamed(|options| options.cluster.take_over_after_ms = 8_000),
            ["cluster.stop_after_ms"]
        );
        assert!(blamed(|options| options.cluster.take_over_after_ms = 8_001).is_empty());
        assert_eq!(
            blamed(|options| options.cluster.heartbeat_interval_ms = 2_667),
            ["cluster.heartbeat_interval_ms"]
        );
        assert!(blamed(|options| options.cluster.heartbeat_interval_ms = 2_666).is_empty());
    }

    #[test]
    fn the_cluster_listener_needs_its_own_address() {
        assert_eq!(
            blamed(|options| options.listen.address = options.cluster.address),
            ["cluster.address"]
        );
        assert_eq!(
            blamed(|options| options.admin.address = options.cluster.address),
            ["cluster.address"]
        );
    }

    #[test]
    fn the_embedded_engine_requires_no_cluster_options() {
        let alone = |options: &mut NodeOptions| {
            options.store.engine = StoreEngine::Embedded;
            options.cluster =
                ClusterOptions { address: options.cluster.address, ..ClusterOptions::default() };
            options.listen.address = options.cluster.address;
        };
        assert!(blamed(alone).is_empty());
    }

    #[test]
    fn advertised_addresses_are_a_host_and_a_port() {
        for text in ["node-1:7400", "node-1.internal:1", "10.0.0.1:65535", "[fd00::1]:7400"] {
            assert!(peer_address_fits(text), "{text}");
        }
        let rejected = [
            "",
            "node-1",
            "node-1:",
            "node-1:0",
            "node-1:07",
            "node-1:+7",
            "node-1:65536",
            ":7400",
            "fd00::1:7400",
            "[fd00::g]:7400",
            "0.0.0.0:7400",
            "[::]:7400",
            "http://node-1:7400",
            "node-1:7400/",
            "a b:7400",
        ];
        for text in rejected {
            assert!(!peer_address_fits(text), "{text}");
        }
    }
}
