//! A simulated host's process: a node as it ships, over simulated sockets, store, clock and links.

use super::HostId;
use super::http::SimTcp;
use super::network::{Network, address_of};
use super::peers::PeerNetwork;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use triggers_actors::Joining;
use triggers_actors::cluster::ClusterOptions;
use triggers_actors::cluster::service::Peers;
use triggers_cluster_config::NodeOptions;
use triggers_node::run::{Assembly, Public, peer};
use triggers_node::webhook::{HttpSender, TargetPolicy};
use triggers_protocol::Environment;
use triggers_store::kv::Store;
use triggers_store::kv::simulated::SimulatedEngine;

/// The port of every node.
pub const PORT: u16 = 8080;

/// What a node is made of.
pub struct NodeParts {
    /// The host.
    pub host: HostId,
    /// The node's name.
    pub name: String,
    /// Its options.
    pub options: NodeOptions,
    /// The store that all share.
    pub engine: SimulatedEngine,
    /// Clock and randomness.
    pub environment: Environment,
    /// The network.
    pub network: Network,
    /// The links.
    pub peers: PeerNetwork,
    /// Becomes true when it is asked to stop.
    pub stop: watch::Receiver<bool>,
}

/// Runs until it is asked to stop, or gives up; what it says then.
pub async fn run(parts: NodeParts) -> Result<(), String> {
    let NodeParts { host, name, mut options, engine, environment, network, peers, stop } = parts;
    options.node.name.clone_from(&name);
    let peer = peer(&name, &environment);
    let store = Store::new(Arc::new(engine.named(&peer)), environment.clone());
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let policy =
        Arc::new(TargetPolicy::from_options(&options.delivery).map_err(|error| said(&error))?);
    let tcp = SimTcp { network: network.clone(), host };
    let sender = HttpSender::over(&options.delivery, environment, tcp, policy)
        .map_err(|error| said(&error))?;
    let settings = triggers_actors::settings(&store, options.node.partitions)
        .await
        .map_err(|error| said(&error))?;
    let service = Peers::default();
    let transport = Arc::new(peers.join(host, &peer, Arc::new(service.clone())));
    let address = address_of(host, PORT);
    let cluster = &options.cluster;
    let joining = Joining {
        options: ClusterOptions {
            name,
            address: address.to_string(),
            peer_address: address.to_string(),
            beat_interval: Duration::from_millis(cluster.heartbeat_interval_ms),
            stop_after: Duration::from_millis(cluster.stop_after_ms),
            steal_after: Duration::from_millis(cluster.take_over_after_ms),
            transfers_in_flight_max: cluster.transfers_in_flight_max,
        },
        transport,
        peers: service,
    };
    let assembly = Assembly::start(options, store, sender, peer, Some((settings, joining)));
    let assembly = assembly.await.map_err(|error| said(&error))?;
    let listener = network.listen(host, PORT);
    let was_asked = AtomicBool::new(false);
    let stop_requested = || {
        let (is_second, mut stop) = (was_asked.swap(true, Ordering::SeqCst), stop.clone());
        async move {
            // Nobody asks a second time; neither does a sender that is gone.
            if is_second || stop.wait_for(|is_asked| *is_asked).await.is_err() {
                std::future::pending::<()>().await;
            }
            Ok("stop")
        }
    };
    let public = Public { listener, tls: None, runtime: Handle::current() };
    assembly.serve(public, None, stop_requested).await.map_err(|error| said(&error))
}
