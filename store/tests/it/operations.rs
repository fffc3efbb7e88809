//! Tests that every operation repeated with the same stamp gives the same reply and changes nothing
//! more (`OP-1`).

use bytes::Bytes;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::webhook::SigningKey;
use triggers_protocol::{
    Environment, EventId, EventType, PartitionId, SubscriptionId, TenantId, Timestamp,
};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{KeyRange, RangeRead, Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{
    Applied, Batch, BatchPlan, EndpointHealth, Initiator, Notice, OperationLimits,
};
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::inbox::{Counts, Missing};
use triggers_store::tables::keys::{self, TenantKeys};
use triggers_store::tables::operations::{
    Acknowledge, AcknowledgeAll, Append, AttemptResult, ChangeSubscription, ClaimAttempts,
    CompleteAttempt, CreateSubscription, DeleteEvent, DeleteSubscription, ExtendLease,
    GiveUpWebhooks, IdempotencyKey, Lease, Nack, NewEvent, NotRecovered, Operation, Recover,
    Rejection, Replay, Stamp, SubscriptionChange,
};
use triggers_store::tables::rows::{SubscriptionKey, SubscriptionRow, SubscriptionStatus};

const LIMITS: OperationLimits = OperationLimits {
    idempotency_retention: Duration::from_secs(3_600),
    attempt_time: Duration::from_secs(25),
    disable_after: Duration::from_secs(3_600),
    subscriptions_max: 3,
    lease_scan_rows_max: 2_000,
};

fn now() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

fn run() -> Run {
    Run::idempotent(Instant::now() + Duration::from_secs(60))
}

/// Runs operations on one tenant, without an actor.
struct Inbox {
    store: Store,
    guard: Guard,
    keys: TenantKeys,
    last_id: EventId,
    counts: Counts,
    nonce: u64,
}

impl Inbox {
    async fn open() -> Self {
        let engine = Arc::new(SimulatedEngine::new(SimulatedOptions::new(7)));
        let store = Store::new(engine, Environment::system());
        let tenant = TenantId::parse("acme").unwrap();
        let partition = PartitionId::of(&tenant, 16);
        let own = [partition];
        let guards = store.run(run(), |tx| Box::pin(fence::take(tx, &own, "node@1"))).await;
        Self {
            store,
            guard: guards.unwrap().remove(0),
            keys: TenantKeys::new(partition, &tenant),
            last_id: EventId::ZERO,
            counts: Counts::default(),
            nonce: 0,
        }
    }

    /// Commits an operation twice with one stamp, and compares the replies, notices and rows.
    async fn twice<O: Operation>(&mut self, operation: O) -> (O::Reply, Vec<Notice>)
    where
        O::Reply: Debug + PartialEq,
    {
        self.nonce += 1;
        let mut minted_id = self.last_id;
        let ids = (0..operation.footprint().new_events).map(|_| {
            minted_id = EventId::mint(minted_id, now(), [3; 16]);
            Some(minted_id)
        });
        let ids = ids.collect();
        let stamp = Stamp {
            at: now(),
            nonce: self.nonce,
            secret: [5; 16],
            ids,
            lease_after: None,
            webhook_mark: None,
        };
        let (last_id, counts) = (self.last_id, self.counts);
        let plan = BatchPlan { last_id, minted_id, received_at: now(), counts, limits: LIMITS };
        let (reply, applied) = self.apply(&operation, &stamp, plan).await;
        let rows = self.rows().await;
        let (again, applied_again) = self.apply(&operation, &stamp, plan).await;
        assert_eq!(again, reply, "{operation:?}");
        assert_eq!(applied_again.notices, applied.notices, "{operation:?}");
        assert_eq!(applied_again.counts, applied.counts, "{operation:?}");
        assert_eq!(applied_again.last_id, applied.last_id, "{operation:?}");
        assert!(self.rows().await == rows, "the second run changed rows: {operation:?}");
        (self.last_id, self.counts) = (applied.last_id, applied.counts);
        (reply, applied.notices)
    }

    async fn apply<O: Operation>(
        &self,
        operation: &O,
        stamp: &Stamp,
        plan: BatchPlan,
    ) -> (O::Reply, Applied) {
        let (guard, keys) = (&self.guard, &self.keys);
        let applied: Result<_, TableError> = self
            .store
            .run(run(), |tx| {
                Box::pin(async move {
                    let mut batch = Batch::begin(tx, guard, keys, plan).await?;
                    let reply = operation.apply(&mut batch, tx, stamp).await?;
                    Ok((reply, batch.finish(tx).await?))
                })
            })
            .await;
        applied.unwrap()
    }

    /// All stored rows except the wake-up pointer, which a second run may move to an earlier time.
    async fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let range = KeyRange::new(&[0][..], &[0xff][..]);
        let page: Result<_, TableError> = self
            .store
            .run(run(), |tx| {
                let range = range.clone();
                Box::pin(
                    async move { Ok(tx.range_snapshot(RangeRead::first(range, 10_000)).await?) },
                )
            })
            .await;
        let mut pairs = page.unwrap().pairs;
        let head = self.keys.head();
        pairs.retain(|(key, _)| **key != *head && keys::parse_wake(key).is_none());
        pairs
    }

    async fn append(&mut self) -> EventId {
        let (results, _) = self.twice(append(None, None)).await;
        results[0].as_ref().unwrap().event.id
    }

    async fn subscribe(&mut self, number: u8) -> SubscriptionId {
        let create = CreateSubscription { row: subscription(number), by: Initiator::BROKER };
        self.twice(create).await.0.unwrap().id
    }
}

