//! Runs batches of random commands on the tables, over a store with conflicts and unknown outcomes,
//! and compares the results with the model. Afterwards compares pages, filters, single events and
//! counters.

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::{
    Environment, EventId, EventStatus, EventType, EventTypePattern, PartitionId, TenantId,
    Timestamp,
};
use triggers_simulations::model::{Expected, InboxModel};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{self, Append, Applied, Command, IdempotencyKey, Outcome};
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::inbox::{self, EventPage, Found, PageQuery};
use triggers_store::tables::keys::TenantKeys;

/// A command before it has ids. It names an event by its position among those that exist.
#[derive(Debug, Clone)]
enum Wish {
    Append { key: Option<(u8, u8)>, payload_bytes: usize, kind: usize },
    Acknowledge(usize),
    Delete(usize),
}

const TYPES: [&str; 3] = ["order.created", "order.paid", "user.created"];

fn wish() -> impl Strategy<Value = Wish> {
    let key = prop::option::weighted(0.4, (0u8..6, 0u8..2));
    let size = prop_oneof![4 => 2usize..40, 1 => 8_000usize..9_000, 1 => 20_000usize..30_000];
    prop_oneof![
        3 => (key, size, 0..TYPES.len())
            .prop_map(|(key, payload_bytes, kind)| Wish::Append { key, payload_bytes, kind }),
        2 => (0usize..40).prop_map(Wish::Acknowledge),
        1 => (0usize..40).prop_map(Wish::Delete),
    ]
}

struct History {
    store: Store,
    guard: Guard,
    keys: TenantKeys,
    model: InboxModel,
    payloads: BTreeMap<EventId, (Bytes, usize)>,
    last_id: EventId,
    now: Timestamp,
}

fn run() -> Run {
    Run::idempotent(Instant::now() + Duration::from_secs(600))
}

impl History {
    async fn start(seed: u64) -> Self {
        let engine = SimulatedEngine::new(SimulatedOptions {
            conflict_per_mille: 100,
            unknown_committed_per_mille: 150,
            unknown_not_committed_per_mille: 100,
            ..SimulatedOptions::new(seed)
        });
        let store = Store::new(Arc::new(engine), Environment::system());
        let tenant = TenantId::parse("acme").unwrap();
        let partition = PartitionId::of(&tenant, 16);
        let own = [partition];
        let guards =
            store.run(run(), |tx| Box::pin(fence::take(tx, &own, "node@1"))).await.unwrap();
        Self {
            store,
            guard: guards.into_iter().next().unwrap(),
            keys: TenantKeys::new(partition, &tenant),
            model: InboxModel::default(),
            payloads: Default::default(),
            last_id: EventId::ZERO,
            now: Timestamp::from_millis(1_000_000),
        }
    }

    /// Turns wishes into commands, with the result that the model expects of each.
    fn plan(&mut self, wishes: &[Wish]) -> (Vec<Command>, Vec<Expected>, EventId) {
        self.now = self.now.plus(Duration::from_millis(1));
        let (mut commands, mut expected, mut minted) = (Vec::new(), Vec::new(), self.last_id);
        let mut named = BTreeSet::new();
        for wish in wishes {
            let pick = |position: usize| {
                self.model
                    .ids()
                    .get(position)
                    .copied()
                    .unwrap_or_else(|| EventId::from_bytes([9; 16]))
            };
            match *wish {
                Wish::Append { key, payload_bytes, kind } => {
                    minted = EventId::mint(minted, self.now, [3; 16]);
                    let payload = Bytes::from(vec![b'x'; payload_bytes]);
                    expected.push(self.model.append(minted, key));
                    self.payloads.insert(minted, (payload.clone(), kind));
                    commands
                        .push(Command::Append(Box::new(self.append(minted, key, payload, kind))));
                }
                // An inbox puts at most one command for an event into a batch (`BATCH-5`).
                Wish::Acknowledge(position) | Wish::Delete(position)
                    if !named.insert(pick(position)) => {}
                Wish::Acknowledge(position) => {
                    let id = pick(position);
                    expected.push(self.model.acknowledge(id));
                    commands.push(Command::Acknowledge { id, at: self.now, token: None });
                }
                Wish::Delete(position) => {
                    let id = pick(position);
                    expected.push(self.model.delete(id));
                    commands.push(Command::Delete { id, at: self.now });
                }
            }
        }
        (commands, expected, minted)
    }

