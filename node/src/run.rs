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

mod assembly;
mod cluster;
mod engine;
mod error;
mod first_keys;
mod runtimes;
mod signals;

pub use assembly::{Assembly, Public, Served, peer};
pub use error::StartError;
pub use runtimes::Runtimes;

use crate::admin::{self, AdminState, Backups, ClusterSource};
use crate::http::{server, tls};
use crate::telemetry::{self, FlushGuard, Telemetry};
use crate::webhook::HttpSender;
use first_keys::DevFile;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::{ApiKey, Environment};
use triggers_store::kv::Store;

/// Runs a development node until it is told to stop: makes a tenant and keys at the first start, writes them to `dev.json` in the
/// data directory, and prints how to use the node. `connections` drives the public listener.
///
/// # Errors
/// [`StartError`].
pub async fn dev(options: NodeOptions, connections: Handle) -> Result<(), StartError> {
    let file = options.store.data_directory.join("dev.json");
    let running = Running::start(options, None).await?;
    let (api_key, admin_key) =
        first_keys::dev_keys(&running.store, DevFile::read(&file).as_ref()).await?;
    let dev = DevFile {
        url: format!("{}://{}", running.scheme(), running.address),
        admin_url: format!("http://{}", running.admin_address),
        tenant_id: "dev".to_owned(),
        api_key: api_key.reveal().to_owned(),
        admin_key: admin_key.reveal().to_owned(),
    };
    running
        .serve(connections, || {
            dev.write(&file)?;
            announce(&dev, &file)
        })
        .await
}

/// Runs a node until it is told to stop. `connections` drives the public listener.
///
/// # Errors
/// [`StartError`].
pub async fn serve(options: NodeOptions, connections: Handle) -> Result<(), StartError> {
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
    running.serve(connections, || Ok(())).await
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

/// A node of the operating system's parts, before it serves.
struct Running {
    options: NodeOptions,
    telemetry: Telemetry,
    tls: Option<TlsAcceptor>,
    listener: TcpListener,
    address: SocketAddr,
    admin_listener: TcpListener,
    admin_address: SocketAddr,
    store: Store,
    assembly: Assembly,
    incarnation: String,
    /// The last to go, so that nothing is said after it.
    _flush_guard: FlushGuard,
}

impl Running {
    /// With a shared store the admin key is there before the node joins: one that nobody could use takes no partition.
    async fn start(options: NodeOptions, admin_key: Option<ApiKey>) -> Result<Self, StartError> {
        let tls = tls::load(&options.listen)?;
        let telemetry = telemetry::start(&options.log)
            .map_err(|error| StartError::Telemetry(error.to_string()))?;
        let _flush_guard = telemetry.log.flush_guard();
        let (listener, address) = bind(options.listen.address).await?;
        let (admin_listener, admin_address) = bind(options.admin.address).await?;
        let environment = Environment::system();
        let sender = HttpSender::new(&options.delivery, environment.clone())?;
        let peer_tls = cluster::tls(&options.cluster)?;
        let store = Store::new(engine::open(&options).await?, environment.clone());
        let peer = assembly::peer(&options.node.name, &environment);
        let incarnation = format!("{peer}.1");
        let partitions = options.node.partitions;
        let joining = if options.store.engine.is_shared() {
            let settings = triggers_actors::settings(&store, partitions).await?;
            first_keys::admin_key(&store, admin_key).await?;
            let peer_listener = bind(options.cluster.address).await?;
            tracing::info!(address = %peer_listener.1, "members can connect");
            let joining =
                cluster::joining(&options, &settings, &peer, peer_listener, (peer_tls, address))
                    .await?;
            Some((settings, joining))
        } else {
            None
        };
        let assembly =
            Assembly::start(options.clone(), store.clone(), sender, peer, joining).await?;
        tracing::info!(node = incarnation, %address, %admin_address, partitions, "started");
        Ok(Self {
            options,
            telemetry,
            tls,
            listener,
            address,
            admin_listener,
            admin_address,
            store,
            assembly,
            incarnation,
            _flush_guard,
        })
    }

    fn scheme(&self) -> &'static str {
        if self.options.listen.tls_certificate_file.is_some() { "https" } else { "http" }
    }

    /// Serves until a signal, or until the actors give up. `ready` is told when connections are accepted.
    async fn serve(
        self,
        connections: Handle,
        ready: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let watch = self.assembly.watch();
        let view = ClusterSource::new(watch, &self.options, self.incarnation.clone(), self.address);
        let admin = admin::router(AdminState {
            telemetry: self.telemetry,
            edge: self.assembly.edge().clone(),
            cluster: view,
            backups: Backups::default(),
        });
        let admin = Served { listener: server::tcp(self.admin_listener), router: admin };
        let listener = moved(self.listener, &connections)
            .map_err(|source| StartError::Listen { address: self.address, source })?;
        ready()?;
        let public =
            Public { listener: server::tcp(listener), tls: self.tls, runtime: connections };
        self.assembly.serve(public, Some(admin), signals::stop_requested).await?;
        tokio::select! {
            () = self.store.close() => Ok(()),
            _ = signals::stop_requested() => {
                Err(StartError::Fatal("a second signal came before the store was closed".into()))
            }
        }
    }
}

/// A listener whose connections wake the threads of a runtime.
fn moved(listener: TcpListener, runtime: &Handle) -> std::io::Result<TcpListener> {
    let _entered = runtime.enter();
    TcpListener::from_std(listener.into_std()?)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