fn append(key: Option<u8>, waiting_events_max: Option<u64>) -> Append {
    let event = NewEvent {
        event_type: EventType::parse("order.created").unwrap(),
        timestamp: None,
        payload: Bytes::from_static(b"{}"),
        metadata: Arc::default(),
        idempotency: key.map(|key| IdempotencyKey { hash: [key; 16], request_digest: [key; 32] }),
    };
    Append { events: vec![event; 2], waiting_events_max }
}

fn subscription(number: u8) -> SubscriptionRow {
    SubscriptionRow {
        id: SubscriptionId::from_bytes([number; 16]),
        target_url: "https://one.example/".to_owned(),
        event_types: Vec::new(),
        description: None,
        keys: vec![SubscriptionKey { key: SigningKey::HmacSha256(vec![1; 32]), ends_at: None }],
        retry_policy: None,
        max_in_flight: 5,
        status: SubscriptionStatus::Active,
        failing_since: None,
        held_until: None,
        created_at: now(),
        updated_at: now(),
        changed_by: 0,
    }
}

#[tokio::test]
async fn a_repeated_append_gives_the_same_reply() {
    let mut inbox = Inbox::open().await;
    inbox.twice(append(None, None)).await;
    let (results, _) = inbox.twice(append(Some(1), None)).await;
    let replayed: Vec<_> = results.iter().map(|result| result.as_ref().unwrap().replayed).collect();
    assert_eq!(replayed, [false, true], "the second event has the key of the first one");
    let (results, _) = inbox.twice(append(None, Some(4))).await;
    assert!(results[0].is_ok(), "three are waiting");
    assert_eq!(results[1], Err(Rejection::QuotaExceeded));
    let (results, _) = inbox.twice(append(Some(1), Some(4))).await;
    assert!(results.iter().all(Result::is_ok), "APPEND-3");
}

#[tokio::test]
async fn a_repeated_operation_on_an_event_gives_the_same_reply() {
    let mut inbox = Inbox::open().await;
    let id = inbox.append().await;
    let visibility = Duration::from_secs(60);
    let lease = Lease { limit: 1, event_types: Vec::new(), visibility, after: None };
    let leased = inbox.twice(lease.clone()).await.0.events.remove(0);
    let extend = ExtendLease { id, token: leased.token, visibility };
    inbox.twice(extend).await.0.unwrap();
    let nack =
        Nack { id, token: Some(leased.token), reason: None, retry_after: Some(Duration::ZERO) };
    inbox.twice(nack).await.0.unwrap();
    assert_eq!(inbox.twice(lease).await.0.events[0].event.id, id, "LEASE-4");
    inbox.twice(Acknowledge { id, token: None }).await.0.unwrap();
    inbox.twice(Replay { id }).await.0.unwrap();
    assert_eq!(inbox.twice(AcknowledgeAll { ids: vec![id] }).await.0, [Ok(())]);
    assert_eq!(inbox.twice(DeleteEvent { id }).await.0, Ok(()), "LIFECYCLE-3");
    assert_eq!(inbox.twice(DeleteEvent { id }).await.0, Err(Missing::Gone), "OP-2");
}

