//! Many callers on a store with conflicts, stalls, lost answers and late commits.
//!
//! No answered event is lost, no event exists twice, ids grow in the order of acceptance, and the
//! counters equal a recount.

use crate::fixture::{self, PARTITIONS, event, in_seconds, list_all, next, start, store, tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use triggers_actors::{BrokerError, BrokerOptions, Router};
use triggers_protocol::{EventId, EventStatus, TenantId};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::tables::inbox::Missing;
use triggers_store::tables::operations::DeleteEvent;

/// The answers that the callers got.
#[derive(Clone, Default)]
struct Answers {
    accepted: BTreeMap<EventId, String>,
    acknowledged: BTreeSet<EventId>,
    deleted: BTreeSet<EventId>,
    /// Acknowledged or deleted with an unknown outcome.
    doubtful: BTreeSet<EventId>,
    unknown: usize,
}

fn faulty(seed: u64) -> SimulatedOptions {
    SimulatedOptions {
        latency_us_min: 50,
        latency_us_max: 3_000,
        conflict_per_mille: 50,
        unknown_committed_per_mille: 50,
        unknown_not_committed_per_mille: 50,
        late_commit_per_mille: 50,
        late_commit_ms_max: 4_000,
        stall_per_mille: 5,
        stall_ms: 6_000,
        ..SimulatedOptions::new(seed)
    }
}

async fn caller(
    router: Router,
    tenant: TenantId,
    number: usize,
    seed: u64,
    answers: Arc<Mutex<Answers>>,
) {
    let mut random = seed ^ ((number as u64) << 32);
    let mut last = EventId::ZERO;
    for round in 0..30 {
        let own: Vec<EventId> = answers.lock().unwrap().accepted.keys().copied().collect();
        let pick = own.get(next(&mut random) as usize % own.len().max(1)).copied();
        match (next(&mut random) % 6, pick) {
            (0, Some(id)) => acknowledge(&router, &tenant, id, &answers).await,
            (1, Some(id)) => delete(&router, &tenant, id, &answers).await,
            _ => {
                let payload = format!("{{\"caller\":{number},\"round\":{round}}}");
                let key = next(&mut random).is_multiple_of(2).then(|| format!("{number}-{round}"));
                if let Some(id) = append(&router, &tenant, &payload, key.as_deref(), &answers).await
                {
                    assert!(id > last, "an id is not above the id of an event answered before");
                    last = id;
                }
            }
        }
    }
}

/// Appends one event; with a key, until the outcome is known.
async fn append(
    router: &Router,
    tenant: &TenantId,
    payload: &str,
    key: Option<&str>,
    answers: &Mutex<Answers>,
) -> Option<EventId> {
    loop {
        let answer =
            router.append(tenant, fixture::append(vec![event(payload, key)]), in_seconds(10)).await;
        match answer.map(|mut results| results.remove(0)) {
            Ok(Ok(accepted)) => {
                let mut answers = answers.lock().unwrap();
                assert!(
                    answers.accepted.insert(accepted.event.id, payload.into()).is_none(),
                    "an id was given twice"
                );
                return Some(accepted.event.id);
            }
            Ok(Err(_)) | Err(_) if key.is_some() => tokio::task::yield_now().await,
            Err(BrokerError::Unknown) => {
                answers.lock().unwrap().unknown += 1;
                return None;
            }
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

async fn acknowledge(router: &Router, tenant: &TenantId, id: EventId, answers: &Mutex<Answers>) {
    let answer = router.acknowledge_all(tenant, &[id], in_seconds(10)).await;
    let mut answers = answers.lock().unwrap();
    match answer.as_deref() {
        Ok([Ok(())]) => drop(answers.acknowledged.insert(id)),
        Ok([Err(Missing::Gone)]) => {}
        Ok(other) => panic!("an accepted event was {other:?}"),
        Err(BrokerError::Unknown) => drop(answers.doubtful.insert(id)),
        Err(_) => {}
    }
}

async fn delete(router: &Router, tenant: &TenantId, id: EventId, answers: &Mutex<Answers>) {
    let answer = router.execute(tenant, DeleteEvent { id }, in_seconds(10)).await;
    let mut answers = answers.lock().unwrap();
    match answer {
        Ok(Ok(()) | Err(Missing::Gone)) => drop(answers.deleted.insert(id)),
        Ok(Err(Missing::NotFound)) => panic!("an accepted event was not found"),
        Err(BrokerError::Unknown) => drop(answers.doubtful.insert(id)),
        Err(_) => {}
    }
}

async fn check(router: &Router, tenant: &TenantId, answers: &Answers) {
    let (received, received_total) = list_all(router, tenant, EventStatus::Received).await;
    let (delivered, delivered_total) = list_all(router, tenant, EventStatus::Delivered).await;
    assert_eq!((received_total, delivered_total), (received.len() as i64, delivered.len() as i64));
    for events in [&received, &delivered] {
        assert!(events.is_sorted_by_key(|event| event.id));
    }
    let mut payloads = BTreeMap::new();
    for event in received.iter().chain(&delivered) {
        *payloads.entry(event.payload.clone()).or_insert(0) += 1;
    }
    assert!(payloads.values().all(|&count| count == 1), "an event exists twice");
    let received: BTreeSet<EventId> = received.iter().map(|event| event.id).collect();
    let delivered: BTreeSet<EventId> = delivered.iter().map(|event| event.id).collect();
    for id in answers.accepted.keys() {
        let there = received.contains(id) || delivered.contains(id);
        let may_be_gone = answers.deleted.contains(id) || answers.doubtful.contains(id);
        assert!(there || may_be_gone, "an accepted event is lost");
        assert!(!(there && answers.deleted.contains(id)), "a deleted event is back");
        assert!(
            !(received.contains(id) && answers.acknowledged.contains(id)),
            "an acknowledged event is back"
        );
    }
    let unanswered =
        received.union(&delivered).filter(|id| !answers.accepted.contains_key(id)).count();
    assert!(
        unanswered <= answers.unknown,
        "{unanswered} events without an answer, {} outcomes unknown",
        answers.unknown
    );
}

fn run_seed(seed: u64) -> (BTreeMap<EventId, String>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let engine = SimulatedEngine::new(faulty(seed));
        let store = store(&engine, seed);
        let node = start(&store, BrokerOptions::default(), "node-1@a").await;
        let answers: [Arc<Mutex<Answers>>; 2] = Default::default();
        let mut callers = Vec::new();
        for number in 0..12 {
            let name = ["one", "two"][number % 2];
            let answers = answers[number % 2].clone();
            callers.push(tokio::spawn(caller(node.router(), tenant(name), number, seed, answers)));
        }
        for caller in callers {
            caller.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        node.stop().await;
        engine.set_options(SimulatedOptions::new(seed));
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        let node = start(&store, BrokerOptions::default(), "node-1@b").await;
        for (name, answers) in ["one", "two"].iter().zip(&answers) {
            let answers = answers.lock().unwrap().clone();
            check(&node.router(), &tenant(name), &answers).await;
        }
        node.stop().await;
        let fired = engine.faults_fired();
        let all = [
            fired.conflicts,
            fired.unknown_committed,
            fired.unknown_not_committed,
            fired.late_answered,
            fired.stalls,
        ];
        let accepted =
            answers.iter().flat_map(|answers| answers.lock().unwrap().accepted.clone()).collect();
        (accepted, all.iter().filter(|&&count| count > 0).count() as u64)
    })
}

#[test]
fn nothing_is_lost_and_nothing_exists_twice() {
    let mut kinds_fired = 0;
    for seed in 0..40 {
        kinds_fired = kinds_fired.max(run_seed(seed).1);
    }
    assert_eq!(kinds_fired, 5, "each kind of fault has occurred");
}

#[test]
fn the_two_tenants_are_in_different_partitions() {
    use triggers_protocol::PartitionId;
    assert_ne!(
        PartitionId::of(&tenant("one"), PARTITIONS),
        PartitionId::of(&tenant("two"), PARTITIONS)
    );
}
