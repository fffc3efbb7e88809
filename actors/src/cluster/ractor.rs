//! The production transport: calls between nodes over ractor_cluster.
//!
//! Only one actor of a node can be called from outside: the gateway. A caller finds it through the
//! process group of its node.
//! ```text
//! call ─▶ process group gw/<peer> ─▶ remote gateway ═ TCP, TLS, cookie ═▶ gateway ─▶ PeerService
//! ```
//! Invariants: `RACTOR-T-1` no reference to a remote actor is kept, because it changes with every
//! connection; `RACTOR-T-2` this module accepts and dials connections, with TLS on both sides where
//! configured, and passes them to ractor_cluster, whose own listener does the handshake inline and
//! whose transitive mode dials in plaintext; `RACTOR-T-3` a connection that is not authenticated
//! within `AUTHENTICATION_TIMEOUT` is closed; `RACTOR-T-4` a frame above `FRAME_BYTES_MAX` closes
//! its link. Registries and groups of ractor are global, so a process has at most one transport.

mod gateway;
mod links;
mod listener;

use super::{LinkState, PeerError, PeerService, PeerTransport};
use crate::admission::Admission;
use ::ractor::rpc::CallResult;
use ::ractor::{Actor, ActorRef, ActorStatus};
use gateway::{Gateway, GatewayArguments, GatewayMessage};
use ractor_cluster::node::{NodeConnectionMode, NodeServer, NodeServerSessionInformation};
use ractor_cluster::{
    IncomingEncryptionMode, NodeEventSubscription, NodeServerMessage, NodeSessionMessage,
};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use triggers_store::kv::BoxFuture;

/// The largest frame that is accepted: a request with the largest body and its head.
pub const FRAME_BYTES_MAX: u64 = 16 << 20;
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(5);
/// The host part of a node's name in ractor_cluster.
const HOST: &str = "triggers";

/// Certificates for both sides of a connection.
#[derive(Clone)]
pub struct PeerTls {
    /// For incoming connections; it must require a certificate.
    pub acceptor: TlsAcceptor,
    /// For outgoing connections; it must present a certificate.
    pub connector: TlsConnector,
}

/// What the transport needs.
pub struct RactorOptions {
    /// Identity of this process: the node's name, `@`, and a boot id.
    pub peer: String,
    /// Secret that only the nodes of the cluster have.
    pub cookie: String,
    /// Listener for connections of peers.
    pub listener: TcpListener,
    /// Certificates; none for plaintext.
    pub tls: Option<PeerTls>,
    /// Calls of one peer in flight.
    pub requests_max: usize,
    /// Bytes of the calls of one peer in flight.
    pub bytes_max: usize,
}

/// The transport over ractor_cluster; dropping it closes all links.
pub struct RactorTransport {
    inner: Arc<LinkTable>,
    tasks: Vec<AbortHandle>,
}

pub(super) struct LinkTable {
    peer: String,
    server: ActorRef<NodeServerMessage>,
    gateway: ActorRef<GatewayMessage>,
    tls: Option<PeerTls>,
    /// The link to each peer.
    links: Mutex<BTreeMap<String, Link>>,
}

struct Link {
    address: String,
    state: LinkState,
    task: AbortHandle,
}

impl RactorTransport {
    /// Starts to accept connections and to answer calls.
    ///
    /// # Errors
    /// [`::ractor::SpawnErr`] if an actor does not start.
    pub async fn start(
        options: RactorOptions,
        service: Arc<dyn PeerService>,
    ) -> Result<Self, ::ractor::SpawnErr> {
        let RactorOptions { peer, cookie, listener, tls, requests_max, bytes_max } = options;
        // The listener of ractor_cluster cannot be turned off. It gets a random loopback port and
        // the same protection.
        let encryption = tls.as_ref().map(|tls| IncomingEncryptionMode::Tls(tls.acceptor.clone()));
        let mode = Some(NodeConnectionMode::Isolated);
        let server = NodeServer::new(0, cookie, peer.clone(), HOST.to_owned(), encryption, mode)
            .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .with_max_inbound_frame_size(FRAME_BYTES_MAX);
        let (server, _) = Actor::spawn(None, server, ()).await?;
        let subscription = Box::new(SessionWatch);
        // A server that has stopped has no sessions.
        let _ = server
            .cast(NodeServerMessage::SubscribeToEvents { id: "links".to_owned(), subscription });
        let arguments =
            GatewayArguments { service, admissions: PeerAdmissions::new(requests_max, bytes_max) };
        let (gateway, _) = Actor::spawn(None, Gateway, arguments).await?;
        ::ractor::pg::join(group(&peer), vec![gateway.get_cell()]);
        let accepting =
            tokio::spawn(listener::accept(listener, tls.clone(), server.clone())).abort_handle();
        let inner = LinkTable { peer, server, gateway, tls, links: Mutex::default() };
        Ok(Self { inner: Arc::new(inner), tasks: vec![accepting] })
    }
}

