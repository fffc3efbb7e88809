//! Benchmarks of the protocol functions that run for every event.
//!
//! `bincode` is measured beside the codec as its baseline: the difference is the cost of the
//! version byte. The other functions are compared with the parser or printer that they build on.

#![expect(missing_docs, reason = "criterion_group makes a public function")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use triggers_protocol::codec::{decode, encode_into};
use triggers_protocol::json::check_payload;
use triggers_protocol::{ApiKey, Environment, EventId, EventType, KeyHash, Metadata, Timestamp};

type Row = (EventId, EventType, Metadata, Vec<u8>);

fn row() -> Row {
    let event_type = EventType::parse("order.created").expect("a valid event type");
    let metadata = Metadata {
        source_ip: "203.0.113.7".to_owned(),
        user_agent: Some("producer/1.0".to_owned()),
        correlation_id: "019b76da-a800-7000-8000-000000000001".to_owned(),
        idempotency_key: Some("order-42".to_owned()),
        trace_parent: None,
    };
    (EventId::from_bytes([1; 16]), event_type, metadata, payload(1_024).into_bytes())
}

/// A JSON object of about `bytes` bytes.
fn payload(bytes: usize) -> String {
    let members: Vec<_> =
        (0..bytes / 32).map(|n| format!("\"member{n}\":\"value {n:012}\"")).collect();
    format!("{{{}}}", members.join(","))
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let row = row();
    let mut bytes = Vec::new();
    encode_into(&mut bytes, 1, &row);
    let plain = bincode::config::standard();
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let buffer = || Vec::with_capacity(2_048);
    group.bench_function("encode", |bencher| {
        bencher.iter_batched_ref(buffer, |out| encode_into(out, 1, &row), BatchSize::SmallInput);
    });
    group.bench_function("encode, bincode alone", |bencher| {
        let encode = |out: &mut Vec<u8>| bincode::encode_into_std_write(&row, out, plain);
        bencher.iter_batched_ref(buffer, encode, BatchSize::SmallInput);
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode::<Row>(1, black_box(&bytes)));
    });
    group.bench_function("decode, bincode alone", |bencher| {
        bencher.iter(|| bincode::decode_from_slice::<Row, _>(black_box(&bytes[1..]), plain));
    });
    group.finish();
}

fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    for bytes in [256, 16_384] {
        let text = payload(bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("check_payload, {bytes} bytes"), |bencher| {
            bencher.iter(|| check_payload(black_box(&text)));
        });
        group.bench_function(format!("serde_json alone, {bytes} bytes"), |bencher| {
            bencher.iter(|| serde_json::from_str::<serde::de::IgnoredAny>(black_box(&text)));
        });
    }
    group.finish();
}

fn texts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("texts");
    let environment = Environment::system();
    let key = ApiKey::generate(triggers_protocol::api_key::KeyKind::Live, &environment);
    let time = Timestamp::from_millis(1_767_225_600_123);
    let text = time.to_string();
    group.bench_function("KeyHash::of", |bencher| {
        bencher.iter(|| KeyHash::of(black_box(key.reveal())));
    });
    group.bench_function("Timestamp::parse", |bencher| {
        bencher.iter(|| Timestamp::parse(black_box(&text)));
    });
    group.bench_function("Timestamp::to_string", |bencher| {
        bencher.iter(|| black_box(time).to_string());
    });
    group.bench_function("EventId::mint", |bencher| {
        bencher.iter(|| EventId::mint(EventId::ZERO, black_box(time), environment.bytes()));
    });
    group.finish();
}

criterion_group!(benches, codec, json, texts);
criterion_main!(benches);
