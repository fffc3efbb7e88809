//! Starts and stops a node.
//!
//! ```text
//! start: configuration ▸ telemetry ▸ listeners bound ▸ store opened ▸ fences acquired or cluster
//!        joined, actors started ▸ first keys ▸ serving
//! stop:  not ready ▸ in a cluster: partitions transferred ▸ public listener closed, requests and
//!        webhooks in flight finish ▸ admin listener ▸ actors ▸ store
//! ```
//! - `BOOTSTRAP-1`: no request is answered before every part is started.
//! - `BOOTSTRAP-2`: a failed start has changed nothing except what its error names.
//! - `BOOTSTRAP-3`: the store closes last, so that transactions in flight can commit.
//!
//! This module only connects the parts; it decides nothing about requests.

mod assembly;
mod cluster;
mod descriptors;
mod engine;
mod error;
mod first_keys;
mod listeners;
mod runtimes;

pub use assembly::{Assembly, Public, Served, peer};
pub use error::StartError;
pub use runtimes::Runtimes;

use crate::admin::{self, AdminState, Backups};
use crate::http::{server, tls};
use crate::telemetry::{self, FlushGuard, Telemetry};
use crate::webhook::HttpSender;
use first_keys::DevFile;
use listeners::{bind, rebind};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::{ApiKey, Environment};
use triggers_store::kv::Store;

/// Runs a development node until a stop signal. The first start creates a tenant and keys and
/// writes them to `dev.json` in the data directory. Prints how to use the node. The runtime
/// `connections` drives the public listener.
pub async fn dev(options: NodeOptions, connections: Handle) -> Result<(), StartError> {
    let file = options.store.data_directory.join("dev.json");
    let running = Running::start(options, None).await?;
    let (api_key, admin_key) =
        first_keys::dev_keys(&running.store, DevFile::read(&file).as_ref()).await?;
    let scheme = if running.tls.is_some() { "https" } else { "http" };
    let dev = DevFile {
        url: format!("{scheme}://{}", running.address),
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

/// Runs a node until a stop signal. The runtime `connections` drives the public listener.
pub async fn serve(options: NodeOptions, connections: Handle) -> Result<(), StartError> {
    let key = first_keys::read_admin_key(options.admin.key_file.as_deref())?;
    // A new store has no key. Create nothing for a node that nobody could use.
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

/// Prints on stdout how to use the node.
fn announce(dev: &DevFile, file: &Path) -> Result<(), StartError> {
    use std::io::Write;
    let DevFile { url, api_key, .. } = dev;
    let text = format!(
        r#"
  Triggers is running at {url}  (API page: {url}/docs)

  Keys are in {file}. Send the first event:

    curl -i {url}/v1/events -H 'X-API-Key: {api_key}' -H 'Content-Type: application/json' \
      -d '{{"event_type":"order.created","payload":{{"order":42}}}}'

  Read it back:

    curl {url}/v1/inbox -H 'X-API-Key: {api_key}'

  Ctrl-C stops the node; accepted events stay.

"#,
        file = file.display(),
    );
    // A closed stdout is not fatal: the file contains the same.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

/// A node on real sockets and a real store, before it serves.
struct Running {
    telemetry: Telemetry,
    tls: Option<TlsAcceptor>,
    listener: TcpListener,
    address: SocketAddr,
    admin_listener: TcpListener,
    admin_address: SocketAddr,
    store: Store,
    assembly: Assembly,
    /// Dropped last, so that every log line is flushed.
    _flush_guard: FlushGuard,
}

impl Running {
    /// Opens everything and starts the actors. With a shared store the admin key is stored before
    /// the node joins, so that a node without a usable key takes over no partition.
    async fn start(
        mut options: NodeOptions,
        admin_key: Option<ApiKey>,
    ) -> Result<Self, StartError> {
        let too_few = descriptors::fit(&mut options);
        let tls = tls::load(&options.listen)?;
        let telemetry = telemetry::start(&options.log)
            .map_err(|error| StartError::Telemetry(error.to_string()))?;
        let _flush_guard = telemetry.log.flush_guard();
        if let Some(too_few) = too_few {
            too_few.log();
        }
        let (listener, address) = bind(options.listen.address).await?;
        let (admin_listener, admin_address) = bind(options.admin.address).await?;
        let environment = Environment::system();
        let sender = HttpSender::new(&options.delivery, environment.clone())?;
        let peer_tls = cluster::peer_tls(&options)?;
        let store = Store::new(engine::open(&options).await?, environment.clone());
        let peer = assembly::peer(&options.node.name, &environment);
        let partitions = options.node.partitions;
        let joining = if options.store.engine.is_shared() {
            let settings = triggers_actors::settings(&store, partitions).await?;
            first_keys::admin_key(&store, admin_key).await?;
            let joining = cluster::joining(&options, &settings, &peer, peer_tls, address).await?;
            Some((settings, joining))
        } else {
            None
        };
        let assembly = Assembly::start(options, store.clone(), sender, peer, joining).await?;
        let node = assembly.incarnation();
        tracing::info!(node, %address, %admin_address, partitions, "started");
        Ok(Self {
            telemetry,
            tls,
            listener,
            address,
            admin_listener,
            admin_address,
            store,
            assembly,
            _flush_guard,
        })
    }

    /// Serves until a signal or a fatal fault. Calls `ready` once connections are accepted.
    async fn serve(
        self,
        connections: Handle,
        ready: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let admin = admin::router(AdminState {
            telemetry: self.telemetry,
            edge: self.assembly.edge().clone(),
            watch: self.assembly.watch(),
            incarnation: self.assembly.incarnation().to_owned(),
            address: self.address,
            backups: Backups::default(),
        });
        let admin = Served { listener: server::tcp(self.admin_listener), router: admin };
        let listener = rebind(self.listener, &connections)
            .map_err(|source| StartError::Listen { address: self.address, source })?;
        ready()?;
        let public =
            Public { listener: server::tcp(listener), tls: self.tls, runtime: connections };
        self.assembly.serve(public, Some(admin), stop_requested).await?;
        tokio::select! {
            () = self.store.close() => Ok(()),
            _ = stop_requested() => {
                Err(StartError::Fatal("a second signal arrived before the store was closed".into()))
            }
        }
    }
}

/// Waits for SIGTERM or SIGINT. The first signal starts the drain. A second one ends the node at
/// once: requests stay unanswered, and the exit code is that of a fatal fault (5).
async fn stop_requested() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