impl Drop for RactorTransport {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.inner.lock().values().for_each(|link| link.task.abort());
        self.inner.gateway.stop(None);
        self.inner.server.stop(None);
    }
}

impl PeerTransport for RactorTransport {
    fn call<'a>(
        &'a self,
        peer: &'a str,
        message: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, PeerError>> {
        Box::pin(self.inner.call(peer, message, timeout))
    }

    fn update_peers(&self, peers: BTreeMap<String, String>) {
        let mut links = self.inner.lock();
        links.retain(|peer, link| {
            let stays = peers.get(peer) == Some(&link.address);
            if !stays {
                link.task.abort();
            }
            stays
        });
        for (peer, address) in peers.into_iter().filter(|(peer, _)| *peer != self.inner.peer) {
            links.entry(peer.clone()).or_insert_with(|| Link {
                address: address.clone(),
                state: LinkState::Down,
                task: tokio::spawn(links::keep(self.inner.clone(), peer, address)).abort_handle(),
            });
        }
    }

    fn links(&self) -> BTreeMap<String, LinkState> {
        self.inner.lock().iter().map(|(peer, link)| (peer.clone(), link.state)).collect()
    }
}

impl LinkTable {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Link>> {
        // Nothing panics while holding the lock.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, peer: &str, state: LinkState) {
        if let Some(link) = self.lock().get_mut(peer).filter(|link| link.state != state) {
            link.state = state;
            tracing::info!(peer, is_up = state == LinkState::Up, "the link to a peer has changed");
            let is_up = (state == LinkState::Up).to_string();
            metrics::counter!("triggers_link_changes_total", "is_up" => is_up).increment(1);
        }
    }

    /// The gateway of a peer, looked up for each call (`RACTOR-T-1`).
    fn gateway_of(&self, peer: &str) -> Option<ActorRef<GatewayMessage>> {
        let gateways = ::ractor::pg::get_members(&group(peer));
        let alive =
            gateways.into_iter().rev().find(|gateway| gateway.get_status() == ActorStatus::Running);
        alive.map(ActorRef::from)
    }

    async fn call(
        &self,
        peer: &str,
        message: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        let gateway = self.gateway_of(peer).ok_or(PeerError::Unreachable)?;
        let from = self.peer.clone();
        let called =
            gateway.call(|reply| GatewayMessage::Call(from, message, reply), Some(timeout));
        // The timeout of ractor begins when the call is sent, which takes no time.
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

/// The process group of a peer's gateway.
fn group(peer: &str) -> String {
    format!("gw/{peer}")
}

/// The server name in a peer's certificate: the node's name.
fn server_name(peer: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(super::name_of(peer).to_owned()).ok()
}

/// Closes sessions that are not authenticated in time (`RACTOR-T-3`).
struct SessionWatch;

impl NodeEventSubscription for SessionWatch {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        tokio::spawn(async move {
            tokio::time::sleep(AUTHENTICATION_TIMEOUT).await;
            let state = session
                .actor
                .call(NodeSessionMessage::GetAuthenticationState, Some(AUTHENTICATION_TIMEOUT))
                .await;
            if !matches!(state, Ok(CallResult::Success(true)) | Err(_)) {
                tracing::warn!(
                    address = session.peer_addr,
                    "closing a connection that was not authenticated in time"
                );
                session.actor.stop(Some("not authenticated in time".to_owned()));
            }
        });
    }

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}
}

/// Bounds the calls in flight from each peer (`TRANSPORT-3`).
pub(super) struct PeerAdmissions {
    requests_max: usize,
    bytes_max: usize,
    of: Mutex<BTreeMap<String, Arc<Admission>>>,
}

impl PeerAdmissions {
    fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { requests_max, bytes_max, of: Mutex::default() }
    }

    fn of(&self, peer: &str) -> Arc<Admission> {
        let mut admissions = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(admission) = admissions.get(peer) {
            return admission.clone();
        }
        // An admission without permits belongs to a peer that is gone, or is cheap to make again.
        admissions.retain(|_, admission| Arc::strong_count(admission) > 1);
        admissions
            .entry(peer.to_owned())
            .or_insert_with(|| Admission::new(self.requests_max, self.bytes_max))
            .clone()
    }
}
