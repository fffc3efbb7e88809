//! Webhooks in virtual time: which endpoint gets which event and when, and the effect of failures.

mod blame;
mod changes;
mod crashes;
mod lanes;
mod retention;

use crate::fixture::{
    VirtualClock, append, event, in_seconds, list_all, start_with, store_on, tenant,
};
use crate::receivers::{Behaviour, Receivers};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::{BrokerOptions, Node, Router};
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{
    EventId, EventStatus, EventTypePattern, RetryPolicy, SubscriptionId, TenantId, Timestamp,
};
use triggers_store::kv::Store;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::tables::batch::Initiator;
use triggers_store::tables::operations::{
    ChangeSubscription, CreateSubscription, DeleteEvent, DeleteSubscription, Lease, Replay,
    SubscriptionChange, TooManySubscriptions,
};
use triggers_store::tables::rows::{
    Actor, AttemptOutcome, AuditAction, DisabledReason, SubscriptionKey, SubscriptionRow,
    SubscriptionStatus,
};

pub const URL: &str = "https://one.example/hook";
pub const OTHER_URL: &str = "https://two.example/hook";

/// A node with simulated endpoints.
pub struct Bench {
    pub engine: SimulatedEngine,
    pub store: Store,
    pub receivers: Receivers,
    pub node: Node,
    pub tenant: TenantId,
    pub clock: VirtualClock,
}

impl Bench {
    pub async fn start(seed: u64) -> Self {
        Self::with(seed, BrokerOptions::default()).await
    }

    pub async fn with(seed: u64, options: BrokerOptions) -> Self {
        let engine = SimulatedEngine::new(SimulatedOptions {
            latency_us_min: 100,
            latency_us_max: 500,
            ..SimulatedOptions::new(seed)
        });
        let clock = VirtualClock::start();
        let (store, receivers) = (store_on(&engine, seed, clock.clone()), Receivers::default());
        let node = start_with(&store, &receivers, options, "n@1").await;
        Self { engine, store, receivers, node, tenant: tenant("acme"), clock }
    }

    pub fn router(&self) -> Router {
        self.node.router()
    }

    /// Creates a subscription to all events.
    pub async fn subscribe(&self, url: &str, delays_seconds: &[u32]) -> SubscriptionId {
        self.subscribe_as(subscription(&self.store, url, delays_seconds)).await
    }

    pub async fn subscribe_as(&self, row: SubscriptionRow) -> SubscriptionId {
        let create = CreateSubscription { row, by: by() };
        self.router().execute(&self.tenant, create, in_seconds(5)).await.unwrap().unwrap().id
    }

    pub async fn append(&self, count: usize) -> Vec<EventId> {
        let events = (0..count).map(|n| event(&format!("{{\"n\":{n}}}"), None)).collect();
        let results =
            self.router().append(&self.tenant, append(events), in_seconds(30)).await.unwrap();
        results.into_iter().map(|result| result.unwrap().event.id).collect()
    }

    pub async fn status(&self, status: EventStatus) -> Vec<EventId> {
        let (events, total) = list_all(&self.router(), &self.tenant, status).await;
        assert_eq!(total, events.len() as i64, "the counter differs from a recount");
        events.iter().map(|event| event.id).collect()
    }

