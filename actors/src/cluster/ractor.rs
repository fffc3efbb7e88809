//! Members that speak over ractor_cluster: one actor can be called from outside, the gateway, found by the process group
//! of its node. The transport in production.
//!
//! ```text
//! call ─▶ process group gw/<peer> ─▶ remote gateway ═ TCP, TLS, cookie ═▶ gateway ─▶ PeerService, in a task of its own
//! ```
//! Invariants: `RACTOR-T-1` no reference to a remote actor is kept: it changes with every connection; `RACTOR-T-2` connections
//! are accepted and dialled here, with TLS on both sides where it is set up, and given to ractor_cluster ready-made: its own
//! listener does the handshake inline and its transitive mode dials in plaintext; `RACTOR-T-3` a connection that is not
//! authenticated within `AUTHENTICATION_TIMEOUT` is closed; `RACTOR-T-4` frames above `FRAME_BYTES_MAX` close the link
//! that they came by. Registries and groups of ractor are global to the process: one transport a process.

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

/// The largest frame that is accepted: a request with the largest body, and its head.
pub const FRAME_BYTES_MAX: u64 = 16 << 20;
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Behind the `@` of a node's name in ractor_cluster.
const HOST: &str = "triggers";

/// Certificates for both sides of a connection.
#[derive(Clone)]
pub struct PeerTls {
    /// For connections that others make; it must ask for a certificate.
    pub acceptor: TlsAcceptor,
    /// For connections that this node makes; it must show a certificate.
    pub connector: TlsConnector,
}

/// What the transport needs.
pub struct RactorOptions {
    /// This process: the node's name, `@`, and a boot id.
    pub peer: String,
    /// The secret that all members have, and nobody else.
    pub cookie: String,
    /// Where other members connect.
    pub listener: TcpListener,
    /// None: in plaintext.
    pub tls: Option<PeerTls>,
    /// Calls under way from one member.
    pub requests_max: usize,
    /// Bytes of those.
    pub bytes_max: usize,
}

/// The transport; dropping it closes all links.
pub struct RactorTransport {
    inner: Arc<Inner>,
    tasks: Vec<AbortHandle>,
}

struct Inner {
    peer: String,
    server: ActorRef<NodeServerMessage>,
    gateway: ActorRef<GatewayMessage>,
    tls: Option<PeerTls>,
    /// The task that looks after the link to each member, and how that is.
    links: Mutex<BTreeMap<String, Link>>,
}

struct Link {
    address: String,
    state: LinkState,
    task: AbortHandle,
}

impl RactorTransport {
    /// Listens, and answers calls.
    ///
    /// # Errors
    /// If an actor does not start.
    pub async fn start(
        options: RactorOptions,
        service: Arc<dyn PeerService>,
    ) -> Result<Self, ::ractor::SpawnErr> {
        let RactorOptions { peer, cookie, listener, tls, requests_max, bytes_max } = options;
        // The listener of its own cannot be turned off: it gets a port that nobody is told, with the same protection.
        let encryption = tls.as_ref().map(|tls| IncomingEncryptionMode::Tls(tls.acceptor.clone()));
        let mode = Some(NodeConnectionMode::Isolated);
        let server = NodeServer::new(0, cookie, peer.clone(), HOST.to_owned(), encryption, mode)
            .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .with_max_inbound_frame_size(FRAME_BYTES_MAX);
        let (server, _) = Actor::spawn(None, server, ()).await?;
        let subscription = Box::new(Watch);
        // A server that is gone has no sessions.
        let _ = server
            .cast(NodeServerMessage::SubscribeToEvents { id: "links".to_owned(), subscription });
        let arguments = GatewayArguments { service, doors: Doors::new(requests_max, bytes_max) };
        let (gateway, _) = Actor::spawn(None, Gateway, arguments).await?;
        ::ractor::pg::join(group(&peer), vec![gateway.get_cell()]);
        let accepting =
            tokio::spawn(listener::accept(listener, tls.clone(), server.clone())).abort_handle();
        let inner = Inner { peer, server, gateway, tls, links: Mutex::default() };
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

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Link>> {
        // Nothing panics while holding it.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, peer: &str, state: LinkState) {
        if let Some(link) = self.lock().get_mut(peer).filter(|link| link.state != state) {
            link.state = state;
            tracing::info!(
                peer,
                is_up = state == LinkState::Up,
                "the link to a member has changed"
            );
            metrics::counter!("triggers_link_changes_total", "is_up" => (state == LinkState::Up).to_string())
                .increment(1);
        }
    }

    /// `RACTOR-T-1`.
    fn gateway_of(&self, peer: &str) -> Option<ActorRef<GatewayMessage>> {
        let members = ::ractor::pg::get_members(&group(peer));
        let alive =
            members.into_iter().rev().find(|member| member.get_status() == ActorStatus::Running);
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
        // The time that ractor gives a call begins when it is sent, which cannot take long.
        match called.await {
            Ok(CallResult::Success(reply)) => Ok(reply),
            Ok(CallResult::Timeout | CallResult::SenderError) => Err(PeerError::Unknown),
            Err(_) => Err(PeerError::Unreachable),
        }
    }

    /// Closes every session with a member.
    async fn close(&self, peer: &str) {
        let sessions =
            self.server.call(NodeServerMessage::GetSessions, Some(AUTHENTICATION_TIMEOUT)).await;
        let Ok(CallResult::Success(sessions)) = sessions else { return };
        let name = format!("{peer}@{HOST}");
        for session in sessions.into_values() {
            if session.peer_name.is_some_and(|known| known.name == name) {
                session.actor.stop(Some("it does not answer".to_owned()));
            }
        }
    }
}

/// The process group of a member's gateway.
fn group(peer: &str) -> String {
    format!("gw/{peer}")
}

/// The name that a member's certificate is for: the node's.
fn server_name(peer: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(super::name_of(peer).to_owned()).ok()
}

/// `RACTOR-T-3`.
struct Watch;

impl NodeEventSubscription for Watch {
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
                    "a connection is not authenticated in time; it is closed"
                );
                session.actor.stop(Some("not authenticated in time".to_owned()));
            }
        });
    }

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}
}

/// The doors of all members, `TRANSPORT-3`.
pub(super) struct Doors {
    requests_max: usize,
    bytes_max: usize,
    of: Mutex<BTreeMap<String, Arc<Admission>>>,
}

impl Doors {
    fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { requests_max, bytes_max, of: Mutex::default() }
    }

    fn of(&self, peer: &str) -> Arc<Admission> {
        let mut doors = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.get(peer) {
            return door.clone();
        }
        // Doors with nothing behind them are of members that are gone, or are made again.
        doors.retain(|_, door| Arc::strong_count(door) > 1);
        doors
            .entry(peer.to_owned())
            .or_insert_with(|| Admission::new(self.requests_max, self.bytes_max))
            .clone()
    }
}
