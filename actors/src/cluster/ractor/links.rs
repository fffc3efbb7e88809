//! Keeps the connection to each peer: one task for each peer dials it and pings it.
//!
//! Invariants: `LINKS-1` the connections of a peer that has missed [`MISSES_MAX`] consecutive pings
//! are closed, because a frozen process would keep them open for ever; `LINKS-2` of two nodes the
//! one whose name sorts first dials, the other dials only after [`PATIENCE`] checks without a link,
//! so that they seldom dial at the same time; `LINKS-3` dialling is repeated while the peer exists,
//! with a growing pause up to [`BACKOFF_MAX`].

use super::gateway::{GatewayMessage, group};
use super::listener::PeerTls;
use crate::cluster::{LinkState, PeerError, name_of};
use ractor::rpc::CallResult;
use ractor::{ActorRef, ActorStatus};
use ractor_cluster::{NetworkStream, NodeServerMessage};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use triggers_protocol::lock::lock;
use triggers_protocol::peer::PeerRequest;

const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
const MISSES_MAX: u32 = 3;
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Checks without a link before a node dials although its peer should.
const PATIENCE: u32 = 30;
/// Time for a session to authenticate, and for a question to ractor_cluster.
pub(super) const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(5);
/// The host part of a node's name in ractor_cluster.
pub(super) const HOST: &str = "triggers";

/// The links of this node to its peers.
pub(super) struct LinkTable {
    pub(super) peer: String,
    pub(super) server: ActorRef<NodeServerMessage>,
    pub(super) gateway: ActorRef<GatewayMessage>,
    pub(super) tls: Option<PeerTls>,
    pub(super) by_peer: Mutex<BTreeMap<String, Link>>,
}

/// The link to one peer.
pub(super) struct Link {
    address: String,
    pub(super) state: LinkState,
    pub(super) task: AbortHandle,
}

impl LinkTable {
    /// Sets the peers and their addresses; links to all others are closed.
    pub(super) fn update_peers(self: &Arc<Self>, peers: BTreeMap<String, String>) {
        let mut links = lock(&self.by_peer);
        links.retain(|peer, link| {
            let stays = peers.get(peer) == Some(&link.address);
            if !stays {
                link.task.abort();
            }
            stays
        });
        for (peer, address) in peers.into_iter().filter(|(peer, _)| *peer != self.peer) {
            links.entry(peer.clone()).or_insert_with(|| Link {
                address: address.clone(),
                state: LinkState::Down,
                task: tokio::spawn(keep(self.clone(), peer, address)).abort_handle(),
            });
        }
    }

    fn set_state(&self, peer: &str, state: LinkState) {
        if let Some(link) = lock(&self.by_peer).get_mut(peer).filter(|link| link.state != state) {
            link.state = state;
            tracing::info!(peer, is_up = state == LinkState::Up, "the link to a peer has changed");
            let is_up = (state == LinkState::Up).to_string();
            metrics::counter!("triggers_link_changes_total", "is_up" => is_up).increment(1);
        }
    }

    /// The gateway of a peer, looked up for each call (`RACTOR-T-1`).
    fn gateway_of(&self, peer: &str) -> Option<ActorRef<GatewayMessage>> {
        let gateways = ractor::pg::get_members(&group(peer));
        let alive =
            gateways.into_iter().rev().find(|gateway| gateway.get_status() == ActorStatus::Running);
        alive.map(ActorRef::from)
    }

    /// Calls a peer; see [`crate::cluster::PeerTransport::call`].
    pub(super) async fn call(
        &self,
        peer: &str,
        message: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        let gateway = self.gateway_of(peer).ok_or(PeerError::Unreachable)?;
        let from = self.peer.clone();
        let called =
            gateway.call(|reply| GatewayMessage::Call(from, message, reply), Some(timeout));
        // The timeout of ractor begins when the call is sent, which is now.
        match called.await {
            Ok(CallResult::Success(reply)) => Ok(reply),
            Ok(CallResult::Timeout | CallResult::SenderError) => Err(PeerError::Unknown),
            Err(_) => Err(PeerError::Unreachable),
        }
    }

    /// Closes every session with a peer.
    async fn close(&self, peer: &str) {
        let sessions =
            self.server.call(NodeServerMessage::GetSessions, Some(AUTHENTICATION_TIMEOUT)).await;
        let Ok(CallResult::Success(sessions)) = sessions else { return };
        let name = format!("{peer}@{HOST}");
        for session in sessions.into_values() {
            if session.peer_name.is_some_and(|known| known.name == name) {
                session.actor.stop(Some("the peer does not answer".to_owned()));
            }
        }
    }
}

/// Keeps the link to one peer until the task is aborted.
async fn keep(links: Arc<LinkTable>, peer: String, address: String) {
    let dials_first = links.peer < peer;
    let (mut backoff, mut waited, mut misses) = (BACKOFF_MIN, 0, 0);
    loop {
        if links.gateway_of(&peer).is_none() {
            links.set_state(&peer, LinkState::Down);
            waited += 1;
            if dials_first || waited > PATIENCE {
                let dialled = timeout(DIAL_TIMEOUT, dial(&links, &peer, &address)).await;
                let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                if let Err(error) = dialled {
                    tracing::debug!(peer, address, %error, "a peer could not be dialled");
                }
                // Also after a connection was made, because its handshake may still fail.
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
            sleep(backoff).await;
            continue;
        }
        (waited, backoff) = (0, BACKOFF_MIN);
        match links.call(&peer, PeerRequest::Ping.encode(), PING_TIMEOUT).await {
            Ok(_) => {
                misses = 0;
                links.set_state(&peer, LinkState::Up);
                sleep(PING_INTERVAL).await;
            }
            Err(_) => {
                misses += 1;
                if misses >= MISSES_MAX {
                    links.set_state(&peer, LinkState::Down);
                    links.close(&peer).await;
                    misses = 0;
                }
                sleep(PING_INTERVAL - PING_TIMEOUT).await;
            }
        }
    }
}

/// Connects and passes the connection to ractor_cluster, which checks the cookie.
async fn dial(links: &LinkTable, peer: &str, address: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (peer_addr, local_addr) = (stream.peer_addr()?, stream.local_addr()?);
    let stream = match &links.tls {
        None => NetworkStream::Raw { peer_addr, local_addr, stream },
        Some(tls) => {
            // The certificate of a peer is for the node's name.
            let name = ServerName::try_from(name_of(peer).to_owned()).map_err(io::Error::other)?;
            let stream = tls.connector.connect(name, stream).await?;
            NetworkStream::TlsClient { peer_addr, local_addr, stream }
        }
    };
    let opened = NodeServerMessage::ConnectionOpened { stream: Box::new(stream), is_server: false };
    links.server.cast(opened).map_err(|_| io::Error::other("the node is stopping"))
}
