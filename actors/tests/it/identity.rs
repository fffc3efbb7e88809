//! Two different requests are two, also in the same millisecond: every operation twice, through the
//! router of a node whose wall clock stands still (`OP-2`).

use crate::fixture::{append, event, in_seconds, start, store_on, tenant};
use crate::push::{URL, by, subscription};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::{BrokerOptions, Node};
use triggers_protocol::environment::Clock;
use triggers_protocol::{EventId, TenantId, Timestamp};
use triggers_store::kv::Store;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::tables::inbox::Missing;
use triggers_store::tables::operations::{
    Acknowledge, ChangeSubscription, Changed, CreateSubscription, DeleteEvent, DeleteSubscription,
    ExtendLease, Lease, Leased, Nack, Operation, Replay, SubscriptionChange, TooManySubscriptions,
    Unchanged,
};

/// A wall clock that stands still.
struct StandingClock(Instant);

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

struct Bench {
    store: Store,
    node: Node,
    tenant: TenantId,
}

impl Bench {
    async fn start(seed: u64) -> Self {
        let engine = SimulatedEngine::new(SimulatedOptions::new(seed));
        let store = store_on(&engine, seed, StandingClock(Instant::now()));
        let mut options = BrokerOptions::default();
        options.delivery.subscriptions_max = 2;
        let node = start(&store, options, "n@1").await;
        Self { store, node, tenant: tenant("acme") }
    }

    async fn execute<O: Operation>(&self, operation: O) -> O::Reply {
        self.node.router().execute(&self.tenant, operation, in_seconds(5)).await.unwrap()
    }

    /// Executes the same operation twice, as two requests.
    async fn twice<O: Operation + Clone>(&self, operation: O) -> [O::Reply; 2] {
        [self.execute(operation.clone()).await, self.execute(operation).await]
    }

    /// Changes an event twice, and says why a change was not made.
    async fn changed_twice<O: Operation<Reply = Changed> + Clone>(
        &self,
        operation: O,
    ) -> [Result<(), Unchanged>; 2] {
        self.twice(operation).await.map(|changed| changed.map(drop))
    }

    async fn append(&self) -> EventId {
        let results = self.execute(append(vec![event("{}", None)])).await;
        results[0].as_ref().unwrap().event.id
    }

    async fn lease(&self) -> Vec<Leased> {
        let visibility = Duration::from_secs(60);
        self.execute(Lease { limit: 1, event_types: Vec::new(), visibility, after: None })
            .await
            .events
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_accepted_and_deleted_by_one_request_each() {
    let bench = Bench::start(1).await;
    let (first, second) = (bench.append().await, bench.append().await);
    assert!(first < second);
    let [first_keyed, again] = bench.twice(append(vec![event("{}", Some("key"))])).await;
    let (first_keyed, again) = (first_keyed[0].as_ref().unwrap(), again[0].as_ref().unwrap());
    assert_eq!(first_keyed.event.id, again.event.id);
    assert!(!first_keyed.replayed && again.replayed);
    let deleted = bench.twice(DeleteEvent { id: first }).await;
    assert_eq!(deleted, [Ok(()), Err(Missing::Gone)]);
}

#[tokio::test(start_paused = true)]
async fn leased_events_are_changed_by_one_request_each() {
    let bench = Bench::start(2).await;
    let id = bench.append().await;
    let leased = bench.lease().await.remove(0);
    assert!(bench.lease().await.is_empty(), "LEASE-1");
    let extend = ExtendLease { id, token: leased.token, visibility: Duration::from_secs(60) };
    assert_eq!(bench.changed_twice(extend).await, [Ok(()), Ok(())], "the lease still holds");
    let nack = Nack { id, token: None, reason: None, retry_after: Some(Duration::ZERO) };
    assert_eq!(bench.changed_twice(nack).await, [Ok(()), Err(Unchanged::Conflict)]);
    assert_eq!(bench.lease().await.len(), 1);
    let acknowledge = Acknowledge { id, token: None };
    assert_eq!(bench.changed_twice(acknowledge).await, [Ok(()), Ok(())], "LIFECYCLE-2");
    let replayed = bench.changed_twice(Replay { id }).await;
    assert_eq!(replayed, [Ok(()), Err(Unchanged::Conflict)]);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_changed_by_one_request_each() {
    let bench = Bench::start(3).await;
    let create = || CreateSubscription { row: subscription(&bench.store, URL, &[]), by: by() };
    let (first, second) = (bench.execute(create()).await, bench.execute(create()).await);
    let id = first.unwrap().id;
    assert_ne!(id, second.unwrap().id);
    assert_eq!(bench.execute(create()).await, Err(TooManySubscriptions));
    for active in [false, true] {
        let change = SubscriptionChange { active: Some(active), ..SubscriptionChange::default() };
        let changed = bench.execute(ChangeSubscription { id, change, by: by() }).await;
        assert_eq!(changed.unwrap().is_active(), active);
    }
    assert_eq!(bench.twice(DeleteSubscription { id, by: by() }).await, [true, false]);
}
