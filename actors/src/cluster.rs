//! The cluster: who is a member, who owns which partition, and how members speak with each other.
//!
//! ```text
//! Membership   writes the own beat, reads the view, asks the machine what to do
//!   └ machine      pure: who is silent, what is to be taken, given away, adopted     assignment: who should own what
//! Partitions   (beside this folder) takes, serves and hands over
//! Directory    the owners as last heard of, for the edge
//! PeerTransport  one call to one member, in bytes; `ractor` carries it over ractor_cluster
//! ```
//! Invariants: `CLUSTER-1` nothing here makes anything safe: the fences in the store do, so a wrong view costs time and
//! never data; `CLUSTER-2` every call between members has a deadline, and whoever does not answer is as good as unknown.

pub(crate) mod assignment;
pub mod directory;
pub mod machine;
pub(crate) mod membership;
pub mod ractor;
pub mod service;
pub mod snapshot;
pub mod transport;

use std::time::Duration;

/// How this node takes part in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// The node's name.
    pub name: String,
    /// Where clients reach this node.
    pub address: String,
    /// Where other members reach this node.
    pub peer_address: String,
    /// Between two beats.
    pub beat_interval: Duration,
    /// Without a committed beat for so long this node stops serving.
    pub stop_after: Duration,
    /// A member whose beat was seen unchanged for so long is taken from.
    pub steal_after: Duration,
    /// Partitions that are handed over at the same time.
    pub transfers_in_flight_max: usize,
}

/// The process behind an incarnation: an incarnation is `name@boot.generation`, and a process that lost its partitions goes
/// on in the next generation.
pub fn peer_of(incarnation: &str) -> &str {
    incarnation.rsplit_once('.').map_or(incarnation, |(peer, _)| peer)
}

/// The node's name in an incarnation.
pub fn name_of(incarnation: &str) -> &str {
    incarnation.split_once('@').map_or(incarnation, |(name, _)| name)
}