#[tokio::test]
async fn a_repeated_operation_on_webhooks_gives_the_same_notices() {
    let mut inbox = Inbox::open().await;
    let subscription = inbox.subscribe(1).await;
    inbox.append().await;
    let (_, notices) = inbox.twice(ClaimAttempts { subscription, limit: 1 }).await;
    let [Notice::Claimed { attempts, .. }] = &notices[..] else { panic!("{notices:?}") };
    let complete = CompleteAttempt {
        id: attempts[0].event.id,
        subscription,
        token: attempts[0].token,
        at: now(),
        result: AttemptResult::Failed { http_status: None, error: "why".into(), retry_after: None },
        health: EndpointHealth::Bad,
        target_url: "https://one.example/".to_owned(),
    };
    let (_, notices) = inbox.twice(complete.clone()).await;
    assert!(matches!(notices[..], [Notice::Completed { due: Some(_), .. }]), "{notices:?}");
    let (_, notices) = inbox.twice(ClaimAttempts { subscription, limit: 1 }).await;
    let [Notice::Claimed { attempts, .. }] = &notices[..] else { panic!("{notices:?}") };
    let unsent = CompleteAttempt {
        id: attempts[0].event.id,
        token: attempts[0].token,
        result: AttemptResult::Unsent,
        health: EndpointHealth::Unknown,
        ..complete
    };
    let (_, notices) = inbox.twice(unsent).await;
    assert!(matches!(notices[..], [Notice::Completed { due: Some(_), .. }]), "{notices:?}");
    let delete = DeleteSubscription { id: subscription, by: Initiator::BROKER };
    assert!(inbox.twice(delete.clone()).await.0);
    assert!(!inbox.twice(delete).await.0, "OP-2");
    let (_, notices) = inbox.twice(GiveUpWebhooks { subscription }).await;
    assert!(matches!(notices[..], [Notice::GaveUp { is_removed: true, .. }]), "{notices:?}");
}

#[tokio::test]
async fn a_repeated_recovery_gives_the_same_reply() {
    let mut inbox = Inbox::open().await;
    let (first, other) = (inbox.append().await, inbox.append().await);
    inbox.twice(Acknowledge { id: other, token: None }).await.0.unwrap();
    let subscription = inbox.subscribe(1).await;
    let later = inbox.append().await;
    let recover = Recover { subscription, ids: vec![first, other, later] };
    assert_eq!(inbox.twice(recover.clone()).await.0, Ok(1), "RECOVER-1");
    assert_eq!(inbox.twice(recover.clone()).await.0, Ok(0), "RECOVER-1");
    for (active, expected) in [(false, NotRecovered::Disabled), (true, NotRecovered::NotFound)] {
        if active {
            inbox.twice(DeleteSubscription { id: subscription, by: Initiator::BROKER }).await;
        } else {
            let change =
                SubscriptionChange { active: Some(false), ..SubscriptionChange::default() };
            let by = Initiator::BROKER;
            inbox.twice(ChangeSubscription { id: subscription, change, by }).await.0.unwrap();
        }
        assert_eq!(inbox.twice(recover.clone()).await.0, Err(expected));
    }
}

#[tokio::test]
async fn a_repeated_change_of_a_subscription_gives_the_same_reply() {
    let mut inbox = Inbox::open().await;
    let id = inbox.subscribe(1).await;
    for active in [false, true] {
        let change = SubscriptionChange { active: Some(active), ..SubscriptionChange::default() };
        let change = ChangeSubscription { id, change, by: Initiator::BROKER };
        assert_eq!(inbox.twice(change).await.0.unwrap().is_active(), active);
    }
    let create = CreateSubscription { row: subscription(2), by: Initiator::BROKER };
    inbox.twice(create).await.0.unwrap();
}
