//! One run: simulates the cluster of a plan with its faults and clients, then checks the results.
//!
//! ```text
//! write tenants ─▶ start nodes ─▶ operations and faults until run_ms ─▶ repair everything
//!   ─▶ quiesce ─▶ final check of every tenant ─▶ check rows and answers
//! ```
//! Invariants: `RUN-1` a process makes one run, for the reasons in [`crate::determinism`]; `RUN-2`
//! a run ends: clients that are not answered in time after the repair violate the rule `PROGRESS`.

mod faults;

use crate::check::commits::{CommitChecks, SharedViolations};
use crate::check::{Violation, answers, rows};
use crate::determinism;
use crate::plan::{Fault, Plan, RETENTION};
use crate::trace::{Trace, TraceDigest};
use crate::workload::clients::Clients;
use crate::workload::history::SharedHistory;
use crate::workload::receivers::{self, Behaviours, Receiver};
use crate::workload::setup::{self, SimulatedTenant};
use crate::world::{HostId, World};
use faults::Recovery;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use triggers_cluster_config::NodeOptions;
use triggers_protocol::Timestamp;
use triggers_protocol::lock::lock;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};

/// Time between the repair and the final check, in which leases end and webhooks are retried.
const QUIESCE: Duration = Duration::from_millis(4_200);
/// The same if connections may wait until their node has its links: longer than a client waits.
const QUIESCE_LATE_LINKS: Duration = Duration::from_millis(5_700);
const QUIESCE_STEP: Duration = Duration::from_millis(10);
/// Upper bound on the length of the final check.
const FINAL_CHECK_MAX: Duration = Duration::from_secs(20);
/// Upper bound on how late due work may run once faults have stopped, without the store's latency.
const OVERDUE: Duration = Duration::from_millis(900);
/// Calls to the store that precede due work when its partition has just moved.
const CALLS_BEFORE_DUE_WORK: u32 = 80;
/// Upper bound on how late the sweeper may remove an expired event once faults have stopped.
const SWEPT: Duration = Duration::from_millis(3_000);
/// Interval of the sweeper in plans with expiry.
const SWEEP_INTERVAL_MS: u64 = 1_500;
/// Upper bound on the tenants in the final check.
const CHECKED_TENANTS_MAX: usize = 40;

/// The result of a run.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    pub violations: Vec<Violation>,
    pub fired: BTreeMap<&'static str, u64>,
    pub digest: TraceDigest,
    pub simulated: Duration,
    pub operations: usize,
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs a plan. A process may call this once (`RUN-1`). An error says that the tenants cannot be
/// written.
pub fn run(plan: &Plan, trace: &Trace) -> Result<RunOutcome, String> {
    determinism::begin(plan.seed);
    std::panic::set_hook(Box::new(|panic| {
        lock(&PANICS).push(panic.to_string());
    }));
    let engine = SimulatedEngine::new(SimulatedOptions::new(plan.seed));
    let tenants = setup::tenants(plan, &engine)?;
    engine.set_options(store_without_faults(plan));
    let found = SharedViolations::default();
    engine.observe(Box::new(CommitChecks::new(found.clone(), plan)));
    let mut simulation = Simulation::start(plan, engine, trace.clone(), tenants);
    simulation.run_plan();
    let with_operations: BTreeSet<usize> =
        plan.operations.iter().map(|operation| operation.tenant).collect();
    let checked_tenants = with_operations.into_iter().take(CHECKED_TENANTS_MAX).collect();
    simulation.quiesce();
    let (rows, clock) = (simulation.world.engine.dump(), simulation.slowest_clock());
    let mut late = rows::overdue(&rows, clock.minus(overdue(plan)), &simulation.busy());
    if plan.has_expiry() {
        late.extend(rows::expired(&rows, clock.minus(RETENTION + SWEPT)));
    }
    let is_answered = simulation.final_check(&checked_tenants);
    let mut violations = lock(&found).clone();
    let panics = lock(&PANICS).clone();
    violations.extend(panics.into_iter().map(|panic| Violation::new("PANIC", panic)));
    if !is_answered {
        let details = format!("no answer to the final check within {FINAL_CHECK_MAX:?}");
        violations.push(Violation::new("PROGRESS", details));
    }
    violations.append(&mut simulation.row_violations);
    violations.extend(late);
    violations.extend(rows::check(&simulation.world.engine.dump()));
    let fired = simulation.fired();
    let history = simulation.history.lock();
    if is_answered {
        violations.extend(answers::check(plan, &history, &checked_tenants));
    }
    Ok(RunOutcome {
        violations,
        fired,
        digest: trace.digest(),
        simulated: simulation.world.now(),
        operations: history.calls.len(),
    })
}

