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
mod signals;

pub use assembly::{Assembly, Public, Served, peer};
pub use error::StartError;

use crate::admin::{self, ClusterSource};
use crate::cli::arguments::{DevArguments, ServeArguments};
use crate::edge::{self, server};
use crate::telemetry::{self, LastLines, Telemetry};
use crate::webhook::HttpSender;
use first_keys::DevFile;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use triggers_cluster_config::{NodeOptions, Override, Sources, process_environment};
use triggers_protocol::{ApiKey, Environment};
use triggers_store::kv::Store;

/// A receiver on the same machine is what a first try has: what `dev` allows unless the environment says otherwise.
const DEV_DELIVERY: [(&str, &str, &str); 2] = [
    ("delivery.is_https_required", "TRIGGERS__DELIVERY__IS_HTTPS_REQUIRED", "false"),
    ("delivery.allowed_targets", "TRIGGERS__DELIVERY__ALLOWED_TARGETS", "127.0.0.0/8, ::1/128"),
];

/// Runs one embedded node without configuration, until it is told to stop; its connections on a runtime of their own.
///
/// # Errors
/// [`StartError`], with the exit code of each.
pub async fn run_dev(arguments: DevArguments, connections: Handle) -> Result<(), StartError> {
    let options = dev_options(&arguments)?;
    let file = arguments.data_dir.join("dev.json");
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

/// Runs a node as it is configured, until it is told to stop; its connections on a runtime of their own.
///
/// # Errors
/// [`StartError`], with the exit code of each.
pub async fn run_serve(arguments: ServeArguments, connections: Handle) -> Result<(), StartError> {
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
    running.serve(connections, || Ok(())).await
}

fn dev_options(arguments: &DevArguments) -> Result<NodeOptions, StartError> {
    let mut flags =
        vec![Override::new("store.data_directory", arguments.data_dir.to_string_lossy())];
    let environment: Vec<(String, String)> = process_environment().collect();
    for (field, variable, value) in DEV_DELIVERY {
        if environment.iter().all(|(name, _)| name != variable) {
            flags.push(Override::new(field, value));
        }
    }
    flags.extend(
        arguments.listen.map(|address| Override::new("listen.address", address.to_string())),
    );
    flags.extend(
        arguments.admin_listen.map(|address| Override::new("admin.address", address.to_string())),
    );
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
    _last_lines: LastLines,
}

impl Running {
    /// With a shared store the admin key is there before the node joins: one that nobody could use takes no partition.
    async fn start(options: NodeOptions, admin_key: Option<ApiKey>) -> Result<Self, StartError> {
        let tls = edge::tls::load(&options.listen)?;
        let telemetry = telemetry::start(&options.log)
            .map_err(|error| StartError::Telemetry(error.to_string()))?;
        let _last_lines = telemetry.log.last_lines();
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
            _last_lines,
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
        let admin = admin::router(self.telemetry.admin_state(self.assembly.edge().clone(), view));
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
