//! The parts of a node, put together over what they are given: the store, the sockets and the ways to others are the
//! operating system's or a simulation's.
//!
//! Invariants: `ASSEMBLY-1` nothing here reads a clock, a random source, a file or a socket of its own, so that a simulated
//! node is the node as it ships; `ASSEMBLY-2` a planned stop hands over first, answers what it has begun, and removes the
//! node from the cluster last.

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
use triggers_actors::{BrokerOptions, Joining, Node, NodeArguments, NodeWatch};
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Environment;
use triggers_store::kv::Store;
use triggers_store::tables::settings::StoreSettings;

/// A node whose parts stand, before it serves.
pub struct Assembly {
    options: NodeOptions,
    node: Node,
    edge: EdgeState,
    router: axum::Router,
    /// What answers the other members' requests, if there are any.
    members: Option<Arc<PeerRequests>>,
}

/// Where partners' requests come from.
pub struct Public<L> {
    /// The connections.
    pub listener: L,
    /// What they speak TLS with, if they do.
    pub tls: Option<TlsAcceptor>,
    /// What drives them.
    pub runtime: Handle,
}

/// A listener with what it serves.
pub struct Served<L> {
    /// Where connections come from.
    pub listener: L,
    /// What answers them.
    pub router: axum::Router,
}

impl Assembly {
    /// Starts the actors. `peer` is this process: the node's name and a boot id that no other start has. With `joining` the
    /// node shares its store, whose settings are these, with others; without it stands alone.
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
            gathering: Admission::new(usize::MAX, options.broker.node_bytes_max),
            draining: AtomicBool::new(false),
        }));
        let router = api::router(edge.clone());
        let members = joined.map(|((_, peers), directory)| {
            let members = Arc::new(PeerRequests::new(router.clone(), directory));
            peers.bind_http(members.clone());
            members
        });
        Ok(Self { options, node, edge, router, members })
    }

    /// What handlers work with.
    pub fn edge(&self) -> &EdgeState {
        &self.edge
    }

    /// What tells of the node from other tasks.
    pub fn watch(&self) -> NodeWatch {
        self.node.watch()
    }

    /// Serves until `stop_requested` ends, or until the actors give up. Asked a second time, it stops at once.
    ///
    /// # Errors
    /// [`StartError::Fatal`] if the node did not end as it was asked to.
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
            () = self.node.ended() => Err(StartError::Fatal("its actors keep failing; see the log".into())),
        };
        self.edge.draining.store(true, Ordering::SeqCst);
        // Load balancers are told first and accepting ends later; a node whose actors are gone has nothing to wait for.
        let delay = Duration::from_millis(if outcome.is_ok() { options.drain_delay_ms } else { 0 });
        let drained = Duration::from_millis(options.drain_timeout_ms);
        let finished = async {
            if outcome.is_ok() {
                // While it still serves: what moves is answered by the new owners.
                watch.drain();
                tokio::join!(watch.drained(Instant::now() + drained), tokio::time::sleep(delay));
            }
            let _ = stop.send(true);
            let deliveries = self.node.drain_deliveries(Instant::now() + drained);
            let (public, ()) = tokio::join!(public, deliveries);
            note("public", public);
            // Until here, so that the drain can be watched and a prober does not take it for a death.
            let _ = stop_admin.send(true);
            if let Some(admin) = admin {
                note("admin", admin.await);
            }
            let members = self.members.filter(|_| outcome.is_ok());
            if let Some(members) = &members {
                members.close_requests(Instant::now() + drained).await;
            }
            self.node.stop().await;
            if members.is_some() {
                // Members that have not heard of the moves, or of the end, are told by this one, for as long as they read the map.
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
                Err(StartError::Fatal("a second signal came before its requests were finished".into()))
            }
        }
    }
}

fn note(listener: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener, %error, "a listener ended badly");
    }
}

/// This process, as members know it: the node's name and a boot id that no other start has.
pub fn peer(name: &str, environment: &Environment) -> String {
    let boot: [u8; 8] = environment.bytes();
    format!("{name}@{:016x}", u64::from_be_bytes(boot))
}
