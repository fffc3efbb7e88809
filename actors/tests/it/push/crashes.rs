//! Nodes that end at any point, senders that panic and stores that lose answers: no event is lost
//! or stuck, and a repeated webhook has the same id.

use super::{Bench, OTHER_URL, URL, by, subscription};
use crate::fixture::{append, event, in_seconds, list_all, next, start_with, store, tenant};
use crate::receivers::{Behaviour, Receivers};
use std::collections::BTreeSet;
use std::time::Duration;
use triggers_actors::BrokerOptions;
use triggers_protocol::{EventId, EventStatus};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::tables::operations::{CreateSubscription, SubscriptionChange};

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ends_with_its_node_is_repeated() {
    let mut bench = Bench::start(60).await;
    bench.receivers.set(URL, Behaviour::Hang);
    bench.subscribe(URL, &[600]).await;
    let ids = bench.append(20).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.node.stop().await;
    bench.receivers.set(URL, Behaviour::Answer(200));
    bench.node = start_with(&bench.store, &bench.receivers, BrokerOptions::default(), "n@2").await;
    // No request opens the inbox; the wake-up pointer in the partition does.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, ids, "ATTEMPT-2");
    let (_, delivery) =
        bench.router().find_with_delivery(&bench.tenant, ids[0], in_seconds(5)).await.unwrap();
    let attempts = delivery.attempts;
    assert_eq!(attempts.len(), 2);
    assert!(attempts[0].error.as_deref().unwrap().contains("may have arrived"), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_node_and_subscription_are_gone_is_listed_with_its_end() {
    let mut bench = Bench::start(69).await;
    bench.receivers.set(URL, Behaviour::Hang);
    let id = bench.subscribe(URL, &[600]).await;
    let ids = bench.append(1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.node.stop().await;
    bench.node = start_with(&bench.store, &bench.receivers, BrokerOptions::default(), "n@2").await;
    let change = SubscriptionChange { active: Some(false), ..SubscriptionChange::default() };
    bench.change(id, change).await;
    assert_eq!(bench.reaches(EventStatus::Failed, 1).await, ids);
    let router = bench.router();
    let page = router.subscription_attempts(&bench.tenant, id, None, 9, in_seconds(5)).await;
    let page = page.unwrap().unwrap();
    let errors: Vec<_> = page.attempts.iter().map(|(_, logged)| &logged.attempt.error).collect();
    assert_eq!(errors.len(), 1, "PUSH-5");
    assert!(errors[0].as_deref().unwrap().contains("may have arrived"), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_sender_affects_only_its_attempt() {
    let bench = Bench::start(61).await;
    bench.receivers.set(URL, Behaviour::Panic);
    bench.subscribe(URL, &[1]).await;
    bench.subscribe(OTHER_URL, &[1]).await;
    let ids = bench.append(5).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.receivers.seen(OTHER_URL).len(), 5, "the other endpoint got them");
    bench.receivers.set(URL, Behaviour::Answer(200));
    assert_eq!(bench.reaches(EventStatus::Delivered, 5).await, ids);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_always_panics_is_given_up_in_the_end() {
    let bench = Bench::start(62).await;
    bench.receivers.set(URL, Behaviour::Panic);
    bench.subscribe(URL, &[1]).await;
    let ids = bench.append(1).await;
    assert_eq!(bench.reaches(EventStatus::Failed, 1).await, ids, "ATTEMPT-2");
    assert_eq!(bench.receivers.seen(URL).len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_survives_its_node() {
    let mut bench = Bench::start(63).await;
    bench.receivers.set(URL, Behaviour::Answer(500));
    bench.subscribe(URL, &[1_000]).await;
    let ids = bench.append(3).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.node.stop().await;
    bench.node = start_with(&bench.store, &bench.receivers, BrokerOptions::default(), "n@2").await;
    bench.receivers.set(URL, Behaviour::Answer(200));
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(bench.receivers.seen(URL).len(), 3, "it is not due yet");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.status(EventStatus::Delivered).await, ids);
}

#[tokio::test(start_paused = true)]
async fn a_drain_begins_no_webhook_and_waits_for_those_in_flight() {
    let bench = Bench::start(64).await;
    bench.receivers.set(URL, Behaviour::AnswerAfter(Duration::from_secs(2), 200));
    let mut row = subscription(&bench.store, URL, &[]);
    row.max_in_flight = 4;
    bench.subscribe_as(row).await;
    bench.append(100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.node.drain_deliveries(in_seconds(60)).await;
    let begun = bench.receivers.seen(URL).len();
    assert!(begun <= 12, "{begun} had begun");
    assert_eq!(bench.status(EventStatus::Delivered).await.len(), begun, "each of them has ended");
}

fn faulty(seed: u64) -> SimulatedOptions {
    SimulatedOptions {
        latency_us_min: 50,
        latency_us_max: 3_000,
        conflict_per_mille: 50,
        unknown_committed_per_mille: 80,
        unknown_not_committed_per_mille: 50,
        late_commit_per_mille: 30,
        late_commit_ms_max: 4_000,
        stall_per_mille: 3,
        stall_ms: 6_000,
        ..SimulatedOptions::new(seed)
    }
}

/// Endpoints that change their behaviour and nodes that are replaced, on a store that loses
/// answers.
async fn troubled(seed: u64) {
    let engine = SimulatedEngine::new(SimulatedOptions::new(seed));
    let (store, receivers, tenant) = (store(&engine, seed), Receivers::default(), tenant("acme"));
    let mut node = start_with(&store, &receivers, BrokerOptions::default(), "n@0").await;
    for url in [URL, OTHER_URL] {
        let row = subscription(&store, url, &[5, 30, 60]);
        let create = CreateSubscription { row, by: by() };
        node.router().execute(&tenant, create, in_seconds(5)).await.unwrap().unwrap();
    }
    engine.set_options(faulty(seed));
    let mut random = seed;
    let mut accepted: BTreeSet<EventId> = BTreeSet::new();
    for round in 1..=12 {
        for url in [URL, OTHER_URL] {
            let behaviours = [
                Behaviour::Answer(200),
                Behaviour::Answer(200),
                Behaviour::Answer(500),
                Behaviour::Refuse,
                Behaviour::Hang,
                Behaviour::Panic,
                Behaviour::Busy(503, Duration::from_secs(7)),
            ];
            receivers.set(url, behaviours[next(&mut random) as usize % behaviours.len()]);
        }
        let appended = node
            .router()
            .append(&tenant, append(vec![event("{}", None); 10]), in_seconds(10))
            .await;
        accepted.extend(appended.into_iter().flatten().flatten().map(|accepted| accepted.event.id));
        tokio::time::sleep(Duration::from_millis(next(&mut random) % 20_000)).await;
        if next(&mut random).is_multiple_of(3) {
            engine.set_options(SimulatedOptions::new(seed));
            node.stop().await;
            node = start_with(&store, &receivers, BrokerOptions::default(), &format!("n@{round}"))
                .await;
            engine.set_options(faulty(seed));
        }
    }
    engine.set_options(SimulatedOptions::new(seed));
    for url in [URL, OTHER_URL] {
        receivers.set(url, Behaviour::Answer(200));
    }
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    let router = node.router();
    let mut ended = BTreeSet::new();
    for status in EventStatus::ALL {
        let (events, total) = list_all(&router, &tenant, status).await;
        assert_eq!(
            total,
            events.len() as i64,
            "seed {seed}: the counter of {status} differs from a recount"
        );
        let is_end = matches!(status, EventStatus::Delivered | EventStatus::Failed);
        assert!(
            is_end || events.is_empty(),
            "seed {seed}: {} events are stuck in {status}",
            events.len()
        );
        let arrived: BTreeSet<EventId> = [URL, OTHER_URL]
            .iter()
            .flat_map(|url| receivers.seen(url))
            .map(|seen| seen.id)
            .collect();
        if status == EventStatus::Delivered {
            assert!(
                events.iter().all(|event| arrived.contains(&event.id)),
                "seed {seed}: delivered to no endpoint"
            );
        }
        ended.extend(events.iter().map(|event| event.id));
    }
    assert!(accepted.is_subset(&ended), "seed {seed}: an event is lost");
    node.stop().await;
}

#[test]
fn no_event_is_lost_or_stuck_under_faults() {
    for seed in 0..30 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(troubled(seed));
    }
}
