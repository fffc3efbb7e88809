//! A node on a simulated store, with tokio's clock and a seeded random source.

use crate::receivers::Receivers;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::{BrokerOptions, Node, NodeArguments, Router};
use triggers_protocol::environment::{Clock, Random};
use triggers_protocol::{Environment, Event, EventId, EventStatus, EventType, TenantId, Timestamp};
use triggers_store::kv::Store;
use triggers_store::kv::simulated::SimulatedEngine;
use triggers_store::tables::inbox::PageQuery;
use triggers_store::tables::operations::{Append, IdempotencyKey, NewEvent};

pub const PARTITIONS: u16 = 4;

/// Tokio's clock. The wall clock can be set forward, so that days pass without their timers.
#[derive(Clone)]
pub struct VirtualClock {
    started: Instant,
    ahead: Arc<Mutex<Duration>>,
}

impl VirtualClock {
    pub fn start() -> Self {
        Self { started: Instant::now(), ahead: Arc::default() }
    }

    /// Sets the wall clock forward.
    pub fn jump(&self, by: Duration) {
        *self.ahead.lock().unwrap() += by;
    }

    /// Sets the wall clock back, at most by the time it was set forward.
    pub fn set_back(&self, by: Duration) {
        *self.ahead.lock().unwrap() -= by;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
            .plus(self.started.elapsed() + *self.ahead.lock().unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

struct SeededRandom(Mutex<u64>);

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for byte in bytes {
            *byte = next(&mut state) as u8;
        }
    }
}

/// One step of splitmix64, shifted to its best bits.
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn store(engine: &SimulatedEngine, seed: u64) -> Store {
    store_on(engine, seed, VirtualClock::start())
}

pub fn store_on(engine: &SimulatedEngine, seed: u64, clock: impl Clock + 'static) -> Store {
    Store::new(Arc::new(engine.clone()), environment(seed, clock))
}

pub fn environment(seed: u64, clock: impl Clock + 'static) -> Environment {
    Environment::new(Arc::new(clock), Arc::new(SeededRandom(Mutex::new(seed))))
}

pub async fn start(store: &Store, options: BrokerOptions, incarnation: &str) -> Node {
    start_with(store, &Receivers::default(), options, incarnation).await
}

/// Starts a node whose webhooks go to these endpoints.
pub async fn start_with(
    store: &Store,
    receivers: &Receivers,
    options: BrokerOptions,
    incarnation: &str,
) -> Node {
    let arguments = NodeArguments {
        store: store.clone(),
        sender: Arc::new(receivers.clone()),
        options,
        incarnation: incarnation.to_owned(),
    };
    Node::start(arguments, PARTITIONS).await.unwrap()
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

pub fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

pub fn event(payload: &str, key: Option<&str>) -> NewEvent {
    NewEvent {
        event_type: EventType::parse("order.created").unwrap(),
        timestamp: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        metadata: std::sync::Arc::default(),
        idempotency: key.map(|key| {
            let mut hash = [0; 16];
            hash[..key.len()].copy_from_slice(key.as_bytes());
            IdempotencyKey { hash, request_digest: [1; 32] }
        }),
    }
}

/// An append of events without a quota.
pub fn append(events: Vec<NewEvent>) -> Append {
    Append { events, waiting_events_max: None }
}

pub fn query(status: EventStatus, after: EventId, limit: usize) -> PageQuery {
    PageQuery {
        status,
        is_newest_first: false,
        after,
        limit,
        event_types: Vec::new(),
        from: None,
        to: None,
        scan_rows_max: 10_000,
        page_bytes_max: 8 << 20,
    }
}

/// Reads all pages of one status; returns the events and the total of the last page.
pub async fn list_all(
    router: &Router,
    tenant: &TenantId,
    status: EventStatus,
) -> (Vec<Event>, i64) {
    let (mut events, mut after) = (Vec::new(), EventId::ZERO);
    loop {
        let page = router.list(tenant, query(status, after, 7), in_seconds(60)).await.unwrap();
        events.extend(page.events);
        match page.next {
            Some(next) => after = next,
            None => return (events, page.total),
        }
    }
}
