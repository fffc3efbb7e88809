//! Counts the sequential round trips of each operation to a store behind a network.
//!
//! Every call to the simulated engine takes the same virtual time. Calls that are in flight
//! together take the time of one, so the elapsed time tells how many came after each other. The
//! expected numbers are the table of `docs/internals/round-trips.md`.

use crate::fixture::{append, event, in_seconds, query, start_with, store, tenant};
use crate::push::{URL, by, subscription};
use crate::receivers::Receivers;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::{BrokerOptions, Node};
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{EventId, EventStatus, KeyHash, Scopes, TenantId, Timestamp};
use triggers_store::kv::simulated::{ObservedCommit, Observer, SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::operations::{
    Acknowledge, CreateSubscription, DeleteEvent, ExtendLease, Lease, Leased, Nack,
};
use triggers_store::tables::rows::{KeyRow, TenantRow};
use triggers_store::tables::{TableError, access};

/// Time of each call in each direction; timers may add a millisecond to each.
const CALL_MS: u64 = 20;
/// Calls of a commit besides reads: the read version, and two directions of the commit.
const COMMIT_CALLS: u128 = 3;
/// Time in microseconds that the documentation supposes for a read, and for a read version.
const READ_US: u128 = 500;
/// Time in microseconds that the documentation supposes for a commit.
const COMMIT_US: u128 = 1_500;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/internals/round-trips.md");

/// Times of all commits on the store's clock.
#[derive(Clone, Default)]
struct Commits(Arc<Mutex<Vec<Duration>>>);

impl Observer for Commits {
    fn committed(&mut self, commit: &ObservedCommit<'_>) {
        self.0.lock().unwrap().push(commit.at);
    }
}

impl Commits {
    fn all(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

/// A node on a store behind a network, and the lines of the table that were measured.
struct Bench {
    store: Store,
    node: Node,
    tenant: TenantId,
    commits: Commits,
    table: Vec<String>,
}

impl Bench {
    async fn start() -> Self {
        let engine = SimulatedEngine::new(SimulatedOptions {
            latency_us_min: CALL_MS * 1_000,
            latency_us_max: CALL_MS * 1_000,
            ..SimulatedOptions::new(1)
        });
        let commits = Commits::default();
        engine.observe(Box::new(commits.clone()));
        let store = store(&engine, 1);
        let node = start_with(&store, &Receivers::default(), BrokerOptions::default(), "n@1").await;
        Self { store, node, tenant: tenant("acme"), commits, table: Vec::new() }
    }

    fn note(&mut self, name: &str, elapsed: Duration, commits: u128) {
        let calls = elapsed.as_millis() / u128::from(CALL_MS);
        let reads = calls - if commits == 0 { 1 } else { COMMIT_CALLS };
        let us = READ_US * (1 + reads) + COMMIT_US * commits;
        let (whole, tenths) = (us / 1_000, us % 1_000 / 100);
        self.table.push(format!("| {name} | {reads} | {commits} | {whole}.{tenths} ms |"));
    }

    /// Measures a call that commits once, or never if it only reads.
    async fn measure<T>(&mut self, name: &str, call: impl Future<Output = T>) -> T {
        let (before, began) = (self.commits.all().len(), Instant::now());
        let value = call.await;
        let elapsed = began.elapsed();
        let commits = self.commits.all().len() - before;
        assert!(commits <= 1, "{name} commits {commits} times");
        self.note(name, elapsed, commits as u128);
        value
    }

    async fn append(&mut self, name: &str, count: usize, has_key: bool) -> Vec<EventId> {
        let router = self.node.router();
        let key = |n: usize| has_key.then(|| format!("{count}/{n}"));
        let events = (0..count).map(|n| event("{}", key(n).as_deref())).collect();
        let tenant = self.tenant.clone();
        let call = router.append(&tenant, append(events), in_seconds(60));
        let results = self.measure(name, call).await.unwrap();
        results.into_iter().map(|result| result.unwrap().event.id).collect()
    }

    async fn lease(&mut self, name: &str, limit: usize) -> Vec<Leased> {
        let (router, tenant) = (self.node.router(), self.tenant.clone());
        let visibility = Duration::from_secs(3_600);
        let lease = Lease { limit, event_types: Vec::new(), visibility, after: None };
        let leased = self.measure(name, router.execute(&tenant, lease, in_seconds(60))).await;
        let leased = leased.unwrap();
        assert_eq!(leased.events.len(), limit);
        leased.events
    }

    /// Waits until an attempt is claimed, sent and completed after the last commit, and notes both
    /// transactions.
    async fn webhook(&mut self) {
        let before = self.commits.all();
        let accepted = *before.last().unwrap();
        while self.commits.all().len() < before.len() + 2 {
            tokio::time::sleep(Duration::from_millis(CALL_MS)).await;
        }
        let after = self.commits.all();
        let (claimed, completed) = (after[before.len()], after[before.len() + 1]);
        self.note("claim of a webhook", claimed - accepted, 1);
        self.note("completion of an attempt", completed - claimed, 1);
    }
}

fn access_rows(tenant: &TenantId) -> (TenantRow, KeyRow) {
    let created_at = Timestamp::from_millis(0);
    let tenant_row = TenantRow {
        id: tenant.clone(),
        name: String::new(),
        tier: None,
        retention_days: 30,
        max_inbox_events: None,
        retry_policy: None,
        flags: BTreeMap::new(),
        created_at,
        updated_at: created_at,
    };
    let key = KeyRow {
        id: [1; 16],
        hash: KeyHash([1; 32]),
        tenant: tenant.clone(),
        name: String::new(),
        kind: KeyKind::Test,
        hint: String::new(),
        scopes: Scopes::tenant_default(),
        rate_limit_per_minute: None,
        created_at,
        expires_at: None,
        replaced_at: None,
    };
    (tenant_row, key)
}

#[tokio::test(start_paused = true)]
async fn operations_take_the_documented_number_of_round_trips() {
    let mut bench = Bench::start().await;
    let (router, tenant) = (bench.node.router(), bench.tenant.clone());
    let (tenant_row, key) = access_rows(&tenant);
    let stored: Result<_, TableError> = bench
        .store
        .run(Run::idempotent(in_seconds(60)), |tx| {
            access::put_tenant(tx, &tenant_row);
            Box::pin(access::create_key(tx, &key))
        })
        .await;
    stored.unwrap();
    // Opens the inbox.
    router.append(&tenant, append(vec![event("{}", None)]), in_seconds(60)).await.unwrap();

    bench.append("POST of one event", 1, false).await;
    bench.append("POST of one event with an idempotency key", 1, true).await;
    bench.append("batch of 100 events", 100, false).await;
    bench.append("batch of 20 events with idempotency keys", 20, true).await;
    let one = bench.lease("lease of one event", 1).await.remove(0);
    let many = bench.lease("lease of 50 events", 50).await;
    let (id, token) = (one.event.id, one.token);
    let extend = ExtendLease { id, token, visibility: Duration::from_secs(3_600) };
    let call = router.change(&tenant, extend, in_seconds(60));
    bench.measure("extension of a lease", call).await.unwrap().unwrap();
    let nack = Nack { id, token: Some(token), reason: None, retry_after: None };
    let call = router.change(&tenant, nack, in_seconds(60));
    bench.measure("nack", call).await.unwrap().unwrap();
    let acknowledge = Acknowledge { id: many[0].event.id, token: Some(many[0].token) };
    let call = router.change(&tenant, acknowledge, in_seconds(60));
    bench.measure("acknowledgement of one event", call).await.unwrap().unwrap();
    let ids: Vec<_> = many[1..].iter().map(|leased| leased.event.id).collect();
    let call = router.acknowledge_all(&tenant, &ids, in_seconds(60));
    bench.measure("acknowledgement of 49 events", call).await.unwrap();
    let call = router.execute(&tenant, DeleteEvent { id }, in_seconds(60));
    bench.measure("deletion of an event", call).await.unwrap().unwrap();

    let create = CreateSubscription { row: subscription(&bench.store, URL, &[1]), by: by() };
    router.execute(&tenant, create, in_seconds(60)).await.unwrap().unwrap();
    let pushed = bench.append("POST of one event for a webhook", 1, false).await.remove(0);
    bench.webhook().await;

    let call = router.find(&tenant, pushed, in_seconds(60));
    let found = bench.measure("GET of an event", call).await.unwrap().unwrap();
    assert_eq!(found.state.status, EventStatus::Delivered);
    let page = query(EventStatus::Received, EventId::ZERO, 50);
    let call = router.list(&tenant, page, in_seconds(60));
    bench.measure("page of 50 events", call).await.unwrap();
    let call = router.statistics(&tenant, in_seconds(60));
    bench.measure("statistics", call).await.unwrap();
    let (store, run) = (bench.store.clone(), Run::idempotent(in_seconds(60)));
    let call = store.run(run, |tx| Box::pin(access::find(tx, KeyHash([1; 32]))));
    assert!(bench.measure("look-up of an API key", call).await.unwrap().is_some());

    let measured = bench.table.join("\n");
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    assert!(document.contains(&measured), "{DOCUMENT} should have this table:\n{measured}");
}