/// Upper bound on how late due work may run once faults have stopped.
fn overdue(plan: &Plan) -> Duration {
    OVERDUE + Duration::from_micros(plan.store_latency_us_max) * CALLS_BEFORE_DUE_WORK
}

fn store_without_faults(plan: &Plan) -> SimulatedOptions {
    SimulatedOptions {
        latency_us_min: 200,
        latency_us_max: plan.store_latency_us_max,
        late_commit_ms_max: 300,
        ..SimulatedOptions::new(plan.seed)
    }
}

struct Simulation<'a> {
    plan: &'a Plan,
    world: World,
    /// Host of clients and webhook receivers.
    outside: HostId,
    runtime: tokio::runtime::Handle,
    clients: Clients,
    behaviours: Behaviours,
    history: SharedHistory,
    /// The ends of the faults that are active, with their times.
    recoveries: Vec<(Duration, Recovery)>,
    fired: BTreeMap<&'static str, u64>,
    /// The sum of the large steps of each node's wall clock, which due times must not follow.
    stepped_ms: BTreeMap<HostId, i64>,
    row_violations: Vec<Violation>,
}

impl<'a> Simulation<'a> {
    fn start(
        plan: &'a Plan,
        engine: SimulatedEngine,
        trace: Trace,
        tenants: Vec<SimulatedTenant>,
    ) -> Self {
        let mut world = World::new(plan, engine, options(plan), trace.clone());
        let (outside, runtime) = world.add_outside();
        for number in 0..plan.nodes {
            let node = world.add_node();
            let skew = plan.skew_ms.get(number).copied().unwrap_or(0);
            world.skew(node).store(skew, Ordering::SeqCst);
        }
        let (history, behaviours) = (SharedHistory::default(), Behaviours::default());
        let network = world.network.clone();
        let clients = {
            let _entered = runtime.enter();
            let (network, history, trace) = (network.clone(), history.clone(), trace.clone());
            Clients::new(network, outside, world.nodes(), tenants, history, trace)
        };
        for tenant in (0..plan.tenants).filter(|tenant| plan.is_subscribed(*tenant)) {
            for number in 0..receivers::RECEIVERS_PER_TENANT {
                let receiver = Receiver {
                    tenant,
                    number,
                    behaviours: behaviours.clone(),
                    history: history.clone(),
                    trace: trace.clone(),
                    base: clients.base(),
                };
                runtime.spawn(receiver.run(network.clone(), outside));
                runtime.spawn(clients.clone().subscribe(tenant, number));
            }
        }
        for operation in &plan.operations {
            runtime.spawn(clients.clone().run_operation(operation.clone()));
        }
        Self {
            plan,
            world,
            outside,
            runtime,
            clients,
            behaviours,
            history,
            recoveries: Vec::new(),
            fired: BTreeMap::new(),
            stepped_ms: BTreeMap::new(),
            row_violations: Vec::new(),
        }
    }

    /// Runs until the operations and faults of the plan end.
    fn run_plan(&mut self) {
        let mut faults = self.plan.faults.iter().peekable();
        while self.world.now() < Duration::from_millis(self.plan.run_ms) {
            let now = self.world.now();
            let is_due = |fault: &&Fault| Duration::from_millis(fault.at_ms) <= now;
            while let Some(fault) = faults.next_if(is_due) {
                self.begin_fault(fault);
            }
            self.end_faults(now);
            self.world.step();
            if self.row_violations.is_empty() && self.is_time_to_check_rows() {
                self.row_violations = rows::check(&self.world.engine.dump());
            }
        }
    }

