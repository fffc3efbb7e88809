//! Building keys, and a batch of a hundred events on the simulated engine.
//!
//! The baselines are a copy of the bytes of a key, and the same number of pairs written without
//! tables. Run with `cargo bench -p triggers-store --bench tables`.

#![expect(missing_docs, reason = "criterion_group makes a public function")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use triggers_protocol::{
    Environment, EventId, EventStatus, EventType, PartitionId, TenantId, Timestamp,
};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Batch, BatchPlan, OperationLimits};
use triggers_store::tables::fence;
use triggers_store::tables::inbox::Counts;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{Append, NewEvent, Operation, Stamp};

const EVENTS: usize = 100;
const PAYLOAD_BYTES: usize = 1_024;

fn run() -> Run {
    Run::idempotent(Instant::now() + Duration::from_secs(60))
}

fn tenant_keys() -> TenantKeys {
    let tenant = TenantId::parse("acme").expect("a valid tenant id");
    TenantKeys::new(PartitionId::of(&tenant, 16), &tenant)
}

fn keys(criterion: &mut Criterion) {
    let keys = tenant_keys();
    let id = EventId::mint(EventId::ZERO, Timestamp::from_millis(1), [3; 16]);
    let event = keys.event(id);
    let mut group = criterion.benchmark_group("keys");
    group.bench_function("event", |bencher| bencher.iter(|| keys.event(black_box(id))));
    group.bench_function("queue", |bencher| {
        bencher.iter(|| keys.queue(EventStatus::Received, black_box(id)));
    });
    group.bench_function("baseline: copy", |bencher| bencher.iter(|| black_box(&event).clone()));
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be built");
    let engine = Arc::new(SimulatedEngine::new(SimulatedOptions::new(1)));
    let store = Store::new(engine, Environment::system());
    let keys = tenant_keys();
    let own = [keys.partition()];
    let guards = store.run(run(), |tx| Box::pin(fence::take(tx, &own, "node@1")));
    let guard = runtime.block_on(guards).expect("a new store has no owner").remove(0);
    let event = NewEvent {
        event_type: EventType::parse("order.created").expect("a valid event type"),
        timestamp: None,
        payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
        metadata: Arc::default(),
        idempotency: None,
    };
    let append = Append { events: vec![event; EVENTS], waiting_events_max: None };
    let limits = OperationLimits {
        idempotency_retention: Duration::from_secs(3_600),
        attempt_time: Duration::from_secs(25),
        disable_after: Duration::from_secs(3_600),
        subscriptions_max: 3,
        lease_scan_rows_max: 2_000,
    };
    let at = Timestamp::from_millis(1_000_000);
    let (mut last_id, mut counts, mut nonce) = (EventId::ZERO, Counts::default(), 0);
    let mut group = criterion.benchmark_group("batch of a hundred events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("append", |bencher| {
        bencher.iter(|| {
            nonce += 1;
            let mut minted_id = last_id;
            let mut mint = || {
                minted_id = EventId::mint(minted_id, at, [3; 16]);
                Some(minted_id)
            };
            let ids = (0..EVENTS).map(|_| mint()).collect();
            let stamp =
                Stamp { at, nonce, secret: [5; 16], ids, lease_after: None, webhook_mark: None };
            let plan = BatchPlan { last_id, minted_id, received_at: at, counts, limits };
            let (append, stamp, guard, keys) = (&append, &stamp, &guard, &keys);
            let applied = runtime.block_on(store.run(run(), |tx| {
                Box::pin(async move {
                    let mut batch = Batch::begin(tx, guard, keys, plan).await?;
                    let replies = append.apply(&mut batch, tx, stamp).await?;
                    assert!(replies.iter().all(Result::is_ok));
                    batch.finish(tx).await
                })
            }));
            let applied = applied.expect("the simulated engine has no faults");
            (last_id, counts) = (applied.last_id, applied.counts);
        });
    });
    let mut number = 0_u64;
    group.bench_function("baseline: two pairs an event", |bencher| {
        bencher.iter(|| {
            let first = number;
            number += EVENTS as u64;
            let written = runtime.block_on(store.run(run(), |tx| {
                Box::pin(async move {
                    for number in first..first + EVENTS as u64 {
                        tx.set(format!("x/e/{number:016x}").as_bytes(), &[b'x'; PAYLOAD_BYTES]);
                        tx.set(format!("x/q/{number:016x}").as_bytes(), b"order.created");
                    }
                    Ok::<_, TableError>(())
                })
            }));
            written.expect("the simulated engine has no faults");
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = keys, append
}
criterion_main!(benches);
