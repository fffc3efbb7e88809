//! Counts the keys that reads of a queue pass, cleared ones too, once very many were consumed.
//!
//! An engine keeps cleared keys for a while: in memtables, in an index, in old versions. So a read
//! costs as much as there ever were keys in the part of the range that it covers. The engine here
//! wraps the simulated one and counts these.

use crate::fixture::{VirtualClock, append, environment, event, in_seconds, start_with, tenant};
use crate::push::{URL, by, subscription};
use crate::receivers::Receivers;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_actors::{BrokerOptions, Node, Router};
use triggers_protocol::{EventId, TenantId};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{
    BoxFuture, Engine, KeyRange, Ordered, Page, RangeRead, Store, StoreError, Transaction,
};
use triggers_store::tables::operations::{AcknowledgeAll, CreateSubscription, Lease, Leased, Nack};

/// Events of a batch.
const BATCH: usize = 500;

/// All keys that were ever written, and the keys that range reads passed, by table.
#[derive(Default)]
struct Walked {
    keys: BTreeSet<Vec<u8>>,
    passed: BTreeMap<char, usize>,
}

impl Walked {
    fn read(&mut self, range: &KeyRange) {
        // A tenant's key has its table behind the zero byte that ends the tenant's id.
        let table = match range.begin.get(3) {
            Some(b't') => {
                let end = range.begin.iter().skip(4).position(|byte| *byte == 0);
                end.and_then(|end| range.begin.get(4 + end + 1)).copied()
            }
            other => other.copied(),
        };
        let passed = match range.is_empty() {
            true => 0,
            false => self.keys.range(range.begin.to_vec()..range.end.to_vec()).count(),
        };
        *self.passed.entry(table.map_or('?', char::from)).or_default() += passed;
    }
}

#[derive(Clone)]
struct CountingEngine {
    inner: SimulatedEngine,
    walked: Arc<Mutex<Walked>>,
}

impl CountingEngine {
    fn wrap(&self, inner: Box<dyn Transaction>) -> Box<dyn Transaction> {
        Box::new(CountingTransaction { inner, walked: self.walked.clone() })
    }

    /// Keys of a table that reads passed since the last call.
    fn passed(&self) -> impl Fn(char) -> usize {
        let passed = std::mem::take(&mut self.walked.lock().unwrap().passed);
        move |table| passed.get(&table).copied().unwrap_or(0)
    }
}

impl Engine for CountingEngine {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async { Ok(self.wrap(self.inner.begin().await?)) })
    }

    fn begin_pipelined(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async { Ok(self.wrap(self.inner.begin_pipelined().await?)) })
    }

    fn health(&self) -> Result<(), StoreError> {
        self.inner.health()
    }
}

struct CountingTransaction {
    inner: Box<dyn Transaction>,
    walked: Arc<Mutex<Walked>>,
}

impl CountingTransaction {
    async fn page(&mut self, read: RangeRead, is_checked: bool) -> Result<Page, StoreError> {
        let page = match is_checked {
            true => self.inner.range(read.clone()).await?,
            false => self.inner.range_snapshot(read.clone()).await?,
        };
        let mut covered = read.range;
        if let Some((last, _)) = page.pairs.last().filter(|_| page.has_more) {
            match read.is_reverse {
                true => covered.begin = last.clone(),
                false => covered.end = [last, &[0][..]].concat().into(),
            }
        }
        self.walked.lock().unwrap().read(&covered);
        Ok(page)
    }
}

impl Transaction for CountingTransaction {
    fn get<'a>(&'a mut self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.inner.get(key)
    }

    fn get_snapshot<'a>(
        &'a mut self,
        key: &'a [u8],
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        self.inner.get_snapshot(key)
    }

    fn range(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.page(read, true))
    }

    fn range_snapshot(&mut self, read: RangeRead) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.page(read, false))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.walked.lock().unwrap().keys.insert(key.to_vec());
        self.inner.set(key, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: KeyRange) {
        self.inner.clear_range(range);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.inner.add(key, delta);
    }

    fn add_conflict(&mut self, range: KeyRange) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.add_conflict(range)
    }

    fn approximate_size(&self) -> usize {
        self.inner.approximate_size()
    }

    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.inner.commit()
    }

    fn commit_pipelined(
        self: Box<Self>,
        ordered: Ordered,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.inner.commit_pipelined(ordered)
    }
}

struct Bench {
    engine: CountingEngine,
    store: Store,
    clock: VirtualClock,
    receivers: Receivers,
    node: Node,
    tenant: TenantId,
}

impl Bench {
    async fn start() -> Self {
        let inner = SimulatedEngine::new(SimulatedOptions::new(1));
        let engine = CountingEngine { inner, walked: Arc::default() };
        let clock = VirtualClock::start();
        let store = Store::new(Arc::new(engine.clone()), environment(1, clock.clone()));
        let receivers = Receivers::default();
        let node = start_with(&store, &receivers, BrokerOptions::default(), "n@1").await;
        Self { engine, store, clock, receivers, node, tenant: tenant("acme") }
    }

