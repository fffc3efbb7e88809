//! Simulated hosts, and time: in steps, each host's runtime goes on in its turn, on one thread.
//!
//! ```text
//! step: deliver what is due on the network ─▶ host 0: its runtime, clock paused, goes on by one step ─▶ host 1 ─▶ …
//! ```
//! A host is a tokio runtime of its own with a paused clock: a crash drops it with all its tasks, a freeze does not let it
//! go on, and afterwards its clock jumps, as after SIGSTOP and SIGCONT.
//! Invariants: `WORLD-1` whatever one host does to another takes effect in a later step; `WORLD-2` hosts go on in the same
//! order in every step; `WORLD-3` a process that was killed or whose machine lost power sends nothing more.

pub mod clock;
pub mod http;
pub mod network;
pub mod node;
pub mod peers;

use crate::determinism;
use crate::trace::Trace;
use network::Network;
use node::NodeParts;
use peers::PeerNetwork;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use triggers_cluster_config::NodeOptions;
use triggers_store::kv::simulated::{SimulatedEngine, Stream};

/// One step: the shortest way over the network.
pub const STEP: Duration = Duration::from_millis(2);
/// A process that has ended by itself is started again after so long, as a service manager does.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// A host's number, which is in its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

thread_local! {
    static NOW: RefCell<(Duration, String)> = const { RefCell::new((Duration::ZERO, String::new())) };
}

/// When it is, and which host's turn: for log lines.
pub fn turn() -> (Duration, String) {
    NOW.with_borrow(Clone::clone)
}

/// What all hosts share.
pub struct World {
    /// The seed of everything.
    pub seed: u64,
    /// The network.
    pub network: Network,
    /// The links between members.
    pub peers: PeerNetwork,
    /// The store.
    pub engine: SimulatedEngine,
    /// The account of the run.
    pub trace: Trace,
    options: NodeOptions,
    hosts: Vec<Host>,
    now: Duration,
}

struct Host {
    name: String,
    process: Option<Process>,
    boots: u32,
    skew_ms: Arc<AtomicI64>,
    frozen_until: Option<Duration>,
    /// When a node's process is to be there again.
    starts_at: Option<Duration>,
    /// Whether it is a node, or where clients and receivers are.
    is_node: bool,
}

struct Process {
    runtime: Runtime,
    /// How far its runtime has come.
    reached: Duration,
    node: Option<JoinHandle<Result<(), String>>>,
    stop: watch::Sender<bool>,
}

impl World {
    /// A world without hosts.
    pub fn new(seed: u64, engine: SimulatedEngine, options: NodeOptions, trace: Trace) -> Self {
        let network = Network::new(seed, STEP, 2, trace.clone());
        let peers = PeerNetwork::new(seed, network.clone(), trace.clone());
        Self {
            seed,
            network,
            peers,
            engine,
            trace,
            options,
            hosts: Vec::new(),
            now: Duration::ZERO,
        }
    }

    /// The time since the run began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// A host for clients and receivers; what runs in its runtime is the caller's.
    pub fn add_outside(&mut self) -> (HostId, tokio::runtime::Handle) {
        let host = self.add("outside".to_owned(), false);
        let process = self.process(host);
        let runtime = process.runtime.handle().clone();
        self.hosts[host.0].process = Some(process);
        (host, runtime)
    }

    /// A node's host; its process begins at once.
    pub fn add_node(&mut self) -> HostId {
        let name = format!("node-{}", self.hosts.iter().filter(|host| host.is_node).count() + 1);
        let host = self.add(name, true);
        self.start(host);
        host
    }

    fn add(&mut self, name: String, is_node: bool) -> HostId {
        self.hosts.push(Host {
            name,
            process: None,
            boots: 0,
            skew_ms: Arc::default(),
            frozen_until: None,
            starts_at: None,
            is_node,
        });
        HostId(self.hosts.len() - 1)
    }

    /// All hosts of nodes.
    pub fn nodes(&self) -> Vec<HostId> {
        (0..self.hosts.len()).map(HostId).filter(|host| self.hosts[host.0].is_node).collect()
    }

