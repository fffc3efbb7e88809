//! Leases with event types, compared with a filter over a list.

use super::{engine, set_policy};
use crate::fixture::{self, VirtualClock, in_seconds, next, start, store_on, tenant};
use std::collections::BTreeMap;
use std::time::Duration;
use triggers_actors::{BrokerOptions, Node, Router};
use triggers_protocol::{
    Event, EventId, EventStatus, EventType, EventTypePattern, TenantId, Timestamp,
};
use triggers_store::kv::Store;
use triggers_store::tables::operations::{
    Acknowledge, DeleteEvent, Lease, LeaseReply, Leased, Nack, Operation, Replay,
};
use triggers_store::tables::rows::LeaseToken;

const TYPES: [&str; 4] = ["common.one", "common.two", "rare.one", "rare.two"];
const FILTERS: [&[&str]; 5] =
    [&["rare.*"], &["rare.one"], &["common.two", "rare.two"], &["common.*"], &[]];

fn patterns(filter: &[&str]) -> Vec<EventTypePattern> {
    filter.iter().map(|text| EventTypePattern::parse(text).unwrap()).collect()
}

/// Whether an event can be leased: from this time on, or never as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Available {
    Received,
    Due(Timestamp),
    Held(LeaseToken),
    Done,
}

/// A tenant and a list of its events, kept by hand.
struct Model {
    store: Store,
    clock: VirtualClock,
    /// The wall clock is set forward.
    is_ahead: bool,
    node: Option<Node>,
    tenant: TenantId,
    random: u64,
    events: BTreeMap<EventId, (&'static str, Available)>,
}

impl Model {
    async fn start(seed: u64) -> Self {
        let clock = VirtualClock::start();
        let store = store_on(&engine(seed), seed, clock.clone());
        let tenant = tenant("acme");
        set_policy(&store, &tenant, &[1; 20]).await;
        let node = Self::node(&store, "n@1").await;
        Self {
            store,
            clock,
            is_ahead: false,
            node: Some(node),
            tenant,
            random: seed,
            events: BTreeMap::new(),
        }
    }

    async fn node(store: &Store, incarnation: &str) -> Node {
        let options = BrokerOptions { lease_scan_rows_max: 3, ..BrokerOptions::default() };
        start(store, options, incarnation).await
    }

    fn router(&self) -> Router {
        self.node.as_ref().unwrap().router()
    }

    fn below(&mut self, bound: u64) -> u64 {
        next(&mut self.random) % bound
    }

    async fn execute<O: Operation>(&self, operation: O) -> O::Reply {
        self.router().execute(&self.tenant, operation, in_seconds(60)).await.unwrap()
    }

    async fn append(&mut self, event_type: &'static str, count: usize) {
        let mut event = fixture::event("{}", None);
        event.event_type = EventType::parse(event_type).unwrap();
        for result in self.execute(fixture::append(vec![event; count])).await {
            let id = result.unwrap().event.id;
            self.events.insert(id, (event_type, Available::Received));
        }
    }

    /// Takes over what the store says about an event.
    fn follow(&mut self, event: &Event) {
        let known = self.events.get_mut(&event.id).unwrap();
        known.1 = match (event.state.status, event.state.next_retry_at) {
            (EventStatus::Received, _) => Available::Received,
            (EventStatus::Queued, Some(due)) => Available::Due(due),
            _ => Available::Done,
        };
    }

    /// One of the events in a state, if there is one.
    fn pick(&mut self, is_wanted: impl Fn(Available) -> bool) -> Option<(EventId, Available)> {
        let wanted = self.events.iter().filter(|(_, (_, available))| is_wanted(*available));
        let wanted: Vec<_> = wanted.map(|(id, (_, available))| (*id, *available)).collect();
        let index = self.below(wanted.len().max(1) as u64) as usize;
        wanted.get(index).copied()
    }

    /// The events that a filter selects and that are available at a time, in the order of leases.
    fn expected(&self, filter: &[&str], now: Timestamp) -> Vec<EventId> {
        let filter = patterns(filter);
        let mut found: Vec<(bool, Timestamp, EventId)> = Vec::new();
        for (id, (event_type, available)) in &self.events {
            match available {
                _ if !EventTypePattern::selects(&filter, event_type) => {}
                Available::Received => found.push((true, Timestamp::EPOCH, *id)),
                Available::Due(due) if *due <= now => found.push((false, *due, *id)),
                Available::Due(_) | Available::Held(_) | Available::Done => {}
            }
        }
        found.sort();
        found.into_iter().map(|(_, _, id)| id).collect()
    }

