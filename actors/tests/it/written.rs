//! Counts the rows and bytes that an event's life writes to the store.
//!
//! The expected numbers are the table of `docs/internals/rows-written.md`: the keys that commits
//! set, cleared or added to, with the bytes of these keys and of their new values, for one of the
//! events.

use crate::fixture::{append, event, in_seconds, start_with, store, tenant};
use crate::push::{URL, by, subscription};
use crate::receivers::Receivers;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_actors::{BrokerOptions, Node};
use triggers_protocol::{EventStatus, TenantId};
use triggers_store::kv::Store;
use triggers_store::kv::simulated::{ObservedCommit, Observer, SimulatedEngine, SimulatedOptions};
use triggers_store::tables::operations::{
    Acknowledge, ChangeLease, CreateSubscription, Lease, LeaseChange, LeaseReply,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/internals/rows-written.md");
/// Bytes of the payloads.
const PAYLOAD_BYTES: usize = 256;

/// Rows and bytes of all commits.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<(usize, usize)>>);

impl Observer for Written {
    fn committed(&mut self, commit: &ObservedCommit<'_>) {
        let mut written = self.0.lock().unwrap();
        written.0 += commit.keys.len();
        for key in commit.keys {
            written.1 += key.len() + commit.after(key).map_or(0, |value| value.len());
        }
    }
}

struct Bench {
    store: Store,
    node: Node,
    tenant: TenantId,
    written: Written,
    before: (usize, usize),
    table: Vec<String>,
}

impl Bench {
    async fn start() -> Self {
        let engine = SimulatedEngine::new(SimulatedOptions::new(1));
        let written = Written::default();
        engine.observe(Box::new(written.clone()));
        let store = store(&engine, 1);
        let node = start_with(&store, &Receivers::default(), BrokerOptions::default(), "n@1").await;
        let (before, table) = ((0, 0), Vec::new());
        Self { store, node, tenant: tenant("acme"), written, before, table }
    }

    /// Adds a line: what was written since the last one, for each of `count` events.
    fn note(&mut self, name: &str, count: usize) {
        let (rows, bytes) = *self.written.0.lock().unwrap();
        let (rows_before, bytes_before) = std::mem::replace(&mut self.before, (rows, bytes));
        let tenths = (rows - rows_before) * 10 / count;
        let bytes = (bytes - bytes_before) / count;
        self.table.push(format!("| {name} | {}.{} | {bytes} |", tenths / 10, tenths % 10));
    }

    async fn accept(&mut self, name: &str, count: usize) {
        let payload = format!("{{\"p\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES - 8));
        let events = append(vec![event(&payload, None); count]);
        let results = self.node.router().append(&self.tenant, events, in_seconds(60)).await;
        assert!(results.unwrap().iter().all(Result::is_ok));
        self.note(name, count);
    }

    async fn lease(&mut self, name: &str, limit: usize) -> LeaseReply {
        let visibility = Duration::from_secs(600);
        let lease = Lease { limit, event_types: Vec::new(), visibility, after: None };
        let reply = self.node.router().execute(&self.tenant, lease, in_seconds(60)).await.unwrap();
        assert_eq!(reply.events.len(), limit);
        self.note(name, limit);
        reply
    }

    async fn acknowledge(&mut self, name: &str, leased: &LeaseReply) {
        let change = LeaseChange::Acknowledge;
        let change = ChangeLease { lease: leased.lease, ids: None, change };
        let changed = self.node.router().execute(&self.tenant, change, in_seconds(60)).await;
        assert_eq!(changed.unwrap().unwrap().len(), leased.events.len());
        self.note(name, leased.events.len());
    }

    async fn delivered(&mut self, name: &str, count: usize, total: i64) {
        let router = self.node.router();
        loop {
            let statistics = router.statistics(&self.tenant, in_seconds(60)).await.unwrap();
            if statistics.counts.get(EventStatus::Delivered) == total {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.note(name, count);
    }
}

#[tokio::test(start_paused = true)]
async fn the_life_of_an_event_writes_the_documented_rows() {
    let mut bench = Bench::start().await;
    bench.accept("the first event of a tenant", 1).await;
    let leased = bench.lease("its lease", 1).await;
    bench.acknowledge("its acknowledgement", &leased).await;
    bench.table.clear();

    bench.accept("acceptance in a batch of 100", 100).await;
    let leased = bench.lease("lease of 100", 100).await;
    bench.acknowledge("acknowledgement of the lease", &leased).await;
    bench.accept("acceptance of one", 1).await;
    let leased = bench.lease("lease of one", 1).await;
    let (id, token) = (leased.events[0].event.id, Some(leased.events[0].token));
    let acknowledge = Acknowledge { id, token };
    let router = bench.node.router();
    router.change(&bench.tenant, acknowledge, in_seconds(60)).await.unwrap().unwrap();
    bench.note("acknowledgement of one by its token", 1);

    let create = CreateSubscription { row: subscription(&bench.store, URL, &[1]), by: by() };
    router.execute(&bench.tenant, create, in_seconds(60)).await.unwrap().unwrap();
    bench.note("", 1);
    bench.table.pop();
    let before = bench.before;
    bench.accept("", 100).await;
    bench.before = before;
    bench.table.pop();
    bench.delivered("acceptance of 100 for a webhook, attempt, result", 100, 202).await;

    let measured = bench.table.join("\n");
    let document = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(document.contains(&measured), "{DOCUMENT} should have this table:\n{measured}");
}