    /// Whether a node's process runs and is not frozen.
    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[host.0].process.is_some() && self.hosts[host.0].frozen_until.is_none()
    }

    /// A host's name.
    pub fn name(&self, host: HostId) -> &str {
        &self.hosts[host.0].name
    }

    /// The skew of a host's wall clock.
    pub fn skew(&self, host: HostId) -> Arc<AtomicI64> {
        self.hosts[host.0].skew_ms.clone()
    }

    fn process(&mut self, host: HostId) -> Process {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without an I/O driver needs nothing of the system");
        let boot = self.hosts[host.0].boots + 1;
        self.hosts[host.0].boots = boot;
        self.network.process_began(host, boot);
        Process { runtime, reached: self.now, node: None, stop: watch::channel(false).0 }
    }

    /// Starts a node's process, if it does not run.
    pub fn start(&mut self, host: HostId) {
        self.hosts[host.0].starts_at = None;
        if self.hosts[host.0].process.is_some() {
            return;
        }
        let mut process = self.process(host);
        let Host { name, boots, skew_ms, .. } = &self.hosts[host.0];
        let random = Stream::new(self.seed, 1_000 * (host.0 as u64 + 1) + u64::from(*boots));
        let parts = NodeParts {
            host,
            name: name.clone(),
            options: self.options.clone(),
            engine: self.engine.clone(),
            environment: clock::environment(self.now, skew_ms.clone(), random),
            network: self.network.clone(),
            peers: self.peers.clone(),
            stop: process.stop.subscribe(),
        };
        self.trace.note(self.now, name, format_args!("starts"));
        process.node = Some(process.runtime.spawn(node::run(parts)));
        self.hosts[host.0].process = Some(process);
    }

    /// Ends a process without warning. It starts again after a while, if that is said.
    pub fn kill(&mut self, host: HostId, is_power_lost: bool, restart_after: Option<Duration>) {
        self.trace.note(
            self.now,
            self.name(host),
            format_args!("is killed, power lost: {is_power_lost}"),
        );
        self.end(host, is_power_lost);
        self.hosts[host.0].starts_at = restart_after.map(|after| self.now + after);
    }

    fn end(&mut self, host: HostId, is_power_lost: bool) {
        self.hosts[host.0].frozen_until = None;
        self.peers.set_frozen(host, false);
        let Some(process) = self.hosts[host.0].process.take() else { return };
        // First, so that nothing of what is dropped is sent.
        self.network.process_ended(host, is_power_lost);
        self.peers.process_ended(host);
        drop(process);
    }

    /// Asks a node to stop, as SIGTERM does. It starts again some time after it has ended, if that is said.
    pub fn stop(&mut self, host: HostId, is_started_again: bool) {
        self.trace.note(self.now, self.name(host), format_args!("is asked to stop"));
        if let Some(process) = &self.hosts[host.0].process {
            process.stop.send_replace(true);
        }
        self.hosts[host.0].starts_at = (!is_started_again).then_some(Duration::MAX);
    }

    /// Lets a host stand still until then.
    pub fn freeze(&mut self, host: HostId, until: Duration) {
        self.trace.note(self.now, self.name(host), format_args!("freezes until {until:?}"));
        if self.hosts[host.0].process.is_some() {
            self.hosts[host.0].frozen_until = Some(until);
            self.peers.set_frozen(host, true);
        }
    }

    /// Lets everything run that does not.
    pub fn heal(&mut self) {
        for host in self.nodes() {
            if let Some(until) = &mut self.hosts[host.0].frozen_until {
                *until = self.now;
            }
            let is_gone_for_good = self.hosts[host.0].starts_at == Some(Duration::MAX);
            if !is_gone_for_good {
                self.start(host);
            }
        }
    }

    /// One step of everything.
    pub fn step(&mut self) {
        self.step_by(STEP);
    }

    /// One step that is longer, when nobody measures how long anything takes.
    pub fn step_by(&mut self, step: Duration) {
        let begun = self.now;
        determinism::set_now(begun);
        self.network.deliver(begun);
        self.peers.deliver(begun);
        self.now += step;
        for host in (0..self.hosts.len()).map(HostId) {
            self.step_host(host, begun);
        }
    }

    fn step_host(&mut self, host: HostId, begun: Duration) {
        let now = self.now;
        let own = &mut self.hosts[host.0];
        if own.frozen_until.is_some_and(|until| begun < until) {
            return;
        }
        if own.frozen_until.take().is_some() {
            self.peers.set_frozen(host, false);
        }
        if own.process.is_none() && own.starts_at.is_some_and(|at| at <= begun) {
            self.start(host);
        }
        let own = &mut self.hosts[host.0];
        let Some(process) = &mut own.process else { return };
        NOW.with_borrow_mut(|turn| {
            turn.0 = begun;
            turn.1.clone_from(&own.name);
        });
        let (missed, reached) = (begun.saturating_sub(process.reached), now.saturating_sub(begun));
        process.reached = now;
        process.runtime.block_on(async {
            if !missed.is_zero() {
                tokio::time::advance(missed).await;
            }
            tokio::time::sleep(reached).await;
        });
        if process.node.as_ref().is_some_and(JoinHandle::is_finished) {
            let node = process.node.take();
            let ended = process.runtime.block_on(async { node.expect("it was there").await });
            let said = match ended {
                Ok(Ok(())) => "stopped".to_owned(),
                Ok(Err(error)) => format!("ended: {error}"),
                Err(error) => format!("panicked: {error}"),
            };
            self.trace.note(now, &own.name, format_args!("{said}"));
            own.starts_at = own.starts_at.or(Some(now + RESTART_AFTER));
            self.end(host, false);
        }
    }
}