    fn append(&self, id: EventId, key: Option<(u8, u8)>, payload: Bytes, kind: usize) -> Append {
        Append {
            id,
            event_type: EventType::parse(TYPES[kind]).unwrap(),
            timestamp: self.now,
            at: self.now,
            payload,
            metadata: std::sync::Arc::default(),
            over_quota: false,
            idempotency: key.map(|(key, digest)| IdempotencyKey {
                hash: [key; 16],
                request_digest: [digest; 32],
                now: self.now,
                expires_at: self.now.plus(Duration::from_secs(3_600)),
            }),
        }
    }

    async fn batch(&mut self, wishes: &[Wish]) {
        let (commands, expected, minted) = self.plan(wishes);
        let (guard, keys, last_id) = (&self.guard, &self.keys, self.last_id);
        let applied: Result<Applied, TableError> = self
            .store
            .run(run(), |tx| Box::pin(batch::apply(tx, guard, keys, last_id, &commands)))
            .await;
        let outcomes = applied.unwrap().outcomes;
        let got: Vec<Expected> = outcomes.iter().map(simplified).collect();
        // A batch that is run again after an unknown outcome gives the same results.
        assert_eq!(got, expected);
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended(_))) {
            self.last_id = minted;
        }
    }

    async fn page(&self, query: &PageQuery) -> EventPage {
        let (guard, keys) = (&self.guard, &self.keys);
        self.store.run(run(), |tx| Box::pin(inbox::list(tx, guard, keys, query))).await.unwrap()
    }

    async fn check(&self) {
        for status in EventStatus::ALL {
            let expected = self.model.in_status(status);
            for (types, scan_rows_max) in
                [(vec![], 1_000), (vec!["order.*"], 3), (vec!["user.created"], 1_000)]
            {
                let patterns: Vec<_> =
                    types.iter().map(|text| EventTypePattern::parse(text).unwrap()).collect();
                let wanted: Vec<EventId> = expected
                    .iter()
                    .filter(|id| {
                        patterns.is_empty()
                            || patterns.iter().any(|p| p.matches(TYPES[self.payloads[id].1]))
                    })
                    .copied()
                    .collect();
                let listed = self.list(status, patterns, scan_rows_max, expected.len()).await;
                assert_eq!(listed, wanted, "{status} {types:?}");
            }
        }
        for id in self.model.ids() {
            let (guard, keys, now) = (&self.guard, &self.keys, self.now);
            let found = self
                .store
                .run(run(), |tx| Box::pin(inbox::find(tx, guard, keys, id, now)))
                .await
                .unwrap();
            match found {
                Found::Event(event) => assert_eq!(event.payload, self.payloads[&id].0),
                Found::Gone => assert!(
                    !EventStatus::ALL.iter().any(|s| self.model.in_status(*s).contains(&id))
                ),
                Found::NotFound => panic!("an accepted event was not found"),
            }
        }
    }

    async fn list(
        &self,
        status: EventStatus,
        event_types: Vec<EventTypePattern>,
        scan_rows_max: usize,
        total: usize,
    ) -> Vec<EventId> {
        let mut query = PageQuery {
            status,
            after: EventId::ZERO,
            limit: 3,
            event_types,
            from: None,
            to: None,
            scan_rows_max,
            page_bytes_max: 25_000,
        };
        let mut ids = Vec::new();
        loop {
            let page = self.page(&query).await;
            assert_eq!(
                page.total,
                i64::try_from(total).unwrap(),
                "the counter differs from a recount"
            );
            ids.extend(page.events.iter().map(|event| event.id));
            match page.next {
                Some(next) => query.after = next,
                None => return ids,
            }
        }
    }
}

fn simplified(outcome: &Outcome) -> Expected {
    match outcome {
        Outcome::Appended(_) => Expected::Appended,
        Outcome::Replayed { id, .. } => Expected::Replayed(*id),
        Outcome::KeyReused => Expected::KeyReused,
        Outcome::Acknowledged(row) => {
            assert_eq!(row.event.state.status, EventStatus::Delivered);
            Expected::Acknowledged
        }
        Outcome::Deleted => Expected::Deleted,
        Outcome::Gone => Expected::Gone,
        Outcome::NotFound => Expected::NotFound,
        other => panic!("no command of this history gives {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn tables_do_what_the_model_says(
        seed: u64,
        batches in prop::collection::vec(prop::collection::vec(wish(), 1..8), 1..15),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut history = History::start(seed).await;
            for wishes in &batches {
                history.batch(wishes).await;
            }
            history.check().await;
        });
    }
}
