//! Durable commits a second on the embedded engine, against the least that durability costs on this disk.
//!
//! Each of 64 or 256 writers commits one event's two keys (1 KiB and 14 bytes) and waits for the answer. The baseline, run
//! in turn with it, appends the same bytes to a file in groups of the same size with one fdatasync each. Run with
//! `cargo bench -p triggers-store --bench commit_rate`. It asserts nothing: figures are for reading.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the real clock")]
#![expect(clippy::print_stdout, reason = "the result of a measurement goes to stdout")]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use triggers_protocol::Environment;
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions};
use triggers_store::kv::{Run, Store, StoreError};

const EVENT_BYTES: usize = 1_024;
const MEASURE: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    println!("{:>8} {:>14} {:>14} {:>7}", "writers", "engine/s", "baseline/s", "ratio");
    for writers in [1, 64, 256] {
        let engine = runtime.block_on(engine_rate(writers));
        let baseline = baseline_rate(writers);
        println!("{writers:>8} {engine:>14.0} {baseline:>14.0} {:>7.3}", engine / baseline);
    }
}

async fn engine_rate(writers: usize) -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let engine = EmbeddedEngine::open(&EmbeddedOptions::new(directory.path()))
        .expect("a new directory opens");
    let store = Store::new(Arc::new(engine), Environment::system());
    let started = Instant::now();
    let tasks: Vec<_> =
        (0..writers).map(|writer| tokio::spawn(write(store.clone(), writer, started))).collect();
    let mut commits = 0;
    for task in tasks {
        commits += task.await.expect("a writer does not panic");
    }
    commits as f64 / started.elapsed().as_secs_f64()
}

async fn write(store: Store, writer: usize, started: Instant) -> usize {
    let value = vec![b'x'; EVENT_BYTES];
    let mut commits = 0;
    while started.elapsed() < MEASURE {
        let (event, place) =
            (format!("e/{writer:04}/{commits:010}"), format!("q/{writer:04}/{commits:010}"));
        let run = Run::idempotent(tokio::time::Instant::now() + Duration::from_secs(10));
        let (value, event, place) = (&value, event.as_bytes(), place.as_bytes());
        let committed: Result<(), StoreError> = store
            .run(run, |tx| {
                tx.set(event, value);
                tx.set(place, b"order.created");
                Box::pin(std::future::ready(Ok(())))
            })
            .await;
        committed.expect("the disk has room for a measurement");
        commits += 1;
    }
    commits
}

fn baseline_rate(group: usize) -> f64 {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    let bytes = vec![b'x'; group * (EVENT_BYTES + 64)];
    let (started, mut groups) = (Instant::now(), 0);
    while started.elapsed() < MEASURE {
        file.write_all(&bytes)
            .and_then(|()| file.sync_data())
            .expect("the disk has room for a measurement");
        groups += 1;
    }
    (groups * group) as f64 / started.elapsed().as_secs_f64()
}