    /// Leases in steps, as the API does; checks the events against the list.
    async fn lease(&mut self, filter: &[&str], limit: usize, visibility: Duration) -> Vec<Leased> {
        let now = self.store.environment().steady();
        let event_types = patterns(filter);
        let mut lease = Lease { limit, event_types, visibility, after: None };
        let mut steps = 0;
        let LeaseReply { events, .. } = loop {
            let reply = self.execute(lease.clone()).await;
            steps += 1;
            if !reply.events.is_empty() || !reply.has_more {
                break reply;
            }
            assert!(steps <= 2 + self.events.len() / 2, "a step makes no progress");
            lease.after = Some(reply.position);
        };
        let expected = self.expected(filter, now);
        let later = self.expected(filter, self.store.environment().steady());
        let leased: Vec<_> = events.iter().map(|leased| leased.event.id).collect();
        if expected == later {
            let count = leased.len();
            assert_eq!(leased, expected[..count.min(expected.len())], "{filter:?}");
            assert!(count <= limit && (count > 0 || expected.is_empty()), "{filter:?} misses some");
        }
        for leased in &events {
            let known = self.events.get_mut(&leased.event.id).unwrap();
            known.1 = Available::Held(leased.token);
        }
        events
    }

    async fn step(&mut self) {
        let long = Duration::from_secs(100_000);
        match self.below(17) {
            0..=3 => {
                let common = self.below(2) as usize;
                let count = 1 + self.below(6) as usize;
                self.append(TYPES[common], count).await;
            }
            4 => {
                let rare = 2 + self.below(2) as usize;
                self.append(TYPES[rare], 1).await;
            }
            5..=8 => {
                let filter = FILTERS[self.below(5) as usize];
                let limit = 1 + self.below(4) as usize;
                self.lease(filter, limit, long).await;
            }
            9 => {
                // Leases that run out, each as a failed attempt.
                let filter = FILTERS[self.below(5) as usize];
                let leased = self.lease(filter, 3, Duration::from_secs(1)).await;
                tokio::time::sleep(Duration::from_secs(2)).await;
                for leased in leased {
                    let (router, id) = (self.router(), leased.event.id);
                    let event = router.find(&self.tenant, id, in_seconds(5)).await.unwrap();
                    self.follow(&event.unwrap());
                }
            }
            10 | 11 => {
                let retry_after = Some(Duration::from_secs(self.below(4)));
                let held = self.pick(|available| matches!(available, Available::Held(_)));
                let Some((id, Available::Held(token))) = held else { return };
                let nack = Nack { id, token: Some(token), reason: None, retry_after };
                let changed = self.router().change(&self.tenant, nack, in_seconds(5)).await;
                self.follow(&changed.unwrap().unwrap());
            }
            12 => {
                let Some((id, _)) = self.pick(|available| available != Available::Done) else {
                    return;
                };
                let acknowledge = Acknowledge { id, token: None };
                let changed = self.router().change(&self.tenant, acknowledge, in_seconds(5)).await;
                self.follow(&changed.unwrap().unwrap());
            }
            13 => {
                let Some((id, _)) = self.pick(|available| available == Available::Done) else {
                    return;
                };
                let changed =
                    self.router().change(&self.tenant, Replay { id }, in_seconds(5)).await;
                self.follow(&changed.unwrap().unwrap());
            }
            14 => {
                let Some((id, _)) = self.pick(|available| available == Available::Received) else {
                    return;
                };
                self.execute(DeleteEvent { id }).await.unwrap();
                self.events.remove(&id);
            }
            15 => {
                let step = Duration::from_secs(3);
                self.is_ahead = !self.is_ahead;
                if self.is_ahead { self.clock.jump(step) } else { self.clock.set_back(step) }
            }
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_with_event_types_gives_what_a_filter_over_a_list_gives() {
    for seed in 0..32 {
        let mut model = Model::start(seed).await;
        for step in 0..160 {
            model.step().await;
            if step == 80 {
                let incarnation = model.node.take();
                drop(incarnation);
                model.node = Some(Model::node(&model.store, "n@2").await);
            }
        }
        for filter in FILTERS {
            while !model.lease(filter, 3, Duration::from_secs(100_000)).await.is_empty() {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_is_remembered_and_moves_back_for_what_comes_again() {
    let mut model = Model::start(100).await;
    model.append("rare.one", 1).await;
    model.append("common.one", 200).await;
    let long = Duration::from_secs(100_000);
    let first = model.lease(&["rare.*"], 1, long).await.remove(0).event.id;
    assert!(model.lease(&["rare.*"], 1, long).await.is_empty());
    model.append("rare.one", 1).await;
    let event_types = patterns(&["rare.*"]);
    let lease = Lease { limit: 1, event_types, visibility: long, after: None };
    let reply = model.execute(lease.clone()).await;
    assert_eq!(reply.events.len(), 1, "POSITIONS-1: one step, behind 200 others");
    model.execute(Acknowledge { id: first, token: None }).await.unwrap();
    model.execute(Replay { id: first }).await.unwrap();
    let reply = model.execute(lease).await;
    assert_eq!(reply.events[0].event.id, first, "POSITIONS-1: it is before the position");
}
