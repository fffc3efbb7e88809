//! Generates the plan of a scenario and a seed.
//!
//! Invariant: `GENERATE-1` operations and faults are drawn from separate streams, so that a change
//! of one does not shift the other.

use super::scenario::{FaultName, OperationName, Scenario};
use super::{
    Behaviour, Fault, FaultKind, HOUR_MS, LeaseAction, Operation, OperationKind, Plan, TEN_YEARS_MS,
};
use std::collections::BTreeMap;
use triggers_protocol::EventStatus;
use triggers_store::kv::simulated::Stream;

/// Operations and faults begin after this time, in which the nodes start.
const BEGIN_MS: u64 = 400;
/// Least time between two days that pass: several heartbeats.
const DAYS_APART_MS: u64 = 400;
/// Share of the plans in which receivers hang up.
const HANG_UPS_PER_MILLE: u32 = 400;
/// Share of the operations that two clients send at the same time.
const DOUBLED_PER_MILLE: u32 = 100;
/// Share of the plans with recoveries of subscriptions.
const RECOVERIES_PER_MILLE: u32 = 300;
/// Maximum recoveries of one plan.
const RECOVERIES_MAX: u64 = 4;
/// Number of operations for each lease with a filter.
const OPERATIONS_PER_FILTERED_LEASE: u64 = 8;
/// Number of operations for each change of a whole lease.
const OPERATIONS_PER_LEASE_CHANGE: u64 = 10;
/// The behaviours that the fault `receiver` draws from.
const BEHAVIOURS: [Behaviour; 5] = {
    use Behaviour::{Aborting, Failing, Flapping, Silent, Slow};
    [Failing, Silent, Slow, Flapping, Aborting]
};

/// Generates the plan of a seed; an error says that the scenario is unknown or malformed.
pub fn generate(name: &str, seed: u64) -> Result<Plan, String> {
    let scenario = Scenario::load(name)?;
    let mut clocks = Stream::new(seed, 203);
    let mut faults = faults(&scenario, &mut Stream::new(seed, 202), &mut Stream::new(seed, 219));
    faults.extend(node_limits(&scenario, &mut Stream::new(seed, 210)));
    faults.extend(clock_steps(&scenario, &mut Stream::new(seed, 205)));
    faults.sort_by_key(|fault| fault.at_ms);
    let mut plan = Plan {
        scenario: name.to_owned(),
        seed,
        nodes: scenario.nodes,
        partitions: 8,
        tenants: scenario.tenants,
        subscribed_tenants: scenario.subscribed_tenants,
        quota: scenario.quota,
        run_ms: scenario.run_ms,
        clock_step_ms: scenario.clock_step_ms.max(1),
        store_latency_us_max: scenario.store_latency_us_max,
        late_links_ms_max: scenario.late_links_ms_max,
        skew_ms: (0..scenario.nodes).map(|_| skew_ms(&scenario, &mut clocks)).collect(),
        faults,
        operations: operations(&scenario, seed),
    };
    add_hog(&mut plan, &scenario, &mut Stream::new(seed, 217));
    Ok(plan)
}

/// Adds a silent receiver, and events that would take all places for webhooks if it could.
fn add_hog(plan: &mut Plan, scenario: &Scenario, stream: &mut Stream) {
    if !stream.hit(scenario.hog_per_mille) {
        return;
    }
    let tenant = scenario.tenants - 1 - index_below(stream, scenario.subscribed_tenants.max(1));
    let begin_ms = between(stream, 1_500, scenario.run_ms.saturating_sub(2_500));
    let kind = FaultKind::Receiver { tenant, behaviour: Behaviour::Silent, for_ms: 1_500 };
    plan.faults.push(Fault { at_ms: begin_ms, kind });
    plan.faults.sort_by_key(|fault| fault.at_ms);
    for (number, after_ms) in (scenario.operations..).zip([0, 350, 400, 450, 500, 550]) {
        let kind = match after_ms {
            0 => OperationKind::SendBatch { count: 4 },
            _ => OperationKind::Send { has_key: false, bytes: 50 },
        };
        plan.operations.push(Operation {
            at_ms: begin_ms + after_ms,
            number,
            tenant,
            node: index_below(stream, scenario.nodes),
            pick: stream.next(),
            disconnects_after_ms: None,
            is_doubled: false,
            kind,
        });
    }
    plan.operations.sort_by_key(|operation| operation.at_ms);
}

