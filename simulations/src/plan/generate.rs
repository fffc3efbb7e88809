//! Makes a plan of a scenario and a seed.
//!
//! Invariant: `GENERATE-1` workload and faults are drawn from streams of their own, so that one does not shift the other.

use super::scenario::Scenario;
use super::{Behaviour, Fault, FaultKind, Operation, OperationKind, Plan, Status};
use std::collections::BTreeMap;
use triggers_store::kv::simulated::Stream;

/// Before this nothing happens: the nodes start.
const BEGIN_MS: u64 = 400;

/// The plan of a seed.
///
/// # Errors
/// What is wrong with the scenario.
pub fn generate(name: &str, seed: u64) -> Result<Plan, String> {
    let scenario = Scenario::load(name)?;
    let mut clocks = Stream::new(seed, 203);
    let skew = |stream: &mut Stream| {
        let span = 2 * scenario.skew_ms_max + 1;
        stream.below(span).cast_signed() - scenario.skew_ms_max.cast_signed()
    };
    Ok(Plan {
        scenario: name.to_owned(),
        seed,
        nodes: scenario.nodes,
        partitions: 8,
        tenants: scenario.tenants,
        pushed: scenario.pushed,
        quota: scenario.quota,
        run_ms: scenario.run_ms,
        skew_ms: (0..scenario.nodes).map(|_| skew(&mut clocks)).collect(),
        faults: faults(&scenario, &mut Stream::new(seed, 202))?,
        operations: operations(&scenario, &mut Stream::new(seed, 201))?,
    })
}

fn choose<'a>(weights: &'a BTreeMap<String, u64>, stream: &mut Stream) -> &'a str {
    let total: u64 = weights.values().sum();
    let mut left = stream.below(total.max(1));
    for (name, weight) in weights {
        if left < *weight {
            return name;
        }
        left -= weight;
    }
    ""
}

fn between(stream: &mut Stream, low: u64, high: u64) -> u64 {
    low + stream.below(high.saturating_sub(low) + 1)
}

fn faults(scenario: &Scenario, stream: &mut Stream) -> Result<Vec<Fault>, String> {
    let count = between(stream, scenario.faults_min, scenario.faults_max);
    let mut faults = Vec::new();
    if scenario.slow_receivers {
        for tenant in scenario.tenants - scenario.pushed..scenario.tenants {
            let kind =
                FaultKind::Receiver { tenant, behaviour: Behaviour::Slow, for_ms: scenario.run_ms };
            faults.push(Fault { at_ms: 0, kind });
        }
    }
    for _ in 0..count {
        let at_ms = between(stream, BEGIN_MS, scenario.run_ms.saturating_sub(200).max(BEGIN_MS));
        let name = choose(&scenario.faults, stream);
        let kind = fault(name, scenario, stream)?;
        // Early, so that every attempt at an event fails.
        let at_ms = if name == "dead_receiver" { BEGIN_MS + at_ms % 1_000 } else { at_ms };
        faults.push(Fault { at_ms, kind });
    }
    faults.sort_by_key(|fault| fault.at_ms);
    Ok(faults)
}

