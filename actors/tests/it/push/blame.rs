//! Faults of the node are not held against the endpoint.

use super::{Bench, OTHER_URL, URL};
use crate::fixture::in_seconds;
use crate::receivers::Behaviour;
use std::time::Duration;
use triggers_actors::{BrokerError, NodeFault};
use triggers_protocol::EventStatus;

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_node_costs_no_attempt_and_moves_no_breaker() {
    for (seed, fault) in (200..).zip(NodeFault::ALL) {
        let bench = Bench::start(seed).await;
        bench.receivers.set(URL, Behaviour::Unsent(fault));
        // Without retries the first failure would be the last.
        let subscription = bench.subscribe(URL, &[]).await;
        let ids = bench.append(20).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(bench.status(EventStatus::Queued).await, ids, "COMPLETE-4: {fault:?}");
        let tries = bench.receivers.seen(URL).len();
        assert!((20 * 15..=20 * 22).contains(&tries), "COMPLETE-4: {fault:?}: {tries} tries");
        let (event, delivery) =
            bench.router().find_with_delivery(&bench.tenant, ids[0], in_seconds(5)).await.unwrap();
        let attempts = delivery.attempts;
        let event = event.unwrap();
        assert_eq!((event.state.attempts, attempts.len()), (0, 0), "COMPLETE-4: {fault:?}");
        assert_eq!((event.state.last_error, event.state.last_attempt_at), (None, None));
        let row = bench.subscription(subscription).await.unwrap();
        assert_eq!((row.is_active(), row.failing_since), (true, None), "COMPLETE-4: {fault:?}");
        // A breaker that had opened would let one webhook pass every thirty seconds.
        bench.receivers.set(URL, Behaviour::Answer(200));
        tokio::time::sleep(Duration::from_secs(75)).await;
        assert_eq!(bench.status(EventStatus::Delivered).await, ids, "VERDICT-2: {fault:?}");
        let page = bench
            .router()
            .subscription_attempts(&bench.tenant, subscription, None, 150, in_seconds(5))
            .await;
        let logged = page.unwrap().unwrap().attempts;
        assert_eq!(logged.len(), 20, "COMPLETE-4: only what reached the endpoint is listed");
        assert!(logged.iter().all(|(_, logged)| logged.attempt.number == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn time_lost_by_the_node_does_not_shorten_the_retry_policy() {
    let bench = Bench::start(210).await;
    bench.receivers.set(URL, Behaviour::Answer(500));
    bench.subscribe(URL, &[60, 60]).await;
    let id = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(5)).await;
    bench.receivers.set(URL, Behaviour::Unsent(NodeFault::Resolver));
    // Two days, longer than a webhook is retried otherwise.
    tokio::time::sleep(Duration::from_secs(2 * 86_400)).await;
    assert_eq!(bench.status(EventStatus::Queued).await, [id], "COMPLETE-4");
    let unsent = bench.receivers.seen(URL).len() - 1;
    bench.receivers.set(URL, Behaviour::Answer(500));
    assert_eq!(bench.reaches(EventStatus::Failed, 1).await, [id]);
    assert_eq!(bench.receivers.seen(URL).len(), unsent + 3, "the policy allows three attempts");
    let (event, delivery) =
        bench.router().find_with_delivery(&bench.tenant, id, in_seconds(5)).await.unwrap();
    let attempts = delivery.attempts;
    assert_eq!(event.unwrap().state.attempts, 3, "COMPLETE-4");
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3], "COMPLETE-4");
}

#[tokio::test(start_paused = true)]
async fn attempts_to_other_subscriptions_stay_numbered_without_gaps() {
    let bench = Bench::start(211).await;
    bench.receivers.set(URL, Behaviour::Unsent(NodeFault::Ports));
    bench.receivers.set(OTHER_URL, Behaviour::AnswerAfter(Duration::from_secs(3), 500));
    bench.subscribe(URL, &[]).await;
    let other = bench.subscribe(OTHER_URL, &[5, 5]).await;
    let id = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(60)).await;
    bench.receivers.set(URL, Behaviour::Answer(200));
    assert_eq!(bench.reaches(EventStatus::Delivered, 1).await, [id]);
    let (_, delivery) =
        bench.router().find_with_delivery(&bench.tenant, id, in_seconds(5)).await.unwrap();
    let attempts = delivery.attempts;
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "COMPLETE-4");
    let page =
        bench.router().subscription_attempts(&bench.tenant, other, None, 10, in_seconds(5)).await;
    let logged = page.unwrap().unwrap().attempts;
    let numbers: Vec<_> = logged.iter().map(|(_, logged)| logged.attempt.number).collect();
    assert_eq!(numbers, [3, 2, 1], "COMPLETE-4: both lists have the same numbers");
}

#[tokio::test(start_paused = true)]
async fn events_are_rejected_only_while_the_node_is_exhausted() {
    let bench = Bench::start(212).await;
    bench.receivers.set(URL, Behaviour::Unsent(NodeFault::Descriptors));
    bench.subscribe(URL, &[]).await;
    assert_eq!(bench.router().ensure_can_send(), Ok(()));
    let id = bench.append(1).await[0];
    while bench.receivers.seen(URL).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.router().ensure_can_send(), Err(BrokerError::NodeExhausted), "NODE-FAULT-2");
    bench.receivers.set(URL, Behaviour::Answer(200));
    assert_eq!(bench.reaches(EventStatus::Delivered, 1).await, [id]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.router().ensure_can_send(), Ok(()), "NODE-FAULT-2");
}
