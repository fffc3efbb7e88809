//! One run: the world of a plan, its faults and clients, and the checks.
//!
//! ```text
//! tenants written ─▶ nodes start ─▶ operations and faults until run_ms ─▶ everything mended, at rest ─▶ last look ─▶ checks
//! ```
//! Invariants: `RUN-1` a process makes one run: `determinism` says why; `RUN-2` a run ends: whatever has not come to rest in
//! time is a violation of `PROGRESS`.

use crate::check::commits::{CommitChecks, Found};
use crate::check::{Violation, answers, rows};
use crate::determinism;
use crate::plan::{Behaviour, DAY, Fault, FaultKind, Plan, RETENTION};
use crate::trace::Trace;
use crate::workload::clients::Clients;
use crate::workload::history::History;
use crate::workload::receivers::{self, Behaviours, Receiver};
use crate::workload::setup;
use crate::world::peers::Weather;
use crate::world::{HostId, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Timestamp;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};

/// After everything was mended, leases end and webhooks are tried again for so long.
const REST: Duration = Duration::from_millis(4_200);
const REST_STEP: Duration = Duration::from_millis(10);
/// After that everything has to be looked at within this time.
const LAST_LOOK: Duration = Duration::from_secs(20);
/// Nobody does anything for so long after it was due, at rest.
const OVERDUE: Duration = Duration::from_millis(1_100);
/// The sweeper has been there within this time, at rest.
const SWEPT: Duration = Duration::from_millis(3_000);
/// How often it comes where days pass.
const SWEEP_INTERVAL_MS: u64 = 1_500;
/// Tenants that are looked at in the end, at most.
const LOOKED_AT_MAX: usize = 40;

/// What a run gave.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// How often each kind of fault has come.
    pub fired: BTreeMap<&'static str, u64>,
    /// The digest of the trace, and how many events it is of.
    pub digest: (u64, u64),
    /// The simulated time.
    pub simulated: Duration,
    /// How many operations there were.
    pub operations: usize,
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs a plan.
///
/// # Errors
/// What is wrong with it.
pub fn run(plan: &Plan, trace: &Trace) -> Result<Outcome, String> {
    determinism::begin(plan.seed);
    std::panic::set_hook(Box::new(|panic| {
        PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
    }));
    let engine = SimulatedEngine::new(SimulatedOptions::new(plan.seed));
    let tenants = setup::tenants(plan, &engine)?;
    engine.set_options(calm(plan.seed));
    let found = Found::default();
    engine.observe(Box::new(CommitChecks::new(found.clone(), plan)));
    let mut running = Running::start(plan, engine, trace.clone(), tenants);
    running.live();
    let looked_at = running.looked_at();
    running.rest();
    let overdue =
        rows::overdue(&running.world.engine.dump(), running.latest_due(), &running.busy());
    let expired = if plan.days_pass() { running.expired() } else { Vec::new() };
    let is_at_rest = running.look(&looked_at);
    let mut violations = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    violations.extend(panics.into_iter().map(|panic| Violation::new("PANIC", panic)));
    if !is_at_rest {
        let account = format!(
            "not everything was answered {} s after everything was mended",
            LAST_LOOK.as_secs()
        );
        violations.push(Violation::new("PROGRESS", account));
    }
    violations.append(&mut running.broken_rows);
    violations.extend(overdue);
    violations.extend(expired);
    violations.extend(rows::check(&running.world.engine.dump()));
    let fired = running.fired();
    let history = running.history.lock();
    if is_at_rest {
        violations.extend(answers::check(plan, &history, &looked_at));
    }
    Ok(Outcome {
        violations,
        fired,
        digest: trace.digest(),
        simulated: running.world.now(),
        operations: history.entries.len(),
    })
}

/// The store without faults.
fn calm(seed: u64) -> SimulatedOptions {
    SimulatedOptions {
        latency_us_min: 200,
        latency_us_max: 2_500,
        late_commit_ms_max: 300,
        ..SimulatedOptions::new(seed)
    }
}

/// What a fault ends as.
enum End {
    Mend(HostId, HostId),
    Network,
    Weather,
    Store(fn(&mut SimulatedOptions)),
    Outage,
    Receiver(usize),
}

struct Running<'a> {
    plan: &'a Plan,
    world: World,
    outside: HostId,
    runtime: tokio::runtime::Handle,
    clients: Clients,
    behaviours: Behaviours,
    history: History,
    ends: Vec<(Duration, End)>,
    fired: BTreeMap<&'static str, u64>,
    broken_rows: Vec<Violation>,
}