fn fault(name: &str, scenario: &Scenario, stream: &mut Stream) -> Result<FaultKind, String> {
    // Drawn by every kind, so that a plan keeps its shape when weights change.
    let node = usize::try_from(stream.below(scenario.nodes as u64)).unwrap_or(0);
    let for_ms = between(stream, 50, 1_500);
    let per_mille = u32::try_from(between(stream, 20, 400)).unwrap_or(0);
    let coin = stream.hit(500);
    let tenant = scenario.tenants
        - 1
        - usize::try_from(stream.below(scenario.pushed.max(1) as u64)).unwrap_or(0);
    let pick = stream.below(5);
    let span = 2 * scenario.skew_ms_max + 1;
    let by_ms = stream.below(span).cast_signed() - scenario.skew_ms_max.cast_signed();
    Ok(match name {
        "kill" => FaultKind::Kill { node, back_after_ms: for_ms },
        "power_loss" => FaultKind::PowerLoss { node, back_after_ms: for_ms * 2 },
        "freeze" => FaultKind::Freeze { node, for_ms: for_ms * 2 },
        "restart" => FaultKind::Restart { node },
        "scale_in" => FaultKind::ScaleIn { node },
        "scale_out" => FaultKind::ScaleOut {},
        "partition" => FaultKind::Partition { node, for_ms, is_one_way: coin },
        "unreachable" => FaultKind::Unreachable { node, for_ms },
        "slow_network" => {
            FaultKind::SlowNetwork { steps_max: 4 + u64::from(per_mille) / 10, for_ms }
        }
        "peer_weather" => FaultKind::PeerWeather {
            dropped: per_mille / 2,
            duplicated: per_mille,
            delayed: per_mille,
            for_ms,
        },
        "conflicts" => FaultKind::Conflicts { per_mille, for_ms },
        "unknown" => FaultKind::Unknown {
            committed: per_mille / 2,
            not_committed: per_mille / 3,
            late: per_mille / 2,
            for_ms,
        },
        "stalls" => FaultKind::Stalls {
            per_mille: per_mille / 4,
            stall_ms: between(stream, 20, 600),
            for_ms,
        },
        "outage" => FaultKind::Outage { for_ms },
        "long_outage" => FaultKind::Outage { for_ms: for_ms * 4 },
        "clock_jump" => FaultKind::ClockJump { node, by_ms },
        "day_passes" => FaultKind::DayPasses {},
        "receiver" | "dead_receiver" => FaultKind::Receiver {
            tenant,
            behaviour: match pick {
                _ if name == "dead_receiver" => Behaviour::Failing,
                0 => Behaviour::Failing,
                1 => Behaviour::Silent,
                2 => Behaviour::Slow,
                3 => Behaviour::Flapping,
                _ => Behaviour::Lying,
            },
            for_ms: if name == "dead_receiver" { 60_000 } else { for_ms * 2 },
        },
        other => return Err(format!("there is no kind of fault {other:?}")),
    })
}

fn operations(scenario: &Scenario, stream: &mut Stream) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::new();
    let span = scenario.run_ms.saturating_sub(BEGIN_MS).max(1);
    for number in 0..scenario.operations {
        let at_ms = match scenario.bursts {
            0 => BEGIN_MS + stream.below(span),
            bursts => BEGIN_MS + stream.below(bursts) * (span / bursts) + stream.below(40),
        };
        let is_hot = stream.hit(u32::try_from(scenario.hot_per_mille).unwrap_or(0));
        let any = usize::try_from(stream.below(scenario.tenants as u64)).unwrap_or(0);
        let node = usize::try_from(stream.below(scenario.nodes as u64)).unwrap_or(0);
        let pick = stream.next();
        let gives_up = stream.hit(30);
        let after_ms = between(stream, 1, 40);
        let kind = operation(choose(&scenario.mix, stream), stream)?;
        operations.push(Operation {
            at_ms,
            number,
            tenant: if is_hot { 0 } else { any },
            node,
            pick,
            disconnects_after_ms: gives_up.then_some(after_ms),
            kind,
        });
    }
    operations.sort_by_key(|operation| operation.at_ms);
    Ok(operations)
}

fn operation(name: &str, stream: &mut Stream) -> Result<OperationKind, String> {
    let has_key = stream.hit(500);
    let count = usize::try_from(between(stream, 2, 6)).unwrap_or(2);
    let is_large = stream.hit(60);
    let bytes = usize::try_from(if is_large {
        between(stream, 8_000, 12_000)
    } else {
        between(stream, 0, 300)
    });
    let status = Status::ALL[usize::try_from(stream.below(4)).unwrap_or(0)];
    let visibility_s = between(stream, 1, 3);
    let is_leased = stream.hit(600);
    Ok(match name {
        "send" => OperationKind::Send { has_key, bytes: bytes.unwrap_or(0) },
        "send_again" => OperationKind::SendAgain {},
        "send_other" => OperationKind::SendOther {},
        "wrong_token" => OperationKind::WrongToken {},
        "list_keys" => OperationKind::ListKeys {},
        "send_batch" => OperationKind::SendBatch { count },
        "acknowledge" => OperationKind::Acknowledge { is_leased },
        "acknowledge_batch" => OperationKind::AcknowledgeBatch { count },
        "lease" => OperationKind::Lease { limit: count, visibility_s },
        "extend" => OperationKind::Extend { visibility_s },
        "refuse" => OperationKind::Refuse {},
        "delete" => OperationKind::Delete {},
        "replay" => OperationKind::Replay {},
        "replay_failed" => OperationKind::ReplayFailed {},
        "read" => OperationKind::Read {},
        "walk" => OperationKind::Walk { status },
        "statistics" => OperationKind::Statistics {},
        "revoke_key" => OperationKind::RevokeKey {},
        other => return Err(format!("there is no kind of operation {other:?}")),
    })
}
