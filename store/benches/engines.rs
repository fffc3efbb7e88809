//! Commits of an event's two pairs on the embedded and the simulated engine, alone and 64 at once.
//!
//! The baseline appends the same bytes to a file with one `fdatasync`, the least that a durable
//! group costs on this disk. Throughput is in commits.
//! Run with `cargo bench -p triggers-store --bench engines`.

#![expect(missing_docs, reason = "criterion_group makes a public function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use triggers_store::kv::Engine;
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions};
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};

const EVENT_BYTES: usize = 1_024;
/// Approximate bytes that keys and lengths add to an event's record.
const OVERHEAD_BYTES: usize = 64;

/// Commits one event's row and its entry in the queue.
async fn commit(engine: &dyn Engine, number: u64) {
    let mut transaction = engine.begin().await.expect("a transaction begins");
    transaction.set(format!("e/{number:016x}").as_bytes(), &[b'x'; EVENT_BYTES]);
    transaction.set(format!("q/{number:016x}").as_bytes(), b"order.created");
    transaction.commit().await.expect("the disk has room for a measurement");
}

fn engines(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be built");
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let embedded = EmbeddedEngine::open(&EmbeddedOptions {
        directory: directory.path().to_owned(),
        map_bytes_max: 16 << 30,
        log_bytes_max: 384 << 20,
        commit_queue_max: 1_024,
        group_transactions_max: 1_024,
        group_bytes_max: 8 << 20,
        readers_max: 1_024,
    });
    let simulated = Arc::new(SimulatedEngine::new(SimulatedOptions::new(1)));
    let subjects: [(&str, Arc<dyn Engine>); 2] = [
        ("embedded", Arc::new(embedded.expect("a new directory opens"))),
        ("simulated", simulated),
    ];
    let numbers = AtomicU64::new(0);
    for count in [1_u64, 64] {
        let mut group = criterion.benchmark_group(format!("commit, {count} at once"));
        group.throughput(Throughput::Elements(count));
        for (name, engine) in &subjects {
            group.bench_function(*name, |bencher| {
                bencher.to_async(&runtime).iter(|| {
                    let first = numbers.fetch_add(count, Ordering::Relaxed);
                    join_all((first..first + count).map(|number| commit(&**engine, number)))
                });
            });
        }
        group.bench_function("baseline: append and sync", |bencher| {
            let mut file = tempfile::tempfile().expect("a temporary file can be made");
            let bytes = vec![b'x'; count as usize * (EVENT_BYTES + OVERHEAD_BYTES)];
            bencher.iter(|| {
                file.write_all(&bytes)
                    .and_then(|()| file.sync_data())
                    .expect("the disk has room for a measurement");
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = engines
}
criterion_main!(benches);
