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

pub use listener::PeerTls;

use super::{LinkState, PeerError, PeerService, PeerTransport};
use ::ractor::Actor;
use ::ractor::rpc::CallResult;
use gateway::{Gateway, GatewayArguments, PeerAdmissions, group};
use links::{AUTHENTICATION_TIMEOUT, HOST, LinkTable};
use ractor_cluster::node::{NodeConnectionMode, NodeServer, NodeServerSessionInformation};
use ractor_cluster::{
    IncomingEncryptionMode, NodeEventSubscription, NodeServerMessage, NodeSessionMessage,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use triggers_protocol::lock::lock;
use triggers_store::kv::BoxFuture;

/// The largest frame that is accepted: a request with the largest body and its head.
pub const FRAME_BYTES_MAX: u64 = 16 << 20;

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
    links: Arc<LinkTable>,
    accepting: AbortHandle,
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
        let admissions = PeerAdmissions { requests_max, bytes_max, of: Mutex::default() };
        let arguments = GatewayArguments { service, admissions };
        let (gateway, _) = Actor::spawn(None, Gateway, arguments).await?;
        ::ractor::pg::join(group(&peer), vec![gateway.get_cell()]);
        let accepting =
            tokio::spawn(listener::accept(listener, tls.clone(), server.clone())).abort_handle();
        let links = Arc::new(LinkTable { peer, server, gateway, tls, by_peer: Mutex::default() });
        Ok(Self { links, accepting })
    }
}

impl Drop for RactorTransport {
    fn drop(&mut self) {
        self.accepting.abort();
        lock(&self.links.by_peer).values().for_each(|link| link.task.abort());
        self.links.gateway.stop(None);
        self.links.server.stop(None);
    }
}

impl PeerTransport for RactorTransport {
    fn call<'a>(
        &'a self,
        peer: &'a str,
        message: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, PeerError>> {
        Box::pin(self.links.call(peer, message, timeout))
    }

    fn update_peers(&self, peers: BTreeMap<String, String>) {
        self.links.update_peers(peers);
    }

    fn links(&self) -> BTreeMap<String, LinkState> {
        let links = lock(&self.links.by_peer);
        links.iter().map(|(peer, link)| (peer.clone(), link.state)).collect()
    }
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
