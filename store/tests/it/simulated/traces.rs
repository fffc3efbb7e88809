//! One seed gives one trace; histories under all faults at once are serializable.
//!
//! A trace has every result of every call of several tasks, with its virtual time.

use super::simulated;
use crate::chance::environment;
use crate::conformance::serializability::{concurrent, final_lists};
use crate::history::check;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use triggers_store::kv::simulated::{FaultsFired, SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Engine, Run, Store, StoreError, decode_counter};

fn faulty(seed: u64) -> SimulatedOptions {
    SimulatedOptions {
        seed,
        latency_us_min: 200,
        latency_us_max: 3_000,
        conflict_per_mille: 100,
        unknown_committed_per_mille: 60,
        unknown_not_committed_per_mille: 60,
        late_commit_per_mille: 60,
        late_commit_ms_max: 300,
        stall_per_mille: 10,
        stall_ms: 400,
    }
}

fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// Results, with their times, of five tasks that increment two counters.
fn trace(seed: u64) -> (Vec<String>, FaultsFired) {
    paused().block_on(async {
        let engine = Arc::new(SimulatedEngine::new(faulty(seed)));
        let store = Store::new(engine.clone(), environment(seed));
        let (trace, begun) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        let tasks = (0..5).map(|task| {
            let (store, trace) = (store.clone(), trace.clone());
            tokio::spawn(async move {
                for round in 0..40 {
                    let outcome = increment(&store, [round % 2]).await;
                    let line = format!("{:?} {task} {round} {outcome:?}", begun.elapsed());
                    trace.lock().unwrap().push(line);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let trace = trace.lock().unwrap().clone();
        (trace, engine.faults_fired())
    })
}

async fn increment(store: &Store, key: [u8; 1]) -> Result<i64, StoreError> {
    let deadline = Instant::now() + Duration::from_millis(400);
    let transaction = store.run(Run::once(deadline), |open| {
        Box::pin(async move {
            let sum = decode_counter(open.get(&key).await?.as_deref())? + 1;
            open.set(&key, &sum.to_le_bytes());
            Ok(sum)
        })
    });
    transaction.await
}

#[test]
fn one_seed_gives_one_trace() {
    let (first, fired) = trace(11);
    let (second, fired_again) = trace(11);
    assert_eq!(first, second);
    assert_eq!(fired, fired_again);
    assert!(first.iter().any(|line| line.contains("MaybeCommitted")));
    assert!(first.iter().any(|line| line.contains("Ok")));
    assert_ne!(first, trace(12).0);
}

#[test]
fn histories_under_faults_are_serializable() {
    let fired: Vec<FaultsFired> = (0..6).map(history).collect();
    let kinds: [fn(&FaultsFired) -> u64; 6] = [
        |fired| fired.conflicts,
        |fired| fired.unknown_committed,
        |fired| fired.unknown_not_committed,
        |fired| fired.late_applied,
        |fired| fired.late_dropped,
        |fired| fired.stalls,
    ];
    for kind in kinds {
        let times: u64 = fired.iter().map(kind).sum();
        assert!(times > 0, "a fault that never fires proves nothing: {fired:?}");
    }
}

/// Checks the history of one seed.
fn history(seed: u64) -> FaultsFired {
    paused().block_on(async {
        // With long delays every late commit would conflict.
        let late_commit_ms_max = 10;
        let options = SimulatedOptions { late_commit_ms_max, ..faulty(seed) };
        let (engine, subject) = simulated(options);
        let records = concurrent(&subject, seed).await;
        engine.set_options(SimulatedOptions::new(seed));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let lists = final_lists(&subject).await;
        check(&records, &lists).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        engine.faults_fired()
    })
}

#[test]
fn a_clone_in_another_runtime_sees_the_same_store() {
    let engine = SimulatedEngine::new(SimulatedOptions {
        latency_us_max: 1_000,
        ..SimulatedOptions::new(3)
    });
    for round in 0..3i64 {
        let node = engine.clone();
        paused().block_on(async {
            // Each runtime's clock starts anew; the store's goes on.
            tokio::time::sleep(Duration::from_secs(7 * (3 - round as u64))).await;
            let mut open = node.begin().await.unwrap();
            let value = open.get(b"n").await.unwrap();
            assert_eq!(decode_counter(value.as_deref()), Ok(round));
            open.add(b"n", 1);
            open.commit().await.unwrap();
        });
    }
}
