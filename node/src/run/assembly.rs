//! Connects the parts of a node over a given store, sockets and transports: real or simulated ones.
//!
//! - `ASSEMBLY-1`: nothing here reads a clock, a random source, a file or a socket of its own, so
//!   that a simulated node runs the same code as a real one.
//! - `ASSEMBLY-2`: a planned stop transfers partitions first, then answers requests in flight, and
//!   removes the node from the cluster last.

use super::error::StartError;
use crate::access::Access;
use crate::api;
use crate::forward::PeerRequests;
use crate::http::edge::EdgeCluster;
use crate::http::edge::{Edge, EdgeState};
use crate::http::server;
use crate::webhook::{HttpSender, TcpConnector};
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use triggers_actors::admission::Admission;
use triggers_actors::model::settings::StoreSettings;
use triggers_actors::{BrokerOptions, Joining, Node, NodeArguments, NodeWatch};
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;
use triggers_store::kv::Store;

/// A node with all its parts, before it serves.
pub struct Assembly {
    options: NodeOptions,
    node: Node,
    edge: EdgeState,
    router: axum::Router,
    /// Answers requests that other nodes forward; `None` without a cluster.
    peers: Option<Arc<PeerRequests>>,
}

/// The public listener.
pub struct Public<L> {
    /// Accepts the connections.
    pub listener: L,
    /// Terminates TLS, if configured.
    pub tls: Option<TlsAcceptor>,
    /// The runtime that drives the connections.
    pub runtime: Handle,
}

/// A listener and its routes.
pub struct Served<L> {
    /// Accepts the connections.
    pub listener: L,
    /// Answers the requests.
    pub router: axum::Router,
}

impl Assembly {
    /// Starts the actors. `peer` names this process, see [`peer`]. `joining` has the settings of a
    /// shared store and the cluster to join; `None` starts a single node.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start<C: TcpConnector>(
        options: NodeOptions,
        store: Store,
        sender: HttpSender<C>,
        peer: String,
        joining: Option<(StoreSettings, Joining)>,
    ) -> Result<Self, StartError> {
        let incarnation = format!("{peer}.1");
        let broker = BrokerOptions::from(&options);
        let targets = Arc::new(sender.policy().clone());
        let sender = Arc::new(sender);
        let arguments =
            NodeArguments { store: store.clone(), sender, options: broker, incarnation };
        let (node, joined) = match joining {
            Some((settings, joining)) => {
                let joined = (joining.transport.clone(), joining.peers.clone());
                (Node::join(arguments, settings, joining).await?, Some(joined))
            }
            None => (Node::start(arguments, options.node.partitions).await?, None),
        };
        let joined = joined.zip(node.directory());
        let cluster = joined.as_ref().map(|((transport, _), directory)| EdgeCluster {
            directory: directory.clone(),
            transport: transport.clone(),
            peer,
        });
        let edge = EdgeState(Arc::new(Edge {
            environment: store.environment().clone(),
            router: node.router(),
            access: Access::new(store.clone(), &options.limits),
            store,
            targets,
            cursor_secret: node.settings().cursor_secret,
            options: options.clone(),
            node_name: options.node.name.clone(),
            cluster,
            body_gate: Admission::new(usize::MAX, options.broker.node_bytes_max),
            draining: AtomicBool::new(false),
        }));
        let router = api::router(edge.clone());
        let peers = joined.map(|((_, service), directory)| {
            let requests = Arc::new(PeerRequests::new(router.clone(), directory));
            service.bind_http(requests.clone());
            requests
        });
        Ok(Self { options, node, edge, router, peers })
    }

    /// The state of the handlers.
    pub fn edge(&self) -> &EdgeState {
        &self.edge
    }

    /// A handle for observing the node from other tasks.
    pub fn watch(&self) -> NodeWatch {
        self.node.watch()
    }

    /// Serves until `stop_requested` resolves or the actors give up. A second request to stop ends
    /// the node at once.
    ///
    /// # Errors
    /// [`StartError::Fatal`] if the node did not stop in order.
    pub async fn serve<L, S>(
        mut self,
        public: Public<L>,
        admin: Option<Served<L>>,
        stop_requested: impl Fn() -> S,
    ) -> Result<(), StartError>
    where
        L: Listener<Addr = SocketAddr>,
        S: Future<Output = io::Result<&'static str>> + Send,
    {
        let (stop, stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);
        let watch = self.node.watch();
        let options = &self.options.listen;
        let Public { listener, tls, runtime } = public;
        let public =
            runtime.spawn(server::serve(listener, self.router, tls, options.clone(), stopped));
        let admin = admin.map(|admin| {
            tokio::spawn(server::serve(
                admin.listener,
                admin.router,
                None,
                options.clone(),
                admin_stopped,
            ))
        });
        let outcome = tokio::select! {
            signal = stop_requested() => match signal {
                Ok(signal) => {
                    tracing::info!(signal, "stopping: requests in flight finish");
                    Ok(())
                }
                Err(error) => Err(StartError::Fatal(format!("cannot wait for signals: {error}"))),
            },
            () = self.node.ended() => {
                Err(StartError::Fatal("its actors keep failing; see the log".into()))
            }
        };
        self.edge.draining.store(true, Ordering::SeqCst);
        // Load balancers see the failing readiness before the listener closes.
        let delay = Duration::from_millis(if outcome.is_ok() { options.drain_delay_ms } else { 0 });
        let drain_timeout = Duration::from_millis(options.drain_timeout_ms);
        let finished = async {
            if outcome.is_ok() {
                // The node still serves; new owners answer for transferred partitions.
                watch.drain();
                tokio::join!(
                    watch.drained(Instant::now() + drain_timeout),
                    tokio::time::sleep(delay)
                );
            }
            let _ = stop.send(true);
            let deliveries = self.node.drain_deliveries(Instant::now() + drain_timeout);
            let (public, ()) = tokio::join!(public, deliveries);
            note("public", public);
            // The admin listener closes after the public one, so that the drain can be watched.
            let _ = stop_admin.send(true);
            if let Some(admin) = admin {
                note("admin", admin.await);
            }
            let peers = self.peers.filter(|_| outcome.is_ok());
            if let Some(peers) = &peers {
                peers.close_requests(Instant::now() + drain_timeout).await;
            }
            self.node.stop().await;
            if peers.is_some() {
                // Nodes with an outdated directory still send requests here until their next
                // heartbeat; this node names the new owner.
                tokio::time::sleep(Duration::from_millis(
                    self.options.cluster.heartbeat_interval_ms,
                ))
                .await;
            }
            tracing::info!("stopped");
        };
        tokio::select! {
            () = finished => outcome,
            _ = stop_requested() => {
                let reason = "a second signal arrived before its requests were finished";
                Err(StartError::Fatal(reason.into()))
            }
        }
    }
}

fn note(listener: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener, %error, "a listener ended with an error");
    }
}

/// The name of this process among peers: the node name and a random boot id.
pub fn peer(name: &str, environment: &Environment) -> String {
    let boot: [u8; 8] = environment.bytes();
    format!("{name}@{:016x}", u64::from_be_bytes(boot))
}
