//! Each kind of fault, alone and with certainty: what the caller gets, what is stored, and what is
//! counted.
//!
//! Faults are switched on for one commit, so that the reads that check its effect are not affected.

use super::simulated;
use crate::subject::Subject;
use std::time::Duration;
use tokio::time::Instant;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Engine, Fault, KeyRange, RangeRead, StoreError, Transaction};

fn quiet() -> SimulatedOptions {
    SimulatedOptions::new(7)
}

fn late() -> SimulatedOptions {
    SimulatedOptions { late_commit_per_mille: 1_000, late_commit_ms_max: 500, ..quiet() }
}

/// Reads `a` and writes `b` in one transaction, with `faults` for the commit only.
async fn read_a_write_b(
    engine: &SimulatedEngine,
    subject: &Subject,
    faults: SimulatedOptions,
) -> Result<(), StoreError> {
    let mut open = subject.begin().await;
    open.get(&subject.key("a")).await?;
    open.set(&subject.key("b"), b"1");
    engine.set_options(faults);
    let outcome = open.commit().await;
    engine.set_options(quiet());
    outcome
}

fn is_unknown(outcome: &Result<(), StoreError>) -> bool {
    matches!(outcome, Err(StoreError::MaybeCommitted(_)))
}

fn is_retryable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Retryable(_)))
}

