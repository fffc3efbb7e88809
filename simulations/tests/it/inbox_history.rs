//! Runs batches of random commands on the tables, over a store with conflicts and unknown outcomes,
//! and compares the results with the model. Afterwards compares pages, filters, single events and
//! counters.

use crate::model::{Expected, InboxModel};
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
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Applied, Batch, BatchPlan, OperationLimits};
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::inbox::{self, Counts, EventPage, Missing, PageQuery};
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{
    Acknowledge, Append, DeleteEvent, IdempotencyKey, NewEvent, Operation, Rejection, Stamp,
    Unchanged,
};

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
    nonce: u64,
}

const LIMITS: OperationLimits = OperationLimits {
    idempotency_retention: Duration::from_secs(3_600),
    attempt_time: Duration::from_secs(25),
    disable_after: Duration::from_secs(3_600),
    subscriptions_max: 3,
    lease_scan_rows_max: 2_000,
};

/// An operation of a history.
#[derive(Debug)]
enum Step {
    Append(Append),
    Acknowledge(Acknowledge),
    Delete(DeleteEvent),
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
            nonce: 0,
        }
    }

    /// Turns wishes into operations and what the model expects of each.
    fn plan(&mut self, wishes: &[Wish]) -> (Vec<(Step, Stamp)>, Vec<Expected>, EventId) {
        self.now = self.now.plus(Duration::from_millis(1));
        let (mut steps, mut expected, mut minted) = (Vec::new(), Vec::new(), self.last_id);
        let mut named = BTreeSet::new();
        for wish in wishes {
            let pick = |position: usize| {
                self.model
                    .ids()
                    .get(position)
                    .copied()
                    .unwrap_or_else(|| EventId::from_bytes([9; 16]))
            };
            self.nonce += 1;
            let mut stamp = Stamp {
                at: self.now,
                nonce: self.nonce,
                secret: [0; 16],
                ids: Vec::new(),
                lease_after: None,
                webhook_mark: None,
            };
            let step = match *wish {
                Wish::Append { key, payload_bytes, kind } => {
                    minted = EventId::mint(minted, self.now, [3; 16]);
                    stamp.ids.push(Some(minted));
                    let payload = Bytes::from(vec![b'x'; payload_bytes]);
                    expected.push(self.model.append(minted, key));
                    self.payloads.insert(minted, (payload.clone(), kind));
                    Step::Append(append(key, payload, kind))
                }
                // An inbox puts at most one operation on an event into a batch (BATCH-5).
                Wish::Acknowledge(position) | Wish::Delete(position)
                    if !named.insert(pick(position)) =>
                {
                    continue;
                }
                Wish::Acknowledge(position) => {
                    let id = pick(position);
                    expected.push(self.model.acknowledge(id));
                    Step::Acknowledge(Acknowledge { id, token: None })
                }
                Wish::Delete(position) => {
                    let id = pick(position);
                    expected.push(self.model.delete(id));
                    Step::Delete(DeleteEvent { id })
                }
            };
            steps.push((step, stamp));
        }
        (steps, expected, minted)
    }

    async fn batch(&mut self, wishes: &[Wish]) {
        let (steps, expected, minted_id) = self.plan(wishes);
        let (guard, keys) = (&self.guard, &self.keys);
        let plan = BatchPlan {
            last_id: self.last_id,
            minted_id,
            received_at: self.now,
            counts: Counts::default(),
            limits: LIMITS,
        };
        let applied: Result<(Vec<Expected>, Applied), TableError> = self
            .store
            .run(run(), |tx| {
                let steps = &steps;
                Box::pin(async move {
                    let mut batch = Batch::begin(tx, guard, keys, plan).await?;
                    let mut got = Vec::new();
                    for (step, stamp) in steps {
                        got.push(step.apply(&mut batch, tx, stamp).await?);
                    }
                    Ok((got, batch.finish(tx).await?))
                })
            })
            .await;
        let (got, applied) = applied.unwrap();
        // A batch that is repeated after an unknown outcome finds its own deletions.
        assert_eq!(got, expected);
        self.last_id = applied.last_id;
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
                for is_newest_first in [false, true] {
                    let query = PageQuery {
                        status,
                        is_newest_first,
                        after: EventId::ZERO,
                        limit: 3,
                        event_types: patterns.clone(),
                        from: None,
                        to: None,
                        scan_rows_max,
                        page_bytes_max: 25_000,
                    };
                    let mut listed = self.list(query, expected.len()).await;
                    if is_newest_first {
                        listed.reverse();
                    }
                    assert_eq!(listed, wanted, "{status} {types:?}");
                }
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
                Ok(event) => assert_eq!(event.payload, self.payloads[&id].0),
                Err(Missing::Gone) => assert!(
                    !EventStatus::ALL.iter().any(|s| self.model.in_status(*s).contains(&id))
                ),
                Err(Missing::NotFound) => panic!("an accepted event was not found"),
            }
        }
    }

    async fn list(&self, mut query: PageQuery, total: usize) -> Vec<EventId> {
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

fn append(key: Option<(u8, u8)>, payload: Bytes, kind: usize) -> Append {
    let event = NewEvent {
        event_type: EventType::parse(TYPES[kind]).unwrap(),
        timestamp: None,
        payload,
        metadata: std::sync::Arc::default(),
        idempotency: key
            .map(|(key, digest)| IdempotencyKey { hash: [key; 16], request_digest: [digest; 32] }),
    };
    Append { events: vec![event], waiting_events_max: None }
}

impl Step {
    /// Applies the operation and reduces its reply to what the model knows.
    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Expected, TableError> {
        Ok(match self {
            Self::Append(append) => match append.apply(batch, tx, stamp).await?.remove(0) {
                Ok(accepted) if accepted.replayed => Expected::Replayed(accepted.event.id),
                Ok(_) => Expected::Appended,
                Err(Rejection::KeyReused) => Expected::KeyReused,
                Err(other) => panic!("no event of this history is rejected with {other:?}"),
            },
            Self::Acknowledge(acknowledge) => match acknowledge.apply(batch, tx, stamp).await? {
                Ok(row) => {
                    assert_eq!(row.event.state.status, EventStatus::Delivered);
                    Expected::Acknowledged
                }
                Err(Unchanged::Missing(missing)) => expected(missing),
                Err(Unchanged::Conflict) => panic!("no token was given"),
            },
            Self::Delete(delete) => {
                delete.apply(batch, tx, stamp).await?.map_or_else(expected, |()| Expected::Deleted)
            }
        })
    }
}

fn expected(missing: Missing) -> Expected {
    match missing {
        Missing::Gone => Expected::Gone,
        Missing::NotFound => Expected::NotFound,
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
