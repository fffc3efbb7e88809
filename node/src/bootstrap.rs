//! The order in which a node starts and, reversed, stops.
//!
//! ```text
//! start: configuration ▸ telemetry ▸ listeners bound ▸ store opened ▸ fences taken or cluster joined, actors started ▸
//!        first keys ▸ serving
//! stop:  not ready any more ▸ in a cluster: partitions handed over ▸ public listener closed, requests in flight finish ▸ webhooks on their way finish ▸ admin
//!        listener ▸ actors ▸ store
//! ```
//! Invariants: `BOOTSTRAP-1` nothing is answered before everything stands; `BOOTSTRAP-2` a start that fails has changed
//! nothing but what it says; `BOOTSTRAP-3` the store closes last, so that what was begun can be committed.
//! It decides nothing about requests; it only puts the parts together.

mod cluster;
mod engine;
mod error;
mod first_keys;
mod signals;

pub use error::StartError;

use crate::access::Access;
use crate::admin::{self, ClusterSource};
use crate::cli::arguments::{DevArguments, ServeArguments};
use crate::edge::owner::{EdgeCluster, PeerRequests};
use crate::edge::{self, Edge, EdgeState, server};
use crate::telemetry::{self, LastLines, Telemetry};
use crate::webhook::HttpSender;
use first_keys::DevFile;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use triggers_actors::admission::Admission;
use triggers_actors::cluster::service::Peers;
use triggers_actors::cluster::transport::PeerTransport;
use triggers_actors::{BrokerOptions, DeliveryOptions, Node};
use triggers_cluster_config::{NodeOptions, Override, Sources, process_environment};
use triggers_protocol::{ApiKey, Environment};
use triggers_store::kv::Store;

/// A receiver on the same machine is what a first try has: what `dev` allows unless the environment says otherwise.
const DEV_DELIVERY: [(&str, &str, &str); 2] = [
    ("delivery.https_required", "TRIGGERS__DELIVERY__HTTPS_REQUIRED", "false"),
    ("delivery.allowed_targets", "TRIGGERS__DELIVERY__ALLOWED_TARGETS", "127.0.0.0/8, ::1/128"),
];

/// Runs one embedded node without configuration, until it is told to stop.
///
/// # Errors
/// [`StartError`], with the exit code of each.
pub async fn run_dev(arguments: DevArguments) -> Result<(), StartError> {
    let options = dev_options(&arguments)?;
    let file = arguments.data_dir.join("dev.json");
    let running = Running::start(options, None).await?;
    let (api_key, admin_key) = first_keys::dev_keys(&running.store, DevFile::read(&file).as_ref()).await?;
    let dev = DevFile {
        url: format!("{}://{}", running.scheme(), running.address),
        admin_url: format!("http://{}", running.admin_address),
        tenant_id: "dev".to_owned(),
        api_key: api_key.reveal().to_owned(),
        admin_key: admin_key.reveal().to_owned(),
    };
    running
        .serve(|| {
            dev.write(&file)?;
            announce(&dev, &file)
        })
        .await
}

/// Runs a node as it is configured, until it is told to stop.
///
/// # Errors
/// [`StartError`], with the exit code of each.
pub async fn run_serve(arguments: ServeArguments) -> Result<(), StartError> {
    let options = arguments.options()?;
    let key = first_keys::read_admin_key(options.admin.key_file.as_deref())?;
    // A new store has no key yet, and nothing is to be made for a node that nobody could use.
    let is_embedded = !options.store.engine.is_shared();
    if key.is_none() && is_embedded && !options.store.data_directory.join("FORMAT").exists() {
        return Err(StartError::NoAdminKey);
    }
    let running = Running::start(options, key.clone()).await?;
    if is_embedded {
        first_keys::admin_key(&running.store, key).await?;
    }
    running.serve(|| Ok(())).await
}

fn dev_options(arguments: &DevArguments) -> Result<NodeOptions, StartError> {
    let mut flags = vec![Override::new("store.data_directory", arguments.data_dir.to_string_lossy())];
    let environment: Vec<(String, String)> = process_environment().collect();
    for (field, variable, value) in DEV_DELIVERY {
        if environment.iter().all(|(name, _)| name != variable) {
            flags.push(Override::new(field, value));
        }
    }
    flags.extend(arguments.listen.map(|address| Override::new("listen.address", address.to_string())));
    flags.extend(arguments.admin_listen.map(|address| Override::new("admin.address", address.to_string())));
    let format = triggers_cluster_config::LogFormat::from(arguments.log_format);
    flags.push(Override::new("log.format", format.name()));
    Ok(NodeOptions::load(Sources { file: None, environment, flags })?)
}