    /// Waits until `count` events have a status; virtual time makes this fast.
    pub async fn reaches(&self, status: EventStatus, count: usize) -> Vec<EventId> {
        let began = Instant::now();
        loop {
            // Events change status while pages are read, so the total is not compared here.
            let (events, _) = list_all(&self.router(), &self.tenant, status).await;
            let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
            if ids.len() >= count {
                return ids;
            }
            assert!(
                began.elapsed() < Duration::from_secs(1_000_000),
                "{status}: {} of {count}",
                ids.len()
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    pub async fn subscription(&self, id: SubscriptionId) -> Option<SubscriptionRow> {
        self.router().find_subscription(&self.tenant, id, in_seconds(5)).await.unwrap()
    }

    pub async fn change(&self, id: SubscriptionId, change: SubscriptionChange) {
        let change = ChangeSubscription { id, change, by: by() };
        let changed = self.router().execute(&self.tenant, change, in_seconds(5)).await;
        changed.unwrap().unwrap();
    }

    /// Deletes a subscription; true if it existed.
    pub async fn unsubscribe(&self, id: SubscriptionId) -> bool {
        let delete = DeleteSubscription { id, by: by() };
        self.router().execute(&self.tenant, delete, in_seconds(5)).await.unwrap()
    }

    pub async fn replay(&self, id: EventId) -> EventStatus {
        let replayed = self.router().change(&self.tenant, Replay { id }, in_seconds(5)).await;
        replayed.unwrap().unwrap().state.status
    }
}

pub fn by() -> Initiator {
    Initiator { actor: Actor::Key([7; 16]), source_ip: "::1".into(), request_id: "r".into() }
}

pub fn subscription(store: &Store, url: &str, delays_seconds: &[u32]) -> SubscriptionRow {
    let environment = store.environment();
    let now = environment.now();
    SubscriptionRow {
        id: SubscriptionId::mint(now, environment.bytes()),
        target_url: url.into(),
        event_types: Vec::new(),
        description: None,
        keys: vec![SubscriptionKey { key: SigningKey::HmacSha256(vec![1; 32]), ends_at: None }],
        retry_policy: Some(RetryPolicy::Delays { delays_seconds: delays_seconds.to_vec() }),
        max_in_flight: 32,
        status: SubscriptionStatus::Active,
        failing_since: None,
        held_until: None,
        created_at: now,
        updated_at: now,
        changed_by: 0,
    }
}

/// True if a wait was the delay, with up to 20 % of jitter and a second for commits and timers.
fn fits(waited: Duration, delay_seconds: u32) -> bool {
    let (least, most) = (0.8 * f64::from(delay_seconds), 1.2 * f64::from(delay_seconds) + 1.0);
    (least..=most).contains(&waited.as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn an_event_is_pushed_once_to_a_healthy_endpoint() {
    let bench = Bench::start(1).await;
    let subscription = bench.subscribe(URL, &[60]).await;
    let ids = bench.append(200).await;
    assert_eq!(bench.reaches(EventStatus::Delivered, 200).await, ids);
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    let mut seen: Vec<_> = bench.receivers.seen(URL).iter().map(|seen| seen.id).collect();
    seen.sort();
    assert_eq!(seen, ids, "each once");
    assert!(bench.receivers.in_flight_max(URL) <= 32, "DISPATCH-2");
    let page = bench
        .router()
        .subscription_attempts(&bench.tenant, subscription, None, 150, in_seconds(5))
        .await;
    let page = page.unwrap().unwrap();
    let rest = bench
        .router()
        .subscription_attempts(&bench.tenant, subscription, page.next, 150, in_seconds(5))
        .await;
    let rest = rest.unwrap().unwrap();
    assert_eq!((page.attempts.len(), rest.attempts.len(), rest.next), (150, 50, None));
    let mut listed: Vec<_> =
        page.attempts.iter().chain(&rest.attempts).map(|(id, _)| *id).collect();
    listed.sort();
    assert_eq!(listed, ids, "SUBSCRIPTIONS-2");
    let times: Vec<_> = page.attempts.iter().map(|(_, logged)| logged.attempt.started_at).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
}

#[tokio::test(start_paused = true)]
async fn the_retry_policy_has_the_schedule_and_after_it_the_event_is_failed() {
    let bench = Bench::start(2).await;
    bench.receivers.set(URL, Behaviour::Answer(500));
    bench.subscribe(URL, &[60, 300]).await;
    let id = bench.append(1).await[0];
    assert_eq!(bench.reaches(EventStatus::Failed, 1).await, [id]);
    let seen = bench.receivers.seen(URL);
    assert_eq!(
        seen.iter().map(|seen| (seen.id, seen.attempts)).collect::<Vec<_>>(),
        [(id, 1), (id, 2), (id, 3)]
    );
    assert!(fits(seen[1].at - seen[0].at, 60), "{seen:?}");
    assert!(fits(seen[2].at - seen[1].at, 300), "{seen:?}");
    let (_, delivery) =
        bench.router().find_with_delivery(&bench.tenant, id, in_seconds(5)).await.unwrap();
    let attempts = delivery.attempts;
    assert_eq!(attempts.len(), 3);
    for attempt in &attempts {
        assert_eq!((attempt.outcome, attempt.http_status), (AttemptOutcome::Failed, Some(500)));
        assert_eq!(attempt.error.as_deref(), Some("the endpoint answered 500"));
        assert!(attempt.finished_at.is_some() && attempt.subscription.is_some());
    }
    // A replay always has an effect, and the policy starts again.
    bench.receivers.set(URL, Behaviour::Answer(503));
    assert_eq!(bench.replay(id).await, EventStatus::Queued);
    tokio::time::sleep(Duration::from_secs(10)).await;
    bench.receivers.set(URL, Behaviour::Answer(204));
    assert_eq!(bench.reaches(EventStatus::Delivered, 1).await, [id]);
    let seen = bench.receivers.seen(URL);
    assert_eq!(seen.iter().map(|seen| seen.attempts).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(fits(seen[4].at - seen[3].at, 60), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_failure_is_tried_again() {
    let kinds = [
        Behaviour::Refuse,
        Behaviour::Hang,
        Behaviour::Answer(302),
        Behaviour::Answer(404),
        Behaviour::AnswerAfter(Duration::from_secs(14), 500),
        Behaviour::AnswerAfter(Duration::from_secs(20), 200),
    ];
    for (seed, kind) in (10..).zip(kinds) {
        let bench = Bench::start(seed).await;
        bench.receivers.set(URL, kind);
        bench.subscribe(URL, &[100]).await;
        let id = bench.append(1).await[0];
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert_eq!(bench.status(EventStatus::Queued).await, [id], "{kind:?}");
        bench.receivers.set(URL, Behaviour::Answer(200));
        assert_eq!(bench.reaches(EventStatus::Delivered, 1).await, [id], "{kind:?}");
        assert_eq!(bench.receivers.seen(URL).len(), 2, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asks_for_a_wait_gets_it() {
    let bench = Bench::start(20).await;
    bench.receivers.set(URL, Behaviour::Busy(429, Duration::from_secs(500)));
    bench.subscribe(URL, &[1, 1]).await;
    let first = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(5)).await;
    // All deliveries to the endpoint pause, not only those of this event.
    let second = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.receivers.seen(URL).len(), 1);
    bench.receivers.set(URL, Behaviour::Answer(200));
    bench.reaches(EventStatus::Delivered, 2).await;
    let seen = bench.receivers.seen(URL);
    assert!(
        seen[1..].iter().all(|later| (later.at - seen[0].at).as_secs_f64() >= 500.0),
        "{seen:?}"
    );
    assert!((seen[2].at - seen[0].at).as_secs_f64() < 502.0, "{seen:?}");
    assert!(
        seen[1..].iter().any(|seen| seen.id == first)
            && seen[1..].iter().any(|seen| seen.id == second)
    );
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_gone_disables_its_subscription() {
    let bench = Bench::start(21).await;
    bench.receivers.set(URL, Behaviour::Refuse);
    let id = bench.subscribe(URL, &[600, 600]).await;
    let waiting = bench.append(5).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.status(EventStatus::Queued).await, waiting);
    bench.receivers.set(URL, Behaviour::Answer(410));
    bench.append(1).await;
    let failed = bench.reaches(EventStatus::Failed, 6).await;
    assert!(waiting.iter().all(|id| failed.contains(id)), "waiting webhooks are given up");
    let SubscriptionStatus::Disabled { reason, .. } = bench.subscription(id).await.unwrap().status
    else {
        panic!("the subscription is not disabled")
    };
    assert_eq!(reason, DisabledReason::Gone);
    let audit = bench.router().audit(&bench.tenant, None, 10, in_seconds(5)).await.unwrap();
    assert_eq!(
        (audit.entries[0].2.action, &audit.entries[0].2.actor),
        (AuditAction::SubscriptionDisabled, &Actor::Broker)
    );
    assert_eq!(audit.entries[1].2.action, AuditAction::SubscriptionCreated);
    // Without an active subscription events wait for consumers.
    let later = bench.append(1).await;
    assert_eq!(bench.status(EventStatus::Received).await, later);
    // An activated subscription gets replayed events.
    bench.receivers.set(URL, Behaviour::Answer(200));
    bench
        .change(id, SubscriptionChange { active: Some(true), ..SubscriptionChange::default() })
        .await;
    for id in &failed {
        bench.replay(*id).await;
    }
    assert_eq!(bench.reaches(EventStatus::Delivered, 6).await, failed);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_for_days_disables_its_subscription() {
    let bench = Bench::start(22).await;
    bench.receivers.set(URL, Behaviour::Answer(500));
    let id = bench.subscribe(URL, &[3_600; 20]).await;
    let mut days = 0;
    while bench.subscription(id).await.unwrap().is_active() {
        assert!(days <= 6, "it is still active after {days} days");
        bench.append(1).await;
        bench.clock.jump(Duration::from_secs(83_000));
        tokio::time::sleep(Duration::from_secs(3_400)).await;
        days += 1;
    }
    assert!(days >= 5, "it was disabled after {days} days");
    let status = bench.subscription(id).await.unwrap().status;
    assert!(
        matches!(status, SubscriptionStatus::Disabled { reason: DisabledReason::Failing, .. }),
        "{status:?}"
    );
    assert!(bench.reaches(EventStatus::Failed, days).await.len() == days, "no event is stuck");
}

#[tokio::test(start_paused = true)]
async fn each_subscription_gets_the_events_it_selects_and_one_success_delivers() {
    let bench = Bench::start(23).await;
    bench.receivers.set(OTHER_URL, Behaviour::Answer(500));
    let good = bench.subscribe(URL, &[]).await;
    let bad = bench.subscribe(OTHER_URL, &[60]).await;
    let mut none = subscription(&bench.store, "https://three.example/", &[]);
    none.event_types = vec![EventTypePattern::parse("invoice.*").unwrap()];
    bench.subscribe_as(none).await;
    let id = bench.append(1).await[0];
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.status(EventStatus::Queued).await, [id], "PUSH-2: one of two is not done");
    assert_eq!(bench.reaches(EventStatus::Delivered, 1).await, [id], "PUSH-2");
    assert_eq!((bench.receivers.seen(URL).len(), bench.receivers.seen(OTHER_URL).len()), (1, 2));
    assert!(bench.receivers.seen("https://three.example/").is_empty());
    let (_, delivery) =
        bench.router().find_with_delivery(&bench.tenant, id, in_seconds(5)).await.unwrap();
    let attempts = delivery.attempts;
    let of = |subscription| {
        attempts.iter().filter(|attempt| attempt.subscription == Some(subscription)).count()
    };
    assert_eq!((of(good), of(bad)), (1, 2));
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_cannot_lease_a_pushed_event_but_may_acknowledge_it() {
    let bench = Bench::start(24).await;
    bench.receivers.set(URL, Behaviour::Refuse);
    bench.subscribe(URL, &[600]).await;
    let ids = bench.append(3).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let wish = Lease {
        limit: 10,
        event_types: Vec::new(),
        visibility: Duration::from_secs(60),
        after: None,
    };
    assert!(
        bench.router().execute(&bench.tenant, wish, in_seconds(5)).await.unwrap().events.is_empty(),
        "PUSH-3"
    );
    bench.router().acknowledge_all(&bench.tenant, &ids[..2], in_seconds(5)).await.unwrap();
    let delete = DeleteEvent { id: ids[2] };
    bench.router().execute(&bench.tenant, delete, in_seconds(5)).await.unwrap().unwrap();
    bench.receivers.set(URL, Behaviour::Answer(200));
    tokio::time::sleep(Duration::from_secs(2_000)).await;
    assert_eq!(bench.receivers.seen(URL).len(), 3, "no webhook was sent again");
    assert_eq!(bench.status(EventStatus::Delivered).await, ids[..2]);
    assert!(bench.status(EventStatus::Queued).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_removed_gives_its_events_up() {
    let bench = Bench::start(25).await;
    bench.receivers.set(URL, Behaviour::Refuse);
    let id = bench.subscribe(URL, &[600]).await;
    let ids = bench.append(450).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(bench.unsubscribe(id).await);
    assert!(bench.subscription(id).await.is_none(), "SUBSCRIPTIONS-1");
    assert!(!bench.unsubscribe(id).await);
    assert_eq!(bench.reaches(EventStatus::Failed, 450).await, ids);
    assert_eq!(bench.replay(ids[0]).await, EventStatus::Received, "it waits for a consumer now");
    let seen = bench.receivers.seen(URL).len();
    tokio::time::sleep(Duration::from_secs(2_000)).await;
    assert_eq!(bench.receivers.seen(URL).len(), seen);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_signs_beside_the_new_one_for_its_grace() {
    let bench = Bench::start(26).await;
    let id = bench.subscribe(URL, &[]).await;
    let now = bench.store.environment().now();
    let key = (SigningKey::HmacSha256(vec![2; 32]), now.plus(Duration::from_secs(100)));
    bench.change(id, SubscriptionChange { key: Some(key), ..SubscriptionChange::default() }).await;
    let row = bench.subscription(id).await.unwrap();
    let at = |seconds: u64| row.signing_keys(now.plus(Duration::from_secs(seconds))).len();
    assert_eq!((at(0), at(99), at(100)), (2, 2, 1));
    assert_eq!(
        row.signing_keys(Timestamp::EPOCH)[0],
        SigningKey::HmacSha256(vec![2; 32]),
        "the newest first"
    );
}

#[tokio::test(start_paused = true)]
async fn the_number_of_subscriptions_is_bounded() {
    let mut options = BrokerOptions::default();
    options.delivery.subscriptions_max = 2;
    let bench = Bench::with(27, options).await;
    let first = bench.subscribe(URL, &[]).await;
    bench.subscribe(URL, &[]).await;
    let third = subscription(&bench.store, URL, &[]);
    let create = CreateSubscription { row: third.clone(), by: by() };
    let rejected = bench.router().execute(&bench.tenant, create, in_seconds(5)).await.unwrap();
    assert_eq!(rejected, Err(TooManySubscriptions), "SUBSCRIBE-1");
    assert!(bench.unsubscribe(first).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.subscribe_as(third).await;
}