/// Draws one of the names by its weight; none if all weights are 0.
fn choose<T: Copy>(weights: &BTreeMap<T, u64>, stream: &mut Stream) -> Option<T> {
    let total: u64 = weights.values().sum();
    let mut left = stream.below(total.max(1));
    for (name, weight) in weights {
        if left < *weight {
            return Some(*name);
        }
        left -= weight;
    }
    None
}

fn between(stream: &mut Stream, low: u64, high: u64) -> u64 {
    low + stream.below(high.saturating_sub(low) + 1)
}

fn index_below(stream: &mut Stream, bound: usize) -> usize {
    usize::try_from(stream.below(bound as u64)).unwrap_or(0)
}

fn skew_ms(scenario: &Scenario, stream: &mut Stream) -> i64 {
    let span = 2 * scenario.skew_ms_max + 1;
    stream.below(span).cast_signed() - scenario.skew_ms_max.cast_signed()
}

fn faults(scenario: &Scenario, stream: &mut Stream, hang_ups: &mut Stream) -> Vec<Fault> {
    let count = between(stream, scenario.faults_min, scenario.faults_max);
    let mut faults = Vec::new();
    if scenario.slow_receivers {
        for tenant in scenario.tenants - scenario.subscribed_tenants..scenario.tenants {
            let kind =
                FaultKind::Receiver { tenant, behaviour: Behaviour::Slow, for_ms: scenario.run_ms };
            faults.push(Fault { at_ms: 0, kind });
        }
    }
    for _ in 0..count {
        let at_ms = between(stream, BEGIN_MS, scenario.run_ms.saturating_sub(200).max(BEGIN_MS));
        let Some(name) = choose(&scenario.faults, stream) else { break };
        let kind = fault(name, scenario, stream);
        // A dead receiver dies early, so that every attempt at an event fails.
        let is_early = name == FaultName::DeadReceiver;
        let at_ms = if is_early { BEGIN_MS + at_ms % 1_000 } else { at_ms };
        faults.push(Fault { at_ms, kind });
    }
    if scenario.subscribed_tenants > 0 && hang_ups.hit(HANG_UPS_PER_MILLE) {
        let tenant = scenario.tenants - 1 - index_below(hang_ups, scenario.subscribed_tenants);
        let at_ms = between(hang_ups, BEGIN_MS, scenario.run_ms.max(BEGIN_MS));
        let kind = FaultKind::HangUps { tenant, for_ms: between(hang_ups, 500, 5_000) };
        faults.push(Fault { at_ms, kind });
    }
    faults.sort_by_key(|fault| fault.at_ms);
    space_days(&mut faults);
    faults
}

/// Removes days that pass so soon after another that a node would see one step of several days,
/// which it does not believe for a while.
fn space_days(faults: &mut Vec<Fault>) {
    let mut last_ms = None;
    faults.retain(|fault| {
        let is_day = fault.kind == FaultKind::DayPasses {};
        let is_near = last_ms.is_some_and(|last| fault.at_ms < last + DAYS_APART_MS);
        if is_day && !is_near {
            last_ms = Some(fault.at_ms);
        }
        !is_day || !is_near
    });
}

/// Begins early, when nodes have no open connection to receivers yet.
fn node_limits(scenario: &Scenario, stream: &mut Stream) -> Vec<Fault> {
    let count = between(stream, 0, scenario.node_limits_max);
    let limit = |_| {
        let at_ms = BEGIN_MS + stream.below(1_000);
        let (node, for_ms) = (index_below(stream, scenario.nodes), between(stream, 500, 7_000));
        Fault { at_ms, kind: FaultKind::NodeLimit { node, for_ms } }
    };
    (0..count).map(limit).collect()
}

fn clock_steps(scenario: &Scenario, stream: &mut Stream) -> Vec<Fault> {
    let count = match scenario.clock_steps_max {
        0 => 0,
        max => between(stream, 1, max),
    };
    let mut step = || {
        let at_ms = between(stream, BEGIN_MS, scenario.run_ms.saturating_sub(200).max(BEGIN_MS));
        let node = index_below(stream, scenario.nodes);
        let node = (!stream.hit(500)).then_some(node);
        let passes_ms = between(stream, 100, 1_500);
        let (by_ms, for_ms) = match stream.below(4) {
            0 => (HOUR_MS, None),
            1 => (TEN_YEARS_MS, Some(passes_ms)),
            _ => (-HOUR_MS, None),
        };
        Fault { at_ms, kind: FaultKind::ClockStep { node, by_ms, for_ms } }
    };
    (0..count).map(|_| step()).collect()
}

