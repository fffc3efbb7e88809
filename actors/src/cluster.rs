//! Communication between the nodes of a cluster, and the directory of partition owners.
//!
//! [`directory`] has the last known owner of each partition. [`PeerTransport`] carries one call to
//! one peer as bytes: [`ractor`] in production, simulated links in tests and simulations.
//! Invariants: `CLUSTER-1` nothing here is needed for safety: the fences in the store are, so an
//! outdated view costs time and never data; `TRANSPORT-1` a call ends within its timeout;
//! `TRANSPORT-2` after [`PeerError::Unreachable`] nothing was sent, after [`PeerError::Unknown`]
//! the peer may have carried the call out; `TRANSPORT-3` the receiver bounds the calls in flight
//! from each peer.

pub mod directory;
pub mod ractor;

use std::collections::BTreeMap;
use std::time::Duration;
use triggers_store::kv::BoxFuture;

/// The reason why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no link to the peer; nothing was sent.
    #[error("there is no link to the peer")]
    Unreachable,
    /// The link was lost or the timeout has passed; the peer may have carried the call out.
    #[error("the peer did not answer")]
    Unknown,
}

/// The state of the link to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// The peer answers pings.
    Up,
    /// The peer does not answer, or there is no connection.
    Down,
}

/// Sends calls to the other nodes of the cluster.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends a message to a peer and waits for its answer.
    fn call<'a>(
        &'a self,
        peer: &'a str,
        message: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, PeerError>>;

    /// Sets the peers and their addresses; links to all others are closed.
    fn update_peers(&self, peers: BTreeMap<String, String>);

    /// The state of the link to each peer.
    fn links(&self) -> BTreeMap<String, LinkState>;
}

/// Answers the calls of other nodes.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one call of the peer `from`.
    fn serve(&self, from: String, message: Vec<u8>) -> BoxFuture<'_, Vec<u8>>;
}

/// The process part of an incarnation. An incarnation is `name@boot.generation`; a process that has
/// lost its partitions continues in the next generation.
pub fn peer_of(incarnation: &str) -> &str {
    incarnation.rsplit_once('.').map_or(incarnation, |(peer, _)| peer)
}

/// The node name in an incarnation.
pub fn name_of(incarnation: &str) -> &str {
    incarnation.split_once('@').map_or(incarnation, |(name, _)| name)
}