    fn router(&self) -> Router {
        self.node.router()
    }

    async fn append(&self, count: usize) {
        let events = (0..count).map(|_| event("{}", None)).collect();
        self.router().append(&self.tenant, append(events), in_seconds(60)).await.unwrap();
    }

    async fn lease(&self, limit: usize) -> Vec<Leased> {
        let visibility = Duration::from_secs(3_600);
        let lease = Lease { limit, event_types: Vec::new(), visibility, after: None };
        self.router().execute(&self.tenant, lease, in_seconds(60)).await.unwrap().events
    }

    async fn acknowledge(&self, leased: Vec<Leased>) {
        let ids: Vec<EventId> = leased.iter().map(|leased| leased.event.id).collect();
        let all = AcknowledgeAll { ids };
        self.router().execute(&self.tenant, all, in_seconds(60)).await.unwrap();
    }

    /// Appends events and consumes them all.
    async fn consume(&self, batches: usize) {
        for _ in 0..batches {
            self.append(BATCH).await;
            let leased = self.lease(BATCH).await;
            assert_eq!(leased.len(), BATCH);
            self.acknowledge(leased).await;
        }
    }

    /// Waits until the endpoint has had `count` webhooks and their results are stored.
    async fn sent(&self, count: usize) {
        while self.receivers.seen(URL).len() < count || self.receivers.in_flight(URL) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_passes_no_event_that_was_consumed() {
    let bench = Bench::start().await;
    bench.consume(100).await;
    bench.append(50).await;
    drop(bench.engine.passed());
    for _ in 0..5 {
        let leased = bench.lease(10).await;
        assert_eq!(leased.len(), 10);
        let passed = bench.engine.passed();
        assert!(passed('q') <= 11 && passed('w') == 0, "q {} w {}", passed('q'), passed('w'));
        for Leased { event, token } in leased {
            let retry_after = Some(Duration::ZERO);
            let nack = Nack { id: event.id, token: Some(token), reason: None, retry_after };
            bench.router().change(&bench.tenant, nack, in_seconds(60)).await.unwrap().unwrap();
        }
        let leased = bench.lease(10).await;
        assert_eq!(leased.len(), 10);
        bench.acknowledge(leased).await;
        let passed = bench.engine.passed();
        assert!(passed('q') <= 10 && passed('w') <= 11, "q {} w {}", passed('q'), passed('w'));
    }
    assert!(bench.lease(10).await.is_empty());
    let passed = bench.engine.passed();
    assert!(passed('q') <= 1 && passed('w') <= 1, "q {} w {}", passed('q'), passed('w'));
}

#[tokio::test(start_paused = true)]
async fn webhooks_that_were_sent_are_passed_once() {
    let bench = Bench::start().await;
    let mut row = subscription(&bench.store, URL, &[1]);
    row.max_in_flight = 200;
    let create = CreateSubscription { row, by: by() };
    bench.router().execute(&bench.tenant, create, in_seconds(60)).await.unwrap().unwrap();
    let mut count = 0;
    for _ in 0..8 {
        bench.append(BATCH).await;
        count += BATCH;
        bench.sent(count).await;
    }
    // Each webhook has a row at its due time and one at the end of its attempt. A claim reads more
    // rows than it takes, because its batch may complete some of them.
    let passed = bench.engine.passed()('d');
    assert!(passed <= 6 * count, "{passed} keys for {count} webhooks");
    for number in 0..6 {
        bench.append(1).await;
        count += 1;
        bench.sent(count).await;
        let passed = bench.engine.passed()('d');
        // The first one passes the keys of the attempts that have just ended.
        assert!(passed <= 6 || number == 0, "{passed} keys for a webhook");
    }
}

#[tokio::test(start_paused = true)]
async fn wake_up_pointers_are_read_once() {
    let bench = Bench::start().await;
    bench.append(1).await;
    assert_eq!(bench.lease(1).await.len(), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(bench.engine.passed());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.engine.passed()('a'), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_passes_each_event_once() {
    let bench = Bench::start().await;
    bench.consume(20).await;
    bench.clock.jump(Duration::from_secs(40 * 86_400));
    drop(bench.engine.passed());
    let mut total = 0;
    for _ in 0..3 {
        tokio::time::sleep(BrokerOptions::default().sweep_interval).await;
        total += bench.engine.passed()('q');
    }
    // Every event was received, queued and delivered. Two more sweeps look for old events.
    assert!(total <= 3 * 3 * 20 * BATCH + 1_000, "{total} keys");
    let counts = bench.router().statistics(&bench.tenant, in_seconds(60)).await.unwrap().counts;
    assert!(triggers_protocol::EventStatus::ALL.iter().all(|status| counts.get(*status) == 0));
}