fn fault(name: FaultName, scenario: &Scenario, stream: &mut Stream) -> FaultKind {
    // Every kind draws all of these, so that a plan keeps its shape when weights change.
    let node = index_below(stream, scenario.nodes);
    let for_ms = between(stream, 50, 1_500);
    let per_mille = u32::try_from(between(stream, 20, 400)).unwrap_or(0);
    let coin = stream.hit(500);
    let tenant = scenario.tenants - 1 - index_below(stream, scenario.subscribed_tenants.max(1));
    let pick = index_below(stream, BEHAVIOURS.len());
    let by_ms = skew_ms(scenario, stream);
    match name {
        FaultName::Kill => FaultKind::Kill { node, back_after_ms: for_ms },
        FaultName::PowerLoss => FaultKind::PowerLoss { node, back_after_ms: for_ms * 2 },
        FaultName::Freeze => FaultKind::Freeze { node, for_ms: for_ms * 2 },
        FaultName::Restart => FaultKind::Restart { node },
        FaultName::ScaleIn => FaultKind::ScaleIn { node },
        FaultName::ScaleOut => FaultKind::ScaleOut {},
        FaultName::Partition => FaultKind::Partition { node, for_ms, is_one_way: coin },
        FaultName::Unreachable => FaultKind::Unreachable { node, for_ms },
        FaultName::SlowNetwork => {
            FaultKind::SlowNetwork { steps_max: 4 + u64::from(per_mille) / 10, for_ms }
        }
        FaultName::PeerMessages => {
            let (dropped, duplicated, delayed) = (per_mille / 2, per_mille, per_mille);
            FaultKind::PeerMessages { dropped, duplicated, delayed, for_ms }
        }
        FaultName::Conflicts => FaultKind::Conflicts { per_mille, for_ms },
        FaultName::Unknown => {
            let (committed, not_committed, late) = (per_mille / 2, per_mille / 3, per_mille / 2);
            FaultKind::Unknown { committed, not_committed, late, for_ms }
        }
        FaultName::Stalls => {
            let stall_ms = between(stream, 20, 600);
            FaultKind::Stalls { per_mille: per_mille / 4, stall_ms, for_ms }
        }
        FaultName::Outage => FaultKind::Outage { for_ms },
        FaultName::LongOutage => FaultKind::Outage { for_ms: for_ms * 4 },
        FaultName::ClockJump => FaultKind::ClockJump { node, by_ms },
        FaultName::DayPasses => FaultKind::DayPasses {},
        FaultName::DeadReceiver => {
            FaultKind::Receiver { tenant, behaviour: Behaviour::Failing, for_ms: 60_000 }
        }
        FaultName::Receiver => {
            FaultKind::Receiver { tenant, behaviour: BEHAVIOURS[pick], for_ms: for_ms * 2 }
        }
    }
}

fn operations(scenario: &Scenario, seed: u64) -> Vec<Operation> {
    let mut operations = drawn(scenario, &mut Stream::new(seed, 201), &mut Stream::new(seed, 204));
    if scenario.mix.contains_key(&OperationName::Lease) {
        operations.extend(filtered_leases(scenario, &mut Stream::new(seed, 251)));
        operations.extend(lease_changes(scenario, &mut Stream::new(seed, 263)));
    }
    operations.extend(recoveries(scenario, &mut Stream::new(seed, 231)));
    operations.sort_by_key(|operation| operation.at_ms);
    operations
}

/// Leases with a filter, one for every [`OPERATIONS_PER_FILTERED_LEASE`] operations.
fn filtered_leases(scenario: &Scenario, stream: &mut Stream) -> Vec<Operation> {
    let lease = |number| Operation {
        at_ms: between(stream, BEGIN_MS, scenario.run_ms.max(BEGIN_MS)),
        number: scenario.operations + number,
        tenant: index_below(stream, (scenario.tenants - scenario.subscribed_tenants).max(1)),
        node: index_below(stream, scenario.nodes),
        pick: 0,
        disconnects_after_ms: None,
        is_doubled: false,
        kind: OperationKind::FilteredLease {
            event_type: stream.below(3),
            visibility_seconds: between(stream, 1, 3),
        },
    };
    (0..scenario.operations / OPERATIONS_PER_FILTERED_LEASE).map(lease).collect()
}