impl<'a> Running<'a> {
    fn start(
        plan: &'a Plan,
        engine: SimulatedEngine,
        trace: Trace,
        tenants: Vec<setup::Tenant>,
    ) -> Self {
        let mut world = World::new(plan.seed, engine, options(plan), trace.clone());
        let (outside, runtime) = world.add_outside();
        for number in 0..plan.nodes {
            let node = world.add_node();
            let skew = plan.skew_ms.get(number).copied().unwrap_or(0);
            world.skew(node).store(skew, Ordering::SeqCst);
        }
        let (history, behaviours) = (History::default(), Behaviours::default());
        let entered = runtime.enter();
        let network = world.network.clone();
        let clients = Clients::new(
            (network.clone(), outside),
            world.nodes(),
            tenants,
            history.clone(),
            trace.clone(),
        );
        drop(entered);
        for tenant in plan.tenants - plan.pushed..plan.tenants {
            for number in 0..receivers::EACH {
                let (behaviours, history, base) =
                    (behaviours.clone(), history.clone(), clients.base());
                let receiver =
                    Receiver { tenant, number, behaviours, history, trace: trace.clone(), base };
                runtime.spawn(receiver.run(network.clone(), outside));
                runtime.spawn(clients.clone().subscribe(tenant, number));
            }
        }
        for operation in &plan.operations {
            runtime.spawn(clients.clone().operate(operation.clone()));
        }
        let (ends, fired) = (Vec::new(), BTreeMap::new());
        Self {
            plan,
            world,
            outside,
            runtime,
            clients,
            behaviours,
            history,
            ends,
            fired,
            broken_rows: Vec::new(),
        }
    }

    /// Until operations and faults end.
    fn live(&mut self) {
        let mut faults = self.plan.faults.iter().peekable();
        while self.world.now() < Duration::from_millis(self.plan.run_ms) {
            let now = self.world.now();
            while let Some(fault) =
                faults.next_if(|fault| Duration::from_millis(fault.at_ms) <= now)
            {
                self.begin(fault);
            }
            self.end_faults(now);
            self.world.step();
            if self.broken_rows.is_empty() && self.is_time_for_rows() {
                self.broken_rows = rows::check(&self.world.engine.dump());
            }
        }
    }

    /// The rows must be right at every moment; looking at all of them takes time.
    fn is_time_for_rows(&self) -> bool {
        let every_ms = if self.plan.tenants > 100 { 5_000 } else { 500 };
        self.world.now().as_millis().is_multiple_of(every_ms)
    }

    /// What is due before this must have been done when everything has come to rest.
    fn latest_due(&self) -> Timestamp {
        self.slowest_clock().minus(OVERDUE)
    }

    /// The events that the sweeper has left although their time is over.
    fn expired(&self) -> Vec<Violation> {
        rows::expired(&self.world.engine.dump(), self.slowest_clock().minus(RETENTION + SWEPT))
    }

