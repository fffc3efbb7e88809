//! The process of a simulated host: the product's node over simulated sockets, store, clocks and
//! links.
//!
//! Invariants: `SIM-CLOCK-1` the monotonic clock runs with the host's runtime, and jumps when a
//! frozen host resumes; `SIM-CLOCK-2` the wall clock is the monotonic clock plus the host's skew,
//! which faults change in both directions, rounded down to the resolution of the plan.

use super::HostId;
use super::http::SimTcp;
use super::network::address_of;
use super::peers::PeerNetwork;
use crate::determinism::EPOCH_MS;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use triggers_actors::{ClusterOptions, Joining, NodePeerService};
use triggers_cluster_config::NodeOptions;
use triggers_node::run::{Assembly, Public, peer};
use triggers_node::webhook::{HttpSender, TargetPolicy};
use triggers_protocol::environment::{Clock, Random};
use triggers_protocol::lock::lock;
use triggers_protocol::{Environment, Timestamp};
use triggers_store::kv::Store;
use triggers_store::kv::simulated::{SimulatedEngine, Stream};

/// The port of every node.
pub const PORT: u16 = 8080;

/// Runs a node until it is asked to stop: `stop` becomes true, as by SIGTERM.
pub async fn run(
    host: HostId,
    options: NodeOptions,
    engine: SimulatedEngine,
    environment: Environment,
    peers: PeerNetwork,
    stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let (name, network) = (options.node.name.clone(), peers.network.clone());
    let peer = peer(&name, &environment);
    let store = Store::new(Arc::new(engine.named(&peer)), environment.clone());
    let policy = Arc::new(TargetPolicy::from_options(&options.delivery).map_err(text)?);
    let tcp = SimTcp { network: network.clone(), host };
    let sender = HttpSender::over(&options.delivery, environment, tcp, policy).map_err(text)?;
    let settings = triggers_actors::settings(&store, options.node.partitions).await;
    let settings = settings.map_err(text)?;
    let service = NodePeerService::default();
    let transport = Arc::new(peers.join(host, &peer, Arc::new(service.clone())));
    let address = address_of(host, PORT);
    let cluster = &options.cluster;
    let joining = Joining {
        options: ClusterOptions {
            name,
            address: address.to_string(),
            peer_address: address.to_string(),
            heartbeat_interval: Duration::from_millis(cluster.heartbeat_interval_ms),
            stop_after: Duration::from_millis(cluster.stop_after_ms),
            take_over_after: Duration::from_millis(cluster.take_over_after_ms),
            transfers_in_flight_max: cluster.transfers_in_flight_max,
        },
        transport,
        peers: service,
    };
    let assembly = Assembly::start(options, store, sender, peer, Some((settings, joining)));
    let assembly = assembly.await.map_err(text)?;
    let listener = network.listen(host, PORT);
    let was_asked = AtomicBool::new(false);
    let stop_requested = || {
        let (is_second, mut stop) = (was_asked.swap(true, Ordering::SeqCst), stop.clone());
        async move {
            // A second request never comes, nor does one from a sender that was dropped.
            if is_second || stop.wait_for(|is_asked| *is_asked).await.is_err() {
                std::future::pending::<()>().await;
            }
            Ok("stop")
        }
    };
    let public = Public { listener, tls: None, runtime: Handle::current() };
    assembly.serve(public, None, stop_requested).await.map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

struct HostClock {
    /// Simulated time at which the process began.
    started: Duration,
    base: OnceLock<Instant>,
    skew_ms: Arc<AtomicI64>,
    step_ms: i64,
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let elapsed_ms = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        let now_ms = EPOCH_MS.cast_signed() + elapsed_ms + self.skew_ms.load(Ordering::SeqCst);
        Timestamp::from_millis(now_ms - now_ms.rem_euclid(self.step_ms))
    }

    fn monotonic(&self) -> Duration {
        let now = Instant::now();
        self.started + now.saturating_duration_since(*self.base.get_or_init(|| now))
    }
}

struct HostRandom(Mutex<Stream>);

impl Random for HostRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut stream = lock(&self.0);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&stream.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The clocks and random source of a process that begins at `started`. The wall clock moves in
/// steps of `clock_step_ms`. The first use must be in the process's runtime.
pub fn environment(
    started: Duration,
    skew_ms: Arc<AtomicI64>,
    clock_step_ms: u64,
    random: Stream,
) -> Environment {
    let step_ms = i64::try_from(clock_step_ms).unwrap_or(i64::MAX).max(1);
    let clock = HostClock { started, base: OnceLock::new(), skew_ms, step_ms };
    Environment::new(Arc::new(clock), Arc::new(HostRandom(Mutex::new(random))))
}