/// Changes of whole leases, one for every [`OPERATIONS_PER_LEASE_CHANGE`] operations.
fn lease_changes(scenario: &Scenario, stream: &mut Stream) -> Vec<Operation> {
    let change = |number| Operation {
        at_ms: between(stream, BEGIN_MS, scenario.run_ms.max(BEGIN_MS)),
        number: scenario.operations + 200 + number,
        tenant: index_below(stream, (scenario.tenants - scenario.subscribed_tenants).max(1)),
        node: index_below(stream, scenario.nodes),
        pick: stream.next(),
        disconnects_after_ms: None,
        is_doubled: stream.hit(DOUBLED_PER_MILLE),
        kind: OperationKind::ChangeLease {
            action: [LeaseAction::Ack, LeaseAction::Nack, LeaseAction::Extend]
                [index_below(stream, 3)],
            is_named: stream.hit(300),
            visibility_seconds: between(stream, 1, 3),
        },
    };
    (0..scenario.operations / OPERATIONS_PER_LEASE_CHANGE).map(change).collect()
}

/// The operations that the scenario's mix names.
fn drawn(scenario: &Scenario, stream: &mut Stream, doubles: &mut Stream) -> Vec<Operation> {
    let mut operations = Vec::new();
    let span = scenario.run_ms.saturating_sub(BEGIN_MS).max(1);
    for number in 0..scenario.operations {
        let at_ms = match scenario.bursts {
            0 => BEGIN_MS + stream.below(span),
            bursts => BEGIN_MS + stream.below(bursts) * (span / bursts) + stream.below(40),
        };
        let is_hot = stream.hit(u32::try_from(scenario.hot_per_mille).unwrap_or(0));
        let tenant = index_below(stream, scenario.tenants);
        let node = index_below(stream, scenario.nodes);
        let pick = stream.next();
        let disconnects = stream.hit(30);
        let after_ms = between(stream, 1, 40);
        let Some(name) = choose(&scenario.mix, stream) else { break };
        operations.push(Operation {
            at_ms,
            number,
            tenant: if is_hot { 0 } else { tenant },
            node,
            pick,
            disconnects_after_ms: disconnects.then_some(after_ms),
            is_doubled: doubles.hit(DOUBLED_PER_MILLE),
            kind: operation(name, stream),
        });
    }
    operations
}

/// Recoveries of subscriptions, in a part of the plans.
fn recoveries(scenario: &Scenario, stream: &mut Stream) -> Vec<Operation> {
    let has_some = scenario.subscribed_tenants > 0 && stream.hit(RECOVERIES_PER_MILLE);
    let count = if has_some { between(stream, 1, RECOVERIES_MAX) } else { 0 };
    let mut recoveries = Vec::new();
    for number in 0..count {
        recoveries.push(Operation {
            at_ms: between(stream, BEGIN_MS, scenario.run_ms.max(BEGIN_MS)),
            number: scenario.operations + 100 + number,
            tenant: scenario.tenants - 1 - index_below(stream, scenario.subscribed_tenants),
            node: index_below(stream, scenario.nodes),
            pick: stream.next(),
            disconnects_after_ms: None,
            is_doubled: stream.hit(DOUBLED_PER_MILLE),
            kind: OperationKind::Recover {},
        });
    }
    recoveries
}

fn operation(name: OperationName, stream: &mut Stream) -> OperationKind {
    let has_key = stream.hit(500);
    let count = usize::try_from(between(stream, 2, 6)).unwrap_or(2);
    let is_large = stream.hit(60);
    let (low, high) = if is_large { (8_000, 12_000) } else { (0, 300) };
    let bytes = usize::try_from(between(stream, low, high)).unwrap_or(0);
    let status = EventStatus::ALL[index_below(stream, EventStatus::ALL.len())];
    let visibility_seconds = between(stream, 1, 3);
    let is_leased = stream.hit(600);
    match name {
        OperationName::Send => OperationKind::Send { has_key, bytes },
        OperationName::SendAgain => OperationKind::SendAgain {},
        OperationName::SendOther => OperationKind::SendOther {},
        OperationName::SendBatch => OperationKind::SendBatch { count },
        OperationName::Acknowledge => OperationKind::Acknowledge { is_leased },
        OperationName::AcknowledgeBatch => OperationKind::AcknowledgeBatch { count },
        OperationName::Lease => OperationKind::Lease { limit: count, visibility_seconds },
        OperationName::Extend => OperationKind::Extend { visibility_seconds },
        OperationName::WrongToken => OperationKind::WrongToken {},
        OperationName::Nack => OperationKind::Nack {},
        OperationName::Delete => OperationKind::Delete {},
        OperationName::Replay => OperationKind::Replay {},
        OperationName::ReplayFailed => OperationKind::ReplayFailed {},
        OperationName::Read => OperationKind::Read {},
        OperationName::Walk => OperationKind::Walk { status },
        OperationName::ListKeys => OperationKind::ListKeys {},
        OperationName::Statistics => OperationKind::Statistics {},
        OperationName::RevokeKey => OperationKind::RevokeKey {},
    }
}