    /// The rows must be right at every moment, but a check of all of them takes real time.
    fn is_time_to_check_rows(&self) -> bool {
        let every_ms = if self.plan.tenants > 100 { 5_000 } else { 500 };
        self.world.now().as_millis().is_multiple_of(every_ms)
    }

    /// Lower bound on the time that each node compares due times with.
    fn slowest_clock(&self) -> Timestamp {
        let skew_ms = |node| {
            let stepped_ms = self.stepped_ms.get(&node).copied().unwrap_or(0);
            self.world.skew(node).load(Ordering::SeqCst) - stepped_ms
        };
        // After a step back these times lose two seconds of a hundred.
        let slew = if self.plan.has_clock_steps() { self.world.now() / 50 } else { Duration::ZERO };
        let skew_ms = self.world.nodes().into_iter().map(skew_ms).min().unwrap_or(0);
        Timestamp::from_millis(determinism::EPOCH_MS.cast_signed() + skew_ms)
            .plus(self.world.now())
            .minus(Duration::from_millis(self.plan.clock_step_ms) + slew)
    }

    /// Tenants that received webhooks just now, so that a backlog may be left.
    fn busy(&self) -> BTreeSet<String> {
        let since = self.world.now().saturating_sub(overdue(self.plan));
        let history = self.history.lock();
        let recent = history.received.iter().filter(|received| received.at >= since);
        recent.map(|received| format!("t-{}", received.tenant)).collect()
    }

    /// Ends all faults, then waits until the cluster has had time to catch up.
    fn quiesce(&mut self) {
        self.end_faults(Duration::MAX);
        self.world.heal();
        let wait = if self.plan.late_links_ms_max > 0 { QUIESCE_LATE_LINKS } else { QUIESCE };
        let end = self.world.now() + wait;
        while self.world.now() < end {
            self.world.step_by(QUIESCE_STEP);
        }
    }

    /// Lets clients read everything that their tenants have. False if that was not answered in
    /// time.
    fn final_check(&mut self, tenants: &BTreeSet<usize>) -> bool {
        let first = usize::try_from(self.plan.seed % 7).unwrap_or(0);
        // Clients now also know the nodes that joined during the run.
        let clients = self.clients.with_nodes(self.world.nodes());
        let check = |tenant: &usize| clients.clone().final_check(*tenant, first + tenant);
        let checks: Vec<_> =
            tenants.iter().map(|tenant| self.runtime.spawn(check(tenant))).collect();
        let end = self.world.now() + FINAL_CHECK_MAX;
        while !checks.iter().all(JoinHandle::is_finished) && self.world.now() < end {
            self.world.step();
        }
        checks.iter().all(JoinHandle::is_finished)
    }
}

/// The options of the nodes: small limits, so that runs reach them.
fn options(plan: &Plan) -> NodeOptions {
    let mut options = NodeOptions::simulation();
    options.node.partitions = plan.partitions;
    options.listen.connections_max = 2_000;
    options.listen.connections_per_address_max = 2_000;
    options.limits.page_events_max = 50;
    if plan.has_expiry() {
        options.broker.sweep_interval_ms = SWEEP_INTERVAL_MS;
    }
    if plan.has_clock_steps() {
        // Longer than the steps ahead, after which a key or a failing endpoint could be given up.
        options.broker.idempotency_retention_seconds = 86_400;
        options.delivery.disable_after_seconds = 86_400;
    }
    // With the default, a dead receiver would only get one probe per second.
    options.delivery.breaker_pause_ms_max = 100;
    options.delivery.is_https_required = false;
    options.delivery.allowed_targets = vec!["10.0.0.0/8".to_owned()];
    options
}