/// Says on stdout how to use the node.
fn announce(dev: &DevFile, file: &Path) -> Result<(), StartError> {
    use std::io::Write;
    let DevFile { url, api_key, .. } = dev;
    let text = format!(
        "\n  Triggers is running at {url}  (API page: {url}/docs)\n\n  Keys are in {file}. Send the first event:\n\n    \
         curl -i {url}/v1/events -H 'X-API-Key: {api_key}' -H 'Content-Type: application/json' \
         -d '{{\"event_type\":\"order.created\",\"payload\":{{\"order\":42}}}}'\n\n  Read it back:\n\n    \
         curl {url}/v1/inbox -H 'X-API-Key: {api_key}'\n\n  Ctrl-C stops the node; what it acknowledged stays.\n\n",
        file = file.display(),
    );
    // A closed stdout is no reason to stop: the file says the same.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

/// A node whose parts stand, before it serves.
struct Running {
    options: NodeOptions,
    telemetry: Telemetry,
    tls: Option<TlsAcceptor>,
    listener: TcpListener,
    address: SocketAddr,
    admin_listener: TcpListener,
    admin_address: SocketAddr,
    store: Store,
    sender: HttpSender,
    node: Node,
    cluster: Option<Joined>,
    incarnation: String,
    /// The last to go, so that nothing is said after it.
    _last_lines: LastLines,
}

/// What a node in a cluster has besides.
struct Joined {
    peer: String,
    transport: Arc<dyn PeerTransport>,
    peers: Peers,
}

impl Running {
    /// With a shared store the admin key is there before the node joins: one that nobody could use takes no partition.
    async fn start(options: NodeOptions, admin_key: Option<ApiKey>) -> Result<Self, StartError> {
        let tls = edge::tls::load(&options.listen)?;
        let telemetry = telemetry::start(&options.log).map_err(|error| StartError::Telemetry(error.to_string()))?;
        let _last_lines = telemetry.log.last_lines();
        let (listener, address) = bind(options.listen.address).await?;
        let (admin_listener, admin_address) = bind(options.admin.address).await?;
        let environment = Environment::system();
        let sender = HttpSender::new(&options.delivery, environment.clone())?;
        let peer_tls = cluster::tls(&options.cluster)?;
        let store = Store::new(engine::open(&options).await?, environment.clone());
        let peer = peer(&options.node.name, &environment);
        let incarnation = format!("{peer}.1");
        let (broker, partitions) = (broker_options(&options), options.node.partitions);
        let to_endpoints = Arc::new(sender.clone());
        let (node, cluster) = if options.store.engine.is_shared() {
            let settings = triggers_actors::settings(&store, partitions).await?;
            first_keys::admin_key(&store, admin_key).await?;
            let peer_listener = bind(options.cluster.address).await?;
            let joining = cluster::joining(&options, &settings, &peer, peer_listener, (peer_tls, address)).await?;
            let joined = Joined { peer, transport: joining.transport.clone(), peers: joining.peers.clone() };
            let joining = (incarnation.clone(), joining);
            (Node::join(store.clone(), to_endpoints, broker, settings, joining).await?, Some(joined))
        } else {
            (Node::start(store.clone(), to_endpoints, broker, partitions, incarnation.clone()).await?, None)
        };
        tracing::info!(node = incarnation, %address, %admin_address, partitions = options.node.partitions, "started");
        Ok(Self {
            options,
            telemetry,
            tls,
            listener,
            address,
            admin_listener,
            admin_address,
            store,
            sender,
            node,
            cluster,
            incarnation,
            _last_lines,
        })
    }

    fn scheme(&self) -> &'static str {
        if self.options.listen.tls_certificate_file.is_some() { "https" } else { "http" }
    }

    /// Serves until a signal, or until the actors give up.
    async fn serve(mut self, ready: impl FnOnce() -> Result<(), StartError>) -> Result<(), StartError> {
        let edge = self.edge();
        let (stop, stopped) = watch::channel(false);
        let (stop_admin, admin_stopped) = watch::channel(false);
        let watch = self.node.watch();
        let view = ClusterSource::new(watch.clone(), &self.options, self.incarnation.clone(), self.address);
        let admin = admin::router(self.telemetry.admin_state(edge.clone(), view));
        let router = edge::router(edge.clone());
        if let (Some(joined), Some(directory)) = (&self.cluster, self.node.directory()) {
            joined.peers.bind_http(Arc::new(PeerRequests::new(router.clone(), directory)));
        }
        let options = &self.options.listen;
        let public = server::serve(self.listener, router, self.tls, options.clone(), stopped);
        let public = tokio::spawn(public);
        let admin = tokio::spawn(server::serve(self.admin_listener, admin, None, options.clone(), admin_stopped));
        ready()?;
        let outcome = tokio::select! {
            signal = signals::stop_requested() => match signal {
                Ok(signal) => {
                    tracing::info!(signal, "stopping: requests in flight finish");
                    Ok(())
                }
                Err(error) => Err(StartError::Fatal(format!("cannot wait for signals: {error}"))),
            },
            () = self.node.ended() => Err(StartError::Fatal("its actors keep failing; see the log".into())),
        };
        edge.draining.store(true, Ordering::SeqCst);
        // Load balancers are told first and accepting ends later; a node whose actors are gone has nothing to wait for.
        let delay = Duration::from_millis(if outcome.is_ok() { options.drain_delay_ms } else { 0 });
        let drained = Duration::from_millis(self.options.listen.drain_timeout_ms);
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
            note("admin", admin.await);
            if self.cluster.is_some() && outcome.is_ok() {
                // Members that have not heard of the moves yet are told by this one, for as long as they read the map.
                tokio::time::sleep(Duration::from_millis(self.options.cluster.beat_interval_ms)).await;
            }
            self.node.stop().await;
            drop(self.cluster);
            tracing::info!("stopped");
        };
        tokio::select! {
            () = finished => outcome,
            _ = signals::stop_requested() => {
                Err(StartError::Fatal("a second signal came before its requests were finished".into()))
            }
        }
    }

    fn edge(&self) -> EdgeState {
        EdgeState(Arc::new(Edge {
            environment: self.store.environment().clone(),
            router: self.node.router(),
            store: self.store.clone(),
            access: Access::new(self.store.clone(), &self.options.limits),
            targets: Arc::new(self.sender.policy().clone()),
            cursor_secret: self.node.settings().cursor_secret,
            options: self.options.clone(),
            node_name: self.options.node.name.clone(),
            cluster: self.cluster.as_ref().zip(self.node.directory()).map(|(joined, directory)| EdgeCluster {
                directory,
                transport: joined.transport.clone(),
                peer: joined.peer.clone(),
            }),
            gathering: Admission::new(usize::MAX, self.options.broker.node_bytes_max),
            draining: AtomicBool::new(false),
        }))
    }
}

