//! Simulated hosts and time. Time goes in steps; in each step the runtime of every host runs in
//! turn, on one thread.
//!
//! ```text
//! step: deliver due packets ─▶ host 0: its runtime, clock paused, runs one step ─▶ host 1 ─▶ …
//! ```
//! Each host is a tokio runtime with a paused clock. A crash drops the runtime with all its tasks.
//! A frozen host does not run, and its clock jumps when it resumes, as after SIGSTOP and SIGCONT.
//! Invariants: `WORLD-1` an effect of one host on another takes place in a later step; `WORLD-2`
//! hosts run in the same order in every step; `WORLD-3` a process that was killed, or whose machine
//! lost power, sends nothing more.

pub mod http;
pub mod network;
pub mod node;
pub mod peers;

use crate::determinism;
use crate::plan::Plan;
use crate::trace::Trace;
use network::Network;
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

/// Length of a step, which is the lowest latency of the network.
pub const STEP: Duration = Duration::from_millis(2);
/// Delay before a process that ended by itself starts again, as under a service manager.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// A host's number, from which its address is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

thread_local! {
    static CURRENT: RefCell<(Duration, String)> =
        const { RefCell::new((Duration::ZERO, String::new())) };
}

/// The simulated time and the name of the host that runs now, for log lines.
pub fn current_host() -> (Duration, String) {
    CURRENT.with_borrow(Clone::clone)
}

/// All hosts, and what they share.
pub struct World {
    seed: u64,
    pub network: Network,
    pub peers: PeerNetwork,
    pub engine: SimulatedEngine,
    pub trace: Trace,
    options: NodeOptions,
    clock_step_ms: u64,
    hosts: Vec<Host>,
    now: Duration,
}

struct Host {
    name: String,
    process: Option<Process>,
    boots: u32,
    skew_ms: Arc<AtomicI64>,
    frozen_until: Option<Duration>,
    /// Time at which the process starts again; `Duration::MAX` if it never does.
    starts_at: Option<Duration>,
    /// Distinguishes nodes from the host of clients and webhook receivers.
    is_node: bool,
}

struct Process {
    runtime: Runtime,
    /// Simulated time up to which the runtime has run.
    reached: Duration,
    node: Option<JoinHandle<Result<(), String>>>,
    stop: watch::Sender<bool>,
}

impl World {
    pub fn new(plan: &Plan, engine: SimulatedEngine, options: NodeOptions, trace: Trace) -> Self {
        let network = Network::new(plan.seed, STEP, 2, trace.clone());
        let peers =
            PeerNetwork::new(plan.seed, plan.late_links_ms_max, network.clone(), trace.clone());
        Self {
            seed: plan.seed,
            network,
            peers,
            engine,
            trace,
            options,
            clock_step_ms: plan.clock_step_ms,
            hosts: Vec::new(),
            now: Duration::ZERO,
        }
    }

    /// Simulated time since the run began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Adds a host for clients and receivers; the caller spawns tasks in its runtime.
    pub fn add_outside(&mut self) -> (HostId, tokio::runtime::Handle) {
        let host = self.add("outside".to_owned(), false);
        let process = self.process(host);
        let runtime = process.runtime.handle().clone();
        self.hosts[host.0].process = Some(process);
        (host, runtime)
    }

    /// Adds the host of a node and starts its process.
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

    pub fn nodes(&self) -> Vec<HostId> {
        (0..self.hosts.len()).map(HostId).filter(|host| self.hosts[host.0].is_node).collect()
    }

    /// Whether the host's process exists and is not frozen.
    pub fn is_up(&self, host: HostId) -> bool {
        self.hosts[host.0].process.is_some() && self.hosts[host.0].frozen_until.is_none()
    }

    pub fn name(&self, host: HostId) -> &str {
        &self.hosts[host.0].name
    }

    /// The skew of a host's wall clock, in milliseconds.
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

    /// Starts a node's process, unless it runs already.
    pub fn start(&mut self, host: HostId) {
        self.hosts[host.0].starts_at = None;
        if self.hosts[host.0].process.is_some() {
            return;
        }
        let mut process = self.process(host);
        let Host { name, boots, skew_ms, .. } = &self.hosts[host.0];
        let random = Stream::new(self.seed, 1_000 * (host.0 as u64 + 1) + u64::from(*boots));
        let environment = node::environment(self.now, skew_ms.clone(), self.clock_step_ms, random);
        self.trace.note(self.now, name, format_args!("starts"));
        let mut options = self.options.clone();
        options.node.name.clone_from(name);
        let (engine, peers) = (self.engine.clone(), self.peers.clone());
        let stop = process.stop.subscribe();
        let node = node::run(host, options, engine, environment, peers, stop);
        process.node = Some(process.runtime.spawn(node));
        self.hosts[host.0].process = Some(process);
    }

    /// Kills a process; it starts again after `restart_after`, or not at all if there is none.
    pub fn kill(&mut self, host: HostId, is_power_lost: bool, restart_after: Option<Duration>) {
        let text = format_args!("is killed, power lost: {is_power_lost}");
        self.trace.note(self.now, self.name(host), text);
        self.end(host, is_power_lost);
        self.hosts[host.0].starts_at = restart_after.map(|after| self.now + after);
    }

    fn end(&mut self, host: HostId, is_power_lost: bool) {
        self.hosts[host.0].frozen_until = None;
        self.peers.set_frozen(host, false);
        let Some(process) = self.hosts[host.0].process.take() else { return };
        // Before the runtime is dropped, so that dropped connections send nothing (`WORLD-3`).
        self.network.process_ended(host, is_power_lost);
        self.peers.process_ended(host);
        drop(process);
    }

    /// Asks a node to stop, as SIGTERM does. With `is_started_again` it starts again afterwards.
    pub fn stop(&mut self, host: HostId, is_started_again: bool) {
        self.trace.note(self.now, self.name(host), format_args!("is asked to stop"));
        if let Some(process) = &self.hosts[host.0].process {
            process.stop.send_replace(true);
        }
        self.hosts[host.0].starts_at = (!is_started_again).then_some(Duration::MAX);
    }

    pub fn freeze(&mut self, host: HostId, until: Duration) {
        self.trace.note(self.now, self.name(host), format_args!("freezes until {until:?}"));
        if self.hosts[host.0].process.is_some() {
            self.hosts[host.0].frozen_until = Some(until);
            self.peers.set_frozen(host, true);
        }
    }

    /// Resumes and starts all nodes, except those that were stopped for good.
    pub fn heal(&mut self) {
        self.peers.heal();
        for host in self.nodes() {
            if let Some(until) = &mut self.hosts[host.0].frozen_until {
                *until = self.now;
            }
            if self.hosts[host.0].starts_at != Some(Duration::MAX) {
                self.start(host);
            }
        }
    }

    pub fn step(&mut self) {
        self.step_by(STEP);
    }

    /// Runs one longer step, for phases in which latencies do not matter.
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
        CURRENT.with_borrow_mut(|current| {
            current.0 = begun;
            current.1.clone_from(&own.name);
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
            let result = match process.runtime.block_on(node.expect("checked to be there")) {
                Ok(Ok(())) => "stopped".to_owned(),
                Ok(Err(error)) => format!("ended: {error}"),
                Err(error) => format!("panicked: {error}"),
            };
            self.trace.note(now, &own.name, format_args!("{result}"));
            own.starts_at = own.starts_at.or(Some(now + RESTART_AFTER));
            self.end(host, false);
        }
    }
}
