//! Leases in virtual time: which consumer holds an event, when it comes back, when it is given up.

mod filtered;

use crate::fixture::{self, event, in_seconds, list_all, next, start, store, tenant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::{BrokerError, BrokerOptions, Node, Router};
use triggers_protocol::{EventId, EventStatus, RetryPolicy, TenantId, Timestamp};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::access;
use triggers_store::tables::operations::{
    Acknowledge, ChangeLease, ExtendLease, Lease, LeaseChange, LeaseEnded, Leased, Nack, Replay,
    Unchanged,
};
use triggers_store::tables::rows::{AttemptOutcome, TenantRow};

fn engine(seed: u64) -> SimulatedEngine {
    SimulatedEngine::new(SimulatedOptions {
        latency_us_min: 100,
        latency_us_max: 500,
        ..SimulatedOptions::new(seed)
    })
}

async fn set_policy(store: &Store, tenant: &TenantId, delays_seconds: &[u32]) {
    let row = TenantRow {
        id: tenant.clone(),
        name: String::new(),
        tier: None,
        retention_days: 30,
        max_inbox_events: None,
        retry_policy: Some(RetryPolicy::Delays { delays_seconds: delays_seconds.to_vec() }),
        flags: BTreeMap::new(),
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
    };
    let run = Run::idempotent(in_seconds(5));
    let stored: Result<(), TableError> = store
        .run(run, |tx| {
            access::put_tenant(tx, &row);
            Box::pin(std::future::ready(Ok(())))
        })
        .await;
    stored.unwrap();
}

async fn append(router: &Router, tenant: &TenantId, count: usize) -> Vec<EventId> {
    let events = (0..count).map(|n| event(&format!("{{\"n\":{n}}}"), None)).collect();
    let results = router.append(tenant, fixture::append(events), in_seconds(30)).await.unwrap();
    results.into_iter().map(|result| result.unwrap().event.id).collect()
}

async fn lease(router: &Router, tenant: &TenantId, limit: usize, seconds: u64) -> Vec<Leased> {
    let request = Lease {
        limit,
        event_types: Vec::new(),
        visibility: Duration::from_secs(seconds),
        after: None,
    };
    router.execute(tenant, request, in_seconds(10)).await.unwrap().events
}

async fn status(router: &Router, tenant: &TenantId, status: EventStatus) -> Vec<EventId> {
    let (events, total) = list_all(router, tenant, status).await;
    assert_eq!(total, events.len() as i64, "the counter differs from a recount");
    events.iter().map(|event| event.id).collect()
}

async fn node(store: &Store, incarnation: &str) -> Node {
    start(store, BrokerOptions::default(), incarnation).await
}

/// Leases one event as soon as it is available; returns the time that this took.
async fn lease_when_due(router: &Router, tenant: &TenantId) -> (Leased, Duration) {
    let began = Instant::now();
    loop {
        if let Some(leased) = lease(router, tenant, 1, 10).await.pop() {
            return (leased, began.elapsed());
        }
        assert!(began.elapsed() < Duration::from_secs(100_000), "the event never came back");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_an_attempt_and_the_retry_policy_has_the_schedule() {
    let (engine, tenant) = (engine(1), tenant("acme"));
    let store = store(&engine, 1);
    set_policy(&store, &tenant, &[60, 300]).await;
    let node = node(&store, "n@1").await;
    let router = node.router();
    let id = append(&router, &tenant, 1).await[0];
    for (attempt, delay) in [(1, 0), (2, 60), (3, 300)] {
        let (leased, waited) = lease_when_due(&router, &tenant).await;
        assert_eq!((leased.event.id, leased.event.state.attempts), (id, attempt));
        assert!(lease(&router, &tenant, 10, 10).await.is_empty(), "it is held");
        if attempt > 1 {
            // The lease of ten seconds, the delay with up to 20 % of jitter, and up to one poll.
            let (least, most) =
                (10.0 + 0.8 * f64::from(delay), 10.0 + 1.2 * f64::from(delay) + 1.0);
            assert!(
                (least..=most).contains(&waited.as_secs_f64()),
                "attempt {attempt} came after {waited:?}"
            );
        }
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(status(&router, &tenant, EventStatus::Failed).await, [id]);
    assert!(status(&router, &tenant, EventStatus::Queued).await.is_empty());
    let (_, delivery) = router.find_with_delivery(&tenant, id, in_seconds(5)).await.unwrap();
    let attempts = delivery.attempts;
    assert!(
        attempts.len() == 3
            && attempts.iter().all(|attempt| attempt.outcome == AttemptOutcome::Failed)
    );
    assert_eq!(
        attempts[0].finished_at.unwrap().since(attempts[0].started_at),
        Duration::from_secs(10)
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_is_valid_while_its_lease_lasts() {
    let (engine, tenant) = (engine(2), tenant("acme"));
    let store = store(&engine, 2);
    set_policy(&store, &tenant, &[0, 0, 0]).await;
    let node = node(&store, "n@1").await;
    let router = node.router();
    append(&router, &tenant, 1).await;
    let (first, _) = lease_when_due(&router, &tenant).await;
    let (id, stale) = (first.event.id, Some(first.token));
    let extend = ExtendLease { id, token: first.token, visibility: Duration::from_secs(60) };
    router.change(&tenant, extend.clone(), in_seconds(5)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(lease(&router, &tenant, 1, 10).await.is_empty(), "the lease was extended");
    tokio::time::sleep(Duration::from_secs(31)).await;
    let (second, _) = lease_when_due(&router, &tenant).await;
    for token in [stale, Some([0; 16])] {
        let acknowledge = Acknowledge { id, token };
        let acknowledged = router.change(&tenant, acknowledge, in_seconds(5)).await.unwrap();
        assert_eq!(acknowledged, Err(Unchanged::Conflict));
        let nack = Nack { id, token, reason: None, retry_after: None };
        let nacked = router.change(&tenant, nack, in_seconds(5)).await.unwrap();
        assert_eq!(nacked, Err(Unchanged::Conflict));
    }
    let late = router.change(&tenant, extend, in_seconds(5)).await.unwrap();
    assert_eq!(late, Err(Unchanged::Conflict));
    for _ in 0..2 {
        let acknowledge = Acknowledge { id, token: Some(second.token) };
        let event = router.change(&tenant, acknowledge, in_seconds(5)).await.unwrap().unwrap();
        assert_eq!(event.state.status, EventStatus::Delivered);
    }
    let acknowledge = Acknowledge { id, token: stale };
    let late = router.change(&tenant, acknowledge, in_seconds(5)).await.unwrap();
    assert_eq!(late, Err(Unchanged::Conflict));
    assert_eq!(status(&router, &tenant, EventStatus::Delivered).await, [id]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_for_all_but_the_events_that_are_held_longer() {
    let (engine, tenant) = (engine(12), tenant("acme"));
    let store = store(&engine, 12);
    let node = node(&store, "n@1").await;
    let router = node.router();
    append(&router, &tenant, 2).await;
    let visibility = Duration::from_secs(10);
    let request = Lease { limit: 2, event_types: Vec::new(), visibility, after: None };
    let reply = router.execute(&tenant, request, in_seconds(5)).await.unwrap();
    let (id, token) = (reply.events[0].event.id, reply.events[0].token);
    let extend = ExtendLease { id, token, visibility: Duration::from_secs(600) };
    router.change(&tenant, extend, in_seconds(5)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    let acknowledge =
        |ids| ChangeLease { lease: reply.lease, ids, change: LeaseChange::Acknowledge };
    let whole = router.execute(&tenant, acknowledge(None), in_seconds(5)).await.unwrap();
    assert_eq!(whole, Err(LeaseEnded));
    let ids = Some(vec![id, reply.events[1].event.id]);
    let named = router.execute(&tenant, acknowledge(ids), in_seconds(5)).await.unwrap().unwrap();
    assert_eq!(named[0], (id, Ok(EventStatus::Delivered)));
    assert_eq!(named[1].1, Err(Unchanged::Conflict), "its lease has run out");
}

#[tokio::test(start_paused = true)]
async fn a_nacked_event_comes_back_when_its_consumer_asks_for_it() {
    let (engine, tenant) = (engine(3), tenant("acme"));
    let store = store(&engine, 3);
    set_policy(&store, &tenant, &[3_600]).await;
    let node = node(&store, "n@1").await;
    let router = node.router();
    let id = append(&router, &tenant, 1).await[0];
    let (first, _) = lease_when_due(&router, &tenant).await;
    let nack = Nack {
        id,
        token: Some(first.token),
        reason: Some("not today".into()),
        retry_after: Some(Duration::from_secs(5)),
    };
    let event = router.change(&tenant, nack, in_seconds(5)).await.unwrap().unwrap();
    assert_eq!(
        (event.state.status, event.state.last_error.as_deref()),
        (EventStatus::Queued, Some("not today"))
    );
    let (second, waited) = lease_when_due(&router, &tenant).await;
    assert!((4..=6).contains(&waited.as_secs()), "{waited:?}");
    let nack =
        Nack { id, token: Some(second.token), reason: None, retry_after: Some(Duration::ZERO) };
    let event = router.change(&tenant, nack, in_seconds(5)).await.unwrap().unwrap();
    assert_eq!(
        event.state.status,
        EventStatus::Failed,
        "the policy has one retry, whatever the consumer asks for"
    );
    let event = router.change(&tenant, Replay { id }, in_seconds(5)).await.unwrap().unwrap();
    assert_eq!(event.state.status, EventStatus::Received);
    let again = router.change(&tenant, Replay { id }, in_seconds(5)).await.unwrap();
    assert_eq!(again, Err(Unchanged::Conflict));
    let (third, _) = lease_when_due(&router, &tenant).await;
    assert_eq!(third.event.state.attempts, 3);
    let nack = Nack { id, token: None, reason: None, retry_after: None };
    let event = router.change(&tenant, nack, in_seconds(5)).await.unwrap().unwrap();
    assert_eq!(event.state.status, EventStatus::Queued, "the policy counts from the replay");
}

#[tokio::test(start_paused = true)]
async fn leases_end_on_time_without_a_request() {
    let (engine, tenant) = (engine(4), tenant("acme"));
    let store = store(&engine, 4);
    set_policy(&store, &tenant, &[]).await;
    let first = node(&store, "n@1").await;
    let ids = append(&first.router(), &tenant, 450).await;
    for _ in 0..3 {
        assert_eq!(lease(&first.router(), &tenant, 150, 400).await.len(), 150);
    }
    // Idle for five minutes: the inbox is closed long before the leases end.
    tokio::time::sleep(Duration::from_secs(390)).await;
    assert_eq!(status(&first.router(), &tenant, EventStatus::Queued).await.len(), 450);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(status(&first.router(), &tenant, EventStatus::Failed).await, ids);
    append(&first.router(), &tenant, 1).await;
    lease(&first.router(), &tenant, 1, 100).await;
    first.stop().await;
    let second = node(&store, "n@2").await;
    tokio::time::sleep(Duration::from_secs(95)).await;
    assert_eq!(status(&second.router(), &tenant, EventStatus::Queued).await.len(), 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(status(&second.router(), &tenant, EventStatus::Failed).await.len(), 451);
}

/// Most answers of commits are lost, so batches run again after they have taken effect.
#[tokio::test(start_paused = true)]
async fn leases_end_on_time_if_the_outcome_of_their_commit_was_unknown() {
    let (engine, tenant) = (engine(7), tenant("acme"));
    let store = store(&engine, 7);
    set_policy(&store, &tenant, &[60]).await;
    let node = node(&store, "n@1").await;
    let router = node.router();
    append(&router, &tenant, 2).await;
    engine.set_options(SimulatedOptions { unknown_committed_per_mille: 700, ..engine.options() });
    let before = engine.faults_fired().unknown_committed;
    let first = lease(&router, &tenant, 1, 5).await.remove(0);
    let (id, token, visibility) = (first.event.id, first.token, Duration::from_secs(8));
    let extend = ExtendLease { id, token, visibility };
    router.change(&tenant, extend, in_seconds(10)).await.unwrap().unwrap();
    lease(&router, &tenant, 1, 5).await.remove(0);
    assert!(engine.faults_fired().unknown_committed > before, "no answer was lost");
    engine.set_options(SimulatedOptions { unknown_committed_per_mille: 0, ..engine.options() });
    for (seconds, held) in [(6, 1), (3, 0)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut running = 0;
        for id in status(&router, &tenant, EventStatus::Queued).await {
            let (_, delivery) =
                router.find_with_delivery(&tenant, id, in_seconds(5)).await.unwrap();
            let attempts = delivery.attempts;
            running +=
                usize::from(attempts.last().is_some_and(|attempt| attempt.finished_at.is_none()));
        }
        assert_eq!(running, held, "a lease has not ended on time");
    }
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn twenty_consumers_share_an_inbox_and_each_event_is_delivered_once() {
    let (engine, tenant) = (engine(5), tenant("acme"));
    let store = store(&engine, 5);
    let node = node(&store, "n@1").await;
    let ids = append(&node.router(), &tenant, 2_000).await;
    let handled: Arc<Mutex<Vec<EventId>>> = Arc::default();
    let mut consumers = Vec::new();
    for _ in 0..20 {
        let (router, tenant, handled) = (node.router(), tenant.clone(), handled.clone());
        consumers.push(tokio::spawn(async move {
            loop {
                let leased = lease(&router, &tenant, 25, 60).await;
                if leased.is_empty() {
                    return;
                }
                handled.lock().unwrap().extend(leased.iter().map(|leased| leased.event.id));
                for leased in leased {
                    let (id, token) = (leased.event.id, Some(leased.token));
                    let acknowledge = Acknowledge { id, token };
                    let acknowledged = router.change(&tenant, acknowledge, in_seconds(10)).await;
                    acknowledged.unwrap().unwrap();
                }
            }
        }));
    }
    for consumer in consumers {
        consumer.await.unwrap();
    }
    let mut handled = handled.lock().unwrap().clone();
    handled.sort();
    assert_eq!(handled, ids);
    assert_eq!(status(&node.router(), &tenant, EventStatus::Delivered).await, ids);
}

/// Consumers on a store that loses answers: a consumer whose token was never rejected holds the
/// event alone.
#[test]
fn at_most_one_consumer_holds_an_event_on_a_faulty_store() {
    for seed in 0..25 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(faulty_consumers(seed));
    }
}

async fn faulty_consumers(seed: u64) {
    let engine = SimulatedEngine::new(SimulatedOptions {
        latency_us_min: 50,
        latency_us_max: 2_000,
        conflict_per_mille: 50,
        unknown_committed_per_mille: 80,
        unknown_not_committed_per_mille: 50,
        late_commit_per_mille: 30,
        late_commit_ms_max: 3_000,
        ..SimulatedOptions::new(seed)
    });
    let (store, tenant) = (store(&engine, seed), tenant("acme"));
    let node = node(&store, "n@1").await;
    let mut ids = BTreeSet::new();
    while ids.len() < 60 {
        let append = fixture::append(vec![event("{}", None); 20]);
        let appended = node.router().append(&tenant, append, in_seconds(10)).await;
        ids.extend(appended.into_iter().flatten().flatten().map(|accepted| accepted.event.id));
    }
    let events = Arc::<SharedEvents>::default();
    let mut consumers = Vec::new();
    for number in 0..6 {
        let (router, tenant, events) = (node.router(), tenant.clone(), events.clone());
        let random = seed ^ (number << 20);
        consumers.push(tokio::spawn(async move { events.consume(&router, &tenant, random).await }));
    }
    for consumer in consumers {
        consumer.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    engine.set_options(SimulatedOptions::new(seed));
    tokio::time::sleep(Duration::from_secs(100)).await;
    let delivered = status(&node.router(), &tenant, EventStatus::Delivered).await;
    let mut all: BTreeSet<EventId> = delivered.iter().copied().collect();
    for other in [EventStatus::Received, EventStatus::Queued, EventStatus::Failed] {
        all.extend(status(&node.router(), &tenant, other).await);
    }
    assert!(ids.is_subset(&all), "seed {seed}: an event is lost");
    let acknowledged = events.acknowledged.lock().unwrap();
    assert!(
        acknowledged.iter().all(|id| delivered.contains(id)),
        "seed {seed}: an acknowledged event is back"
    );
}

/// What the consumers know about the events.
#[derive(Default)]
struct SharedEvents {
    /// Leased events, each with the end of its lease.
    held: Mutex<BTreeMap<EventId, Instant>>,
    acknowledged: Mutex<BTreeSet<EventId>>,
}

impl SharedEvents {
    async fn consume(&self, router: &Router, tenant: &TenantId, mut random: u64) {
        for _ in 0..40 {
            let visibility = Duration::from_secs(30);
            let request = Lease { limit: 5, event_types: Vec::new(), visibility, after: None };
            let began = Instant::now();
            let leased = match router.execute(tenant, request, in_seconds(10)).await {
                Ok(reply) => reply.events,
                Err(BrokerError::Unknown | BrokerError::DeadlinePassed | BrokerError::NodeBusy) => {
                    continue;
                }
                Err(other) => panic!("{other}"),
            };
            for leased in &leased {
                let until = self.held.lock().unwrap().insert(leased.event.id, began + visibility);
                assert!(
                    until.is_none_or(|until| until <= Instant::now()),
                    "two consumers hold {}",
                    leased.event.id
                );
                assert!(
                    !self.acknowledged.lock().unwrap().contains(&leased.event.id),
                    "an acknowledged event is back"
                );
            }
            tokio::time::sleep(Duration::from_millis(next(&mut random) % 500)).await;
            for leased in leased {
                let id = leased.event.id;
                let acknowledge = Acknowledge { id, token: Some(leased.token) };
                match router.change(tenant, acknowledge, in_seconds(10)).await {
                    Ok(Ok(_)) => drop(self.acknowledged.lock().unwrap().insert(id)),
                    Ok(Err(Unchanged::Conflict)) => {
                        assert!(Instant::now() >= began + visibility, "a valid token was rejected")
                    }
                    Ok(Err(other)) => panic!("{other:?}"),
                    Err(_) => {}
                }
            }
        }
    }
}