    fn slowest_clock(&self) -> Timestamp {
        let skews =
            self.world.nodes().into_iter().map(|node| self.world.skew(node).load(Ordering::SeqCst));
        let now_ms = i64::try_from(self.world.now().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(
            determinism::EPOCH_MS.cast_signed() + now_ms + skews.min().unwrap_or(0),
        )
    }

    /// The tenants that have got webhooks a moment ago.
    fn busy(&self) -> BTreeSet<String> {
        let since = self.world.now().saturating_sub(OVERDUE);
        let history = self.history.lock();
        let recent = history.received.iter().filter(|received| received.at >= since);
        recent.map(|received| format!("t-{}", received.tenant)).collect()
    }

    /// The tenants that are looked at in the end.
    fn looked_at(&self) -> BTreeSet<usize> {
        let tenants: BTreeSet<usize> =
            self.plan.operations.iter().map(|operation| operation.tenant).collect();
        tenants.into_iter().take(LOOKED_AT_MAX).collect()
    }

    /// Mends everything, and waits.
    fn rest(&mut self) {
        self.end_faults(Duration::MAX);
        self.world.heal();
        let rested = self.world.now() + REST;
        while self.world.now() < rested {
            self.world.step_by(REST_STEP);
        }
    }

    /// Looks at what there is; whether all of it was answered.
    fn look(&mut self, looked_at: &BTreeSet<usize>) -> bool {
        let first = usize::try_from(self.plan.seed % 7).unwrap_or(0);
        // Also by the nodes that have come since.
        let clients = self.clients.with_nodes(self.world.nodes());
        let looks =
            looked_at.iter().map(|tenant| clients.clone().look_at_last(*tenant, first + tenant));
        let looks: Vec<_> = looks.map(|look| self.runtime.spawn(look)).collect();
        let end = self.world.now() + LAST_LOOK;
        while !looks.iter().all(JoinHandle::is_finished) && self.world.now() < end {
            self.world.step();
        }
        looks.iter().all(JoinHandle::is_finished)
    }

    fn end_faults(&mut self, now: Duration) {
        let (over, left) =
            std::mem::take(&mut self.ends).into_iter().partition(|(at, _)| *at <= now);
        self.ends = left;
        let over: Vec<(Duration, End)> = over;
        for (_, end) in over {
            self.end(end);
        }
    }

    fn end(&mut self, end: End) {
        match end {
            End::Mend(from, to) => self.world.network.set_cut(from, to, false),
            End::Network => self.world.network.set_steps_max(2),
            End::Weather => self.world.peers.set_weather(Weather::default()),
            End::Store(mend) => {
                let mut options = self.world.engine.options();
                mend(&mut options);
                self.world.engine.set_options(options);
            }
            End::Outage => {
                let is_another = self.ends.iter().any(|(_, end)| matches!(end, End::Outage));
                self.world.engine.set_outage(is_another);
            }
            End::Receiver(tenant) => self.behaviours.set(tenant, Behaviour::Well),
        }
    }

    fn node(&self, number: usize) -> HostId {
        let nodes = self.world.nodes();
        nodes[number.min(nodes.len() - 1)]
    }

    fn count(&mut self, name: &'static str) {
        *self.fired.entry(name).or_default() += 1;
    }

    fn begin(&mut self, fault: &Fault) {
        let now = self.world.now();
        self.world.trace.note(now, "fault", format_args!("{:?}", fault.kind));
        let after = |ms: u64| now + Duration::from_millis(ms);
        let back = |ms: u64| Some(Duration::from_millis(ms));
        match fault.kind {
            FaultKind::Kill { node, back_after_ms } => {
                self.count("kill");
                self.world.kill(self.node(node), false, back(back_after_ms));
            }
            FaultKind::PowerLoss { node, back_after_ms } => {
                self.count("power loss");
                self.world.kill(self.node(node), true, back(back_after_ms));
            }
            FaultKind::Freeze { node, for_ms } => {
                self.count("freeze");
                self.world.freeze(self.node(node), after(for_ms));
            }
            FaultKind::Restart { node } => {
                self.count("restart");
                self.world.stop(self.node(node), true);
            }
            FaultKind::ScaleIn { node } => {
                // The last one stays.
                if self.world.nodes().iter().filter(|node| self.world.is_up(**node)).count() > 2 {
                    self.count("scale in");
                    self.world.stop(self.node(node), false);
                }
            }
            FaultKind::ScaleOut {} => {
                self.count("scale out");
                self.world.add_node();
            }
            FaultKind::Partition { node, for_ms, is_one_way } => {
                self.count(if is_one_way { "partition one way" } else { "partition" });
                let node = self.node(node);
                for other in self.world.nodes().into_iter().filter(|other| *other != node) {
                    self.cut(other, node, after(for_ms));
                    if !is_one_way {
                        self.cut(node, other, after(for_ms));
                    }
                }
            }
            FaultKind::Unreachable { node, for_ms } => {
                self.count("unreachable");
                let (node, outside) = (self.node(node), self.outside);
                self.cut(outside, node, after(for_ms));
                self.cut(node, outside, after(for_ms));
            }
            FaultKind::SlowNetwork { steps_max, for_ms } => {
                self.count("slow network");
                self.world.network.set_steps_max(steps_max);
                self.ends.push((after(for_ms), End::Network));
            }
            FaultKind::PeerWeather { dropped, duplicated, delayed, for_ms } => {
                self.world.peers.set_weather(Weather { dropped, duplicated, delayed });
                self.ends.push((after(for_ms), End::Weather));
            }
            FaultKind::Outage { for_ms } => {
                self.world.engine.set_outage(true);
                self.ends.push((after(for_ms), End::Outage));
            }
            FaultKind::ClockJump { node, by_ms } => {
                self.count("clock jump");
                self.world.skew(self.node(node)).fetch_add(by_ms, Ordering::SeqCst);
            }
            FaultKind::DayPasses {} => {
                self.count("day passes");
                let day_ms = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
                for node in self.world.nodes() {
                    self.world.skew(node).fetch_add(day_ms, Ordering::SeqCst);
                }
            }
            FaultKind::Receiver { tenant, behaviour, for_ms } => {
                self.count(match behaviour {
                    Behaviour::Well => "receiver well",
                    Behaviour::Failing => "receiver failing",
                    Behaviour::Silent => "receiver silent",
                    Behaviour::Slow => "receiver slow",
                    Behaviour::Flapping => "receiver flapping",
                    Behaviour::Lying => "receiver lying",
                });
                self.behaviours.set(tenant, behaviour);
                self.ends.push((after(for_ms), End::Receiver(tenant)));
            }
            FaultKind::Conflicts { .. } | FaultKind::Unknown { .. } | FaultKind::Stalls { .. } => {
                self.begin_in_store(fault.kind);
            }
        }
    }

    fn begin_in_store(&mut self, kind: FaultKind) {
        let mut options = self.world.engine.options();
        let (for_ms, mend): (u64, fn(&mut SimulatedOptions)) = match kind {
            FaultKind::Conflicts { per_mille, for_ms } => {
                options.conflict_per_mille = per_mille;
                (for_ms, |options| options.conflict_per_mille = 0)
            }
            FaultKind::Unknown { committed, not_committed, late, for_ms } => {
                options.unknown_committed_per_mille = committed;
                options.unknown_not_committed_per_mille = not_committed;
                options.late_commit_per_mille = late;
                let mend = |options: &mut SimulatedOptions| {
                    options.unknown_committed_per_mille = 0;
                    options.unknown_not_committed_per_mille = 0;
                    options.late_commit_per_mille = 0;
                };
                (for_ms, mend)
            }
            FaultKind::Stalls { per_mille, stall_ms, for_ms } => {
                (options.stall_per_mille, options.stall_ms) = (per_mille, stall_ms);
                (for_ms, |options| options.stall_per_mille = 0)
            }
            _ => return,
        };
        self.world.engine.set_options(options);
        self.ends.push((self.world.now() + Duration::from_millis(for_ms), End::Store(mend)));
    }

    fn cut(&mut self, from: HostId, to: HostId, until: Duration) {
        self.world.network.set_cut(from, to, true);
        self.ends.push((until, End::Mend(from, to)));
    }

    /// How often each kind of fault has come.
    fn fired(&self) -> BTreeMap<&'static str, u64> {
        let (store, weather) = (self.world.engine.faults_fired(), self.world.peers.fired());
        let given_up = self
            .plan
            .operations
            .iter()
            .filter(|operation| operation.disconnects_after_ms.is_some())
            .count();
        let over_quota =
            self.history.lock().entries.iter().filter(|entry| entry.status == Some(429)).count();
        let revoked =
            self.history.lock().entries.iter().filter(|entry| entry.status == Some(401)).count();
        let skewed = self.plan.skew_ms.iter().filter(|skew| **skew != 0).count();
        let mut fired = self.fired.clone();
        fired.extend([
            ("conflict", store.conflicts),
            ("unknown, committed", store.unknown_committed),
            ("unknown, not committed", store.unknown_not_committed),
            ("late commit applied", store.late_applied),
            ("late commit dropped", store.late_dropped),
            ("store stall", store.stalls),
            ("store outage", store.outage_rejections),
            ("message dropped", weather.dropped),
            ("message duplicated", weather.duplicated),
            ("message delayed", weather.delayed),
            ("clock skew", skewed as u64),
            ("client gives up", given_up as u64),
            ("quota full", over_quota as u64),
            ("key revoked", revoked as u64),
        ]);
        fired.retain(|_, count| *count > 0);
        fired
    }
}

/// The options of the nodes: small limits, so that edges are met.
fn options(plan: &Plan) -> NodeOptions {
    let mut options = NodeOptions::simulation();
    options.node.partitions = plan.partitions;
    options.listen.connections_max = 2_000;
    options.listen.connections_per_address_max = 2_000;
    options.limits.page_events_max = 50;
    if plan.days_pass() {
        options.broker.sweep_interval_ms = SWEEP_INTERVAL_MS;
    }
    // Otherwise a probe a second is all that a dead receiver gets.
    options.delivery.breaker_pause_ms_max = 100;
    options.delivery.is_https_required = false;
    options.delivery.allowed_targets = vec!["10.0.0.0/8".to_owned()];
    options
}
