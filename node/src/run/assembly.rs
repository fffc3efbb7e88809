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
use crate::http::edge::{Edge, EdgeCluster, EdgeState};
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
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use triggers_actors::admission::Admission;
use triggers_actors::model::settings::StoreSettings;
use triggers_actors::{BrokerOptions, Joining, Node, NodeArguments, NodeWatch};
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;
use triggers_store::kv::Store;

/// Longest wait for links to the other nodes before connections are accepted, so that the node can
/// answer any request. It answers what others forward from the start.
const LINK_WAIT_MAX: Duration = Duration::from_secs(10);

/// A node with all its parts, before it serves.
pub struct Assembly {
    node: Node,
    incarnation: String,
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
    pub async fn start<C: TcpConnector>(
        options: NodeOptions,
        store: Store,
        sender: HttpSender<C>,
        peer: String,
        joining: Option<(StoreSettings, Joining)>,
    ) -> Result<Self, StartError> {
        let incarnation = format!("{peer}.1");
        let targets = Arc::new(sender.policy().clone());
        let arguments = NodeArguments {
            store: store.clone(),
            sender: Arc::new(sender),
            options: BrokerOptions::from(&options),
            incarnation: incarnation.clone(),
        };
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
            node_name: options.node.name.clone(),
            cluster,
            body_gate: Admission::new(usize::MAX, options.broker.node_bytes_max),
            options,
            draining: AtomicBool::new(false),
        }));
        let router = api::router(edge.clone());
        let peers = joined.map(|((_, service), directory)| {
            let requests = Arc::new(PeerRequests::new(router.clone(), directory));
            service.bind_http(requests.clone());
            requests
        });
        Ok(Self { node, incarnation, edge, router, peers })
    }

    /// The state of the handlers.
    pub fn edge(&self) -> &EdgeState {
        &self.edge
    }

    /// Identity of this start of the actors: the name of the process and a number.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
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
        let listen = &self.edge.options.listen;
        let (stop_public, public_stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);
        let Public { listener, tls, runtime } = public;
        let (watch, mut stopped) = (self.node.watch(), public_stopped.clone());
        let public =
            server::serve(listener, self.router.clone(), tls, listen.clone(), public_stopped);
        let public = async move {
            tokio::select! {
                () = watch.linked(Instant::now() + LINK_WAIT_MAX) => {}
                // Nothing was accepted yet.
                _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
            }
            public.await;
        };
        let admin = admin.map(|Served { listener, router }| {
            tokio::spawn(server::serve(listener, router, None, listen.clone(), admin_stopped))
        });
        let listeners = Listeners { public: runtime.spawn(public), stop_public, admin, stop_admin };
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
        tokio::select! {
            () = self.stop(listeners, outcome.is_ok()) => outcome,
            _ = stop_requested() => {
                let reason = "a second signal arrived before its requests were finished";
                Err(StartError::Fatal(reason.into()))
            }
        }
    }

    /// Stops in the order of `ASSEMBLY-2`. An unplanned stop transfers no partitions.
    async fn stop(self, listeners: Listeners, is_planned: bool) {
        let listen = &self.edge.options.listen;
        let deadline = || Instant::now() + Duration::from_millis(listen.drain_timeout_ms);
        if is_planned {
            // The node still serves; new owners answer for transferred partitions.
            let watch = self.node.watch();
            watch.drain();
            // Load balancers see the failing readiness before the listener closes.
            let delay = tokio::time::sleep(Duration::from_millis(listen.drain_delay_ms));
            tokio::join!(watch.drained(deadline()), delay);
        }
        let _ = listeners.stop_public.send(true);
        let (public, ()) = tokio::join!(listeners.public, self.node.drain_deliveries(deadline()));
        log_failure("public", public);
        // The admin listener closes after the public one, so that the drain can be watched.
        let _ = listeners.stop_admin.send(true);
        if let Some(admin) = listeners.admin {
            log_failure("admin", admin.await);
        }
        let peers = self.peers.filter(|_| is_planned);
        if let Some(peers) = &peers {
            peers.close_requests(deadline()).await;
        }
        self.node.stop().await;
        if peers.is_some() {
            // Nodes with an outdated directory still send requests here until their next heartbeat;
            // this node names the new owner.
            let heartbeat = Duration::from_millis(self.edge.options.cluster.heartbeat_interval_ms);
            tokio::time::sleep(heartbeat).await;
        }
        tracing::info!("stopped");
    }
}

/// The tasks of the listeners, and the channels that tell them to stop.
struct Listeners {
    public: JoinHandle<()>,
    stop_public: watch::Sender<bool>,
    admin: Option<JoinHandle<()>>,
    stop_admin: watch::Sender<bool>,
}

fn log_failure(listener: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener, %error, "a listener ended with an error");
    }
}

/// The name of this process among peers: the node name and a random boot id.
pub fn peer(name: &str, environment: &Environment) -> String {
    let boot: [u8; 8] = environment.bytes();
    format!("{name}@{:016x}", u64::from_be_bytes(boot))
}