#[tokio::test(start_paused = true)]
async fn a_false_conflict() {
    let (engine, subject) = simulated(quiet());
    let conflict_per_mille = 1_000;
    let options = SimulatedOptions { conflict_per_mille, ..quiet() };
    assert!(is_retryable(&read_a_write_b(&engine, &subject, options).await));
    assert_eq!(subject.value("b").await, None);
    assert_eq!(engine.faults_fired().conflicts, 1);
    assert_eq!(engine.options(), quiet());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_result_that_committed() {
    let (engine, subject) = simulated(quiet());
    let unknown_committed_per_mille = 1_000;
    let options = SimulatedOptions { unknown_committed_per_mille, ..quiet() };
    assert!(is_unknown(&read_a_write_b(&engine, &subject, options).await));
    assert_eq!(subject.value("b").await.unwrap(), "1");
    assert_eq!(engine.faults_fired().unknown_committed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_result_that_did_not_commit() {
    let (engine, subject) = simulated(quiet());
    let unknown_not_committed_per_mille = 1_000;
    let options = SimulatedOptions { unknown_not_committed_per_mille, ..quiet() };
    assert!(is_unknown(&read_a_write_b(&engine, &subject, options).await));
    assert_eq!(subject.value("b").await, None);
    assert_eq!(engine.faults_fired().unknown_not_committed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_commit() {
    let (engine, subject) = simulated(quiet());
    assert!(is_unknown(&read_a_write_b(&engine, &subject, late()).await));
    assert_eq!(subject.value("b").await, None);
    tokio::time::sleep(Duration::from_millis(501)).await;
    assert_eq!(subject.value("b").await.unwrap(), "1");
    let fired = engine.faults_fired();
    assert_eq!((fired.late_answered, fired.late_applied, fired.late_dropped), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_late_commit_after_a_conflicting_one() {
    let (engine, subject) = simulated(quiet());
    assert!(is_unknown(&read_a_write_b(&engine, &subject, late()).await));
    subject.put("a", "2").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(subject.value("b").await, None);
    let fired = engine.faults_fired();
    assert_eq!((fired.late_answered, fired.late_applied, fired.late_dropped), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn late_commits_that_conflict_with_each_other() {
    let (engine, subject) = simulated(quiet());
    let mut both = Vec::new();
    for value in [b"1", b"2"] {
        let mut open = subject.begin().await;
        open.get(&subject.key("a")).await.unwrap();
        open.set(&subject.key("a"), value);
        both.push(open);
    }
    engine.set_options(late());
    for open in both {
        assert!(is_unknown(&open.commit().await));
    }
    // No call happens until both are long due.
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert!(subject.value("a").await.is_some());
    let fired = engine.faults_fired();
    assert_eq!((fired.late_applied, fired.late_dropped), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_commit_that_is_too_old() {
    let (engine, subject) = simulated(SimulatedOptions { late_commit_ms_max: 20_000, ..late() });
    for number in 0..50 {
        let write = async |open: &mut dyn Transaction| open.set(&subject.key([number]), b"1");
        assert!(is_unknown(&subject.commit(write).await));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    let found = subject.pairs().await.len() as u64;
    let fired = engine.faults_fired();
    assert_eq!((fired.late_applied, fired.late_applied + fired.late_dropped), (found, 50));
    assert!(fired.late_applied > 0 && fired.late_dropped > 0, "{fired:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stall() {
    let (engine, subject) =
        simulated(SimulatedOptions { stall_per_mille: 1_000, stall_ms: 700, ..quiet() });
    let begun = Instant::now();
    subject.put("a", "1").await;
    assert_eq!(begun.elapsed(), Duration::from_millis(3 * 700), "a begin and a commit's two ways");
    assert_eq!(engine.faults_fired().stalls, 3);
}

#[tokio::test(start_paused = true)]
async fn latency_is_within_its_bounds() {
    let (_, subject) =
        simulated(SimulatedOptions { latency_us_min: 2_000, latency_us_max: 5_000, ..quiet() });
    for _ in 0..50 {
        let begun = Instant::now();
        drop(subject.begin().await);
        let elapsed_ms = begun.elapsed().as_millis();
        // Timers are exact to the next millisecond.
        assert!((2..=6).contains(&elapsed_ms), "{elapsed_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage() {
    let (engine, subject) = simulated(quiet());
    subject.put("a", "1").await;
    let mut reader = subject.begin().await;
    let mut writers = Vec::new();
    for _ in 0..40 {
        let mut open = subject.begin().await;
        open.set(&subject.key("b"), b"1");
        writers.push(open);
    }
    engine.set_outage(true);
    assert_eq!(engine.health().unwrap_err().fault(), Some(Fault::Stopped));
    assert!(is_retryable(&engine.begin().await));
    assert!(is_retryable(&reader.get(&subject.key("a")).await));
    assert!(is_retryable(&reader.range(RangeRead::first(subject.all(), 9)).await));
    let mut unknown = 0;
    for open in writers {
        let outcome = open.commit().await;
        assert!(is_unknown(&outcome) || is_retryable(&outcome));
        unknown += u32::from(is_unknown(&outcome));
    }
    assert!((1..40).contains(&unknown), "{unknown} of 40 unknown");
    engine.set_outage(false);
    engine.health().unwrap();
    assert_eq!(subject.value("b").await, None);
    assert_eq!(reader.get(&subject.key("a")).await.unwrap().unwrap(), "1");
    assert_eq!(engine.faults_fired().outage_rejections, 43);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_is_too_old() {
    let (_, subject) = simulated(quiet());
    subject.put("a", "1").await;
    let mut open = subject.begin().await;
    open.set(&subject.key("b"), b"1");
    tokio::time::sleep(Duration::from_millis(5_000)).await;
    subject.put("a", "2").await;
    assert_eq!(open.get(&subject.key("a")).await.unwrap().unwrap(), "1");
    tokio::time::sleep(Duration::from_millis(1)).await;
    subject.put("a", "3").await;
    assert!(is_retryable(&open.get(&subject.key("a")).await));
    assert!(is_retryable(&open.commit().await));
    assert_eq!(subject.value("b").await, None);
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_found_by_version() {
    let (_, subject) = simulated(quiet());
    subject.put("a", "1").await;
    let changes: [fn(&mut dyn Transaction, &Subject); 2] = [
        |open, subject| open.set(&subject.key("a"), b"1"),
        |open, subject| open.clear_range(subject.range("0", "b")),
    ];
    for change in changes {
        let mut open = subject.begin().await;
        open.get(&subject.key("a")).await.unwrap();
        open.get(&subject.key("9")).await.unwrap();
        let other = async |other: &mut dyn Transaction| change(other, &subject);
        subject.commit(other).await.unwrap();
        open.set(&subject.key("z"), b"1");
        assert!(is_retryable(&open.commit().await));
    }
    let clear = async |open: &mut dyn Transaction| open.clear_range(KeyRange::new("", "~"));
    subject.commit(clear).await.unwrap();
    assert_eq!(subject.pairs().await, []);
}
