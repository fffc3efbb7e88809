//! Encoding and decoding records of the embedded engine's log.
//!
//! The baseline copies the same bytes and checksums them, the least that any encoding does.
//! Run with `cargo bench -p triggers-store --features fuzzing --bench records`.

#![expect(missing_docs, reason = "criterion_group makes a public function")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use triggers_store::fuzzing::{decode_record, encode_record};

/// Events of one record, as in a batch of a busy tenant.
const EVENTS: usize = 100;
const EVENT_BYTES: usize = 1_024;

/// The pairs of one batch in key order: each event's row and its entry in the queue.
fn pairs() -> Vec<(Vec<u8>, Vec<u8>)> {
    let key = |kind: &str, number| format!("p/0017/t/tenant/{kind}/{number:032x}").into_bytes();
    let events = (0..EVENTS).map(|number| (key("e", number), vec![b'x'; EVENT_BYTES]));
    events.chain((0..EVENTS).map(|number| (key("q", number), b"order.created".to_vec()))).collect()
}

fn records(criterion: &mut Criterion) {
    let pairs = pairs();
    let encode = || encode_record(pairs.iter().map(|(key, value)| (&key[..], Some(&value[..]))));
    let record = Bytes::from(encode());
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Bytes(record.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(encode));
    group.bench_function("decode", |bencher| bencher.iter(|| decode_record(black_box(&record))));
    group.bench_function("baseline: copy and checksum", |bencher| {
        bencher.iter(|| {
            let copy = record.to_vec();
            crc32fast::hash(black_box(&copy))
        });
    });
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
