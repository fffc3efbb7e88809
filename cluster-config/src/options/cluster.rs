//! Options of section `cluster`: how the nodes that share a store reach each other, and when one takes over from another.
//!
//! Each node writes a beat into the store. A node that could not do so for `stop_after_ms` stops serving; only after
//! `take_over_after_ms` do the others take its partitions. The order of the two times spares clients refused requests; that
//! nothing is written twice does not hang on it, since the store refuses an owner of the past.
//!
//! Who reaches the listener of the cluster can act as any tenant, so both sides show a certificate unless it is on
//! loopback. With the embedded engine there are no other nodes: the values are checked alone and have no effect.
//!
//! It is not the list of members: nodes find each other in the store.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::listen::host_fits;
use crate::field::Bounds;
use crate::rule::Rule;

section! {
    /// The nodes of a cluster among each other. Used only with a store.engine that nodes share.
    "cluster" => ClusterOptions {
        /// Address and port to listen on for the other nodes; port 0 takes a free one. No client may reach it.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            Bounds::Described("an IP address and port, such as 10.0.0.1:7400");
        /// Where the other nodes reach this one. Without it: at address.
        advertised_address: Option<String> = None,
            Bounds::Described("a host and port, such as node-1.internal:7400; empty: none");
        /// Certificate chain of this node, PEM, for node.name. Each node shows one, as a server and as a client.
        tls_certificate_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// Private key of the certificate, PEM.
        tls_key_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// Certificates, PEM, of the authority that the certificates of all nodes come from. It should sign for nobody else.
        tls_ca_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// How often a node writes into the store that it is there.
        heartbeat_interval_ms: u64 = 2_000, Bounds::Whole(100, 60_000);
        /// A node that could not write its beat for this long stops serving.
        stop_after_ms: u64 = 8_000, Bounds::Whole(300, 300_000);
        /// The others take over from a node whose beat they have seen unchanged for this long.
        take_over_after_ms: u64 = 10_000, Bounds::Whole(301, 600_000);
        /// Partitions that this node hands over at the same time.
        transfers_in_flight_max: usize = 8, Bounds::Whole(1, 256);
        /// Requests of one other node that are under way here at the same time; more are refused for the moment with 503.
        peer_requests_max: usize = 4_096, Bounds::Whole(1, 1_048_576);
        /// Size of the requests of one other node that are under way here at the same time.
        peer_bytes_max: usize = 64 << 20, Bounds::Whole(9 << 20, 16 << 30);
    }
}

impl ClusterOptions {
    /// Short times, so that a node is missed within a second, and few requests.
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

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["cluster.advertised_address"],
        broken: |options| {
            let address = options.cluster.advertised_address.as_deref()?;
            (!peer_address_fits(address))
                .then(|| "must be a host and port that other nodes can reach, such as node-1.internal:7400".to_owned())
        },
    },
    Rule {
        fields: &["cluster.advertised_address", "cluster.address", "store.engine"],
        broken: |options| {
            let cluster = &options.cluster;
            let is_needed =
                options.store.engine.is_shared() && cluster.address.ip().is_unspecified();
            (is_needed && cluster.advertised_address.is_none()).then(|| {
                format!(
                    "must be set, since no other node can reach this one at cluster.address {}",
                    cluster.address
                )
            })
        },
    },
    Rule {
        fields: &["cluster.tls_certificate_file", "cluster.tls_key_file", "cluster.tls_ca_file"],
        broken: |options| {
            (1..=2).contains(&tls_files(&options.cluster)).then(|| {
                "must be set together with cluster.tls_key_file and cluster.tls_ca_file, or none of them".to_owned()
            })
        },
    },
    Rule {
        fields: &[
            "cluster.tls_certificate_file",
            "cluster.tls_key_file",
            "cluster.tls_ca_file",
            "cluster.address",
            "store.engine",
        ],
        broken: |options| {
            let cluster = &options.cluster;
            let is_needed = options.store.engine.is_shared() && !cluster.address.ip().is_loopback();
            (is_needed && tls_files(cluster) == 0).then(|| {
                "must be set with cluster.tls_key_file and cluster.tls_ca_file, since cluster.address is not on loopback"
                    .to_owned()
            })
        },
    },
    Rule {
        fields: &["cluster.heartbeat_interval_ms", "cluster.stop_after_ms"],
        broken: |options| {
            (options.cluster.heartbeat_interval_ms * 3 > options.cluster.stop_after_ms).then(|| {
                "must be at most a third of cluster.stop_after_ms: one late beat must not stop a node".to_owned()
            })
        },
    },
    Rule {
        fields: &["cluster.stop_after_ms", "cluster.take_over_after_ms"],
        broken: |options| {
            (options.cluster.stop_after_ms >= options.cluster.take_over_after_ms).then(|| {
                "must be less than cluster.take_over_after_ms: a node stops before others take over from it".to_owned()
            })
        },
    },
];

/// How many of the three files of TLS are named.
fn tls_files(cluster: &ClusterOptions) -> usize {
    let files = [&cluster.tls_certificate_file, &cluster.tls_key_file, &cluster.tls_ca_file];
    files.into_iter().flatten().count()
}

/// Whether a text is a host and a port from 1 to 65535, and the host is not the one that stands for all addresses.
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

    /// A node of a cluster as it should be, off loopback.
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

    /// The fields that are blamed once the options are changed.
    fn blamed(change: impl FnOnce(&mut NodeOptions)) -> Vec<String> {
        let mut options = clustered();
        change(&mut options);
        options.validate().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_node_of_a_cluster_is_without_fault() {
        assert_eq!(clustered().validate(), Vec::new());
    }

    #[test]
    fn an_address_that_is_none_needs_one_to_advertise() {
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
    fn all_files_of_tls_or_none_and_none_only_on_loopback() {
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
    fn the_name_of_a_node_can_be_in_a_certificate() {
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
    fn a_node_stops_before_others_take_over_and_not_for_one_late_beat() {
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
    fn the_listener_of_the_cluster_is_a_third_one() {
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
    fn a_node_that_stands_alone_needs_nothing_of_this() {
        let alone = |options: &mut NodeOptions| {
            options.store.engine = StoreEngine::Embedded;
            options.cluster =
                ClusterOptions { address: options.cluster.address, ..ClusterOptions::default() };
            options.listen.address = options.cluster.address;
        };
        assert!(blamed(alone).is_empty());
    }

    #[test]
    fn hosts_with_a_port_are_taken_and_everything_else_is_refused() {
        for text in ["node-1:7400", "node-1.internal:1", "10.0.0.1:65535", "[fd00::1]:7400"] {
            assert!(peer_address_fits(text), "{text}");
        }
        let refused = [
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
        for text in refused {
            assert!(!peer_address_fits(text), "{text}");
        }
    }
}