fn note(listener: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener, %error, "a listener ended badly");
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// This process: the node's name and a boot id that no other start has.
fn peer(name: &str, environment: &Environment) -> String {
    let boot: [u8; 8] = environment.bytes();
    format!("{name}@{:016x}", u64::from_be_bytes(boot))
}

fn delivery_options(options: &triggers_cluster_config::DeliveryOptions) -> DeliveryOptions {
    DeliveryOptions {
        in_flight_max: options.in_flight_max,
        in_flight_bytes_max: options.in_flight_bytes_max,
        tenant_in_flight_max: options.tenant_in_flight_max,
        attempt_timeout: Duration::from_millis(options.timeout_ms),
        disable_after: Duration::from_secs(options.disable_after_s),
        breaker_failures_max: options.breaker_failures_max,
        breaker_pause: Duration::from_millis(options.breaker_pause_ms),
        breaker_pause_max: Duration::from_millis(options.breaker_pause_max_ms),
        subscriptions_max: u32::try_from(options.subscriptions_max).unwrap_or(u32::MAX),
    }
}

fn broker_options(options: &NodeOptions) -> BrokerOptions {
    let broker = &options.broker;
    BrokerOptions {
        inbox_idle_timeout: Duration::from_millis(broker.inbox_idle_timeout_ms),
        inboxes_max: broker.inboxes_max,
        batch_events_max: broker.batch_events_max,
        batch_bytes_max: broker.batch_bytes_max,
        tenant_requests_max: broker.tenant_requests_max,
        tenant_bytes_max: broker.tenant_bytes_max,
        node_bytes_max: broker.node_bytes_max,
        commits_in_flight_max: broker.commits_in_flight_max,
        reads_in_flight_max: broker.reads_in_flight_max,
        commit_timeout: Duration::from_millis(broker.commit_timeout_ms),
        idempotency_retention: Duration::from_secs(broker.idempotency_retention_s),
        restarts_max: broker.restarts_max as usize,
        restart_window: Duration::from_millis(broker.restart_window_ms),
        sweep_interval: Duration::from_millis(broker.sweep_interval_ms),
        delivery: delivery_options(&options.delivery),
    }
}
