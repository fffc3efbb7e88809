//! Tests of idempotency keys: repeated requests, other requests with the same key, malformed keys.
//!
//! - IDEMPOTENCY-1: a repeated request gets the first response again, byte for byte, with a header
//!   that marks it as a replay.
//! - IDEMPOTENCY-2: a request with the same key but another type or payload is rejected and changes
//!   nothing. A request with another timestamp counts as the same.
//! - IDEMPOTENCY-3: a rejected request does not use up its key. Parallel requests with one key
//!   create one event.
//!
//! Keys of requests that a crash left unanswered are tested in `durability.rs`.

use super::probe::Probe;
use crate::harness::{Call, Node};

fn keyed(payload: &str, key: &str) -> Call {
    Call::event("keyed.event", payload).header("x-idempotency-key", key)
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_response_again() {
    let mut probe = Probe::start(&[]).await;
    let first = probe.accepts(keyed("{ \"n\" : 1 }", "order-1"), 1).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    assert_eq!(first.string("/metadata/idempotency_key"), "order-1");
    let spellings = [
        ("X-Idempotency-Key", "order-1"),
        ("Idempotency-Key", "order-1"),
        ("Idempotency-Key", "\"order-1\""),
    ];
    for (name, key) in spellings {
        let call = Call::event("keyed.event", "{ \"n\" : 1 }").header(name, key);
        let again = probe.accepts(call, 0).await;
        assert_eq!(again.header("idempotent-replayed"), "true", "{name}: {key}");
        assert_eq!(again.body, first.body, "{name}: {key}: byte for byte");
        assert_eq!(again.header("location"), first.header("location"), "{name}: {key}");
    }
}

#[tokio::test]
async fn another_body_under_the_key_is_rejected() {
    let mut probe = Probe::start(&[]).await;
    probe.accepts(keyed("{\"n\":1}", "order-1"), 1).await;
    probe.rejects(keyed("{\"n\":2}", "order-1"), 422, &["IDEMPOTENCY_KEY_REUSED"]).await;
    let other_type = Call::event("other.event", "{\"n\":1}").header("idempotency-key", "order-1");
    probe.rejects(other_type, 422, &["IDEMPOTENCY_KEY_REUSED"]).await;
    probe.accepts(keyed("{\"n\":2}", "order-2"), 1).await;
    probe.accepts(keyed("{\"n\":1}", "order-1"), 0).await;
}

#[tokio::test]
async fn another_timestamp_under_the_key_is_the_same_request() {
    let mut probe = Probe::start(&[]).await;
    let event = |timestamp: &str| {
        format!(r#"{{"event_type":"keyed.event","payload":{{"n":1}}{timestamp}}}"#)
    };
    let timestamps = [
        "",
        r#","timestamp":null"#,
        r#","timestamp":"2026-01-01T00:00:00Z""#,
        r#","timestamp":"2026-01-01T01:00:00+01:00""#,
        r#","timestamp":"2026-01-01T00:00:05Z""#,
    ];
    for (index, timestamp) in timestamps.iter().enumerate() {
        let single = |timestamp: &str| {
            let key = format!("single-{index}");
            Call::post("/v1/events", event(timestamp)).header("idempotency-key", &key)
        };
        let batch = |timestamp: &str| {
            let body = format!(r#"{{"events":[{}]}}"#, event(timestamp));
            let key = format!("batch-{index}");
            Call::post("/v1/events/batch", body).header("idempotency-key", &key)
        };
        let firsts =
            [probe.accepts(single(timestamp), 1).await, probe.accepts(batch(timestamp), 1).await];
        for other in timestamps {
            let again =
                [probe.accepts(single(other), 0).await, probe.accepts(batch(other), 0).await];
            for (first, again) in firsts.iter().zip(again) {
                assert_eq!(again.header("idempotent-replayed"), "true", "{timestamp} {other}");
                assert_eq!(again.body, first.body, "{timestamp} {other}: byte for byte");
            }
        }
    }
}

#[tokio::test]
async fn malformed_keys_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    let long = "k".repeat(256);
    for key in ["", "\"\"", long.as_str(), &format!("\"{long}\"")] {
        probe.rejects(keyed("{}", key), 400, &["VALIDATION_ERROR"]).await;
    }
    let longest = "k".repeat(255);
    probe.accepts(keyed("{}", &longest), 1).await;
    let rejected = probe
        .rejects(keyed("{\"payload\":", "fresh"), 400, &["INVALID_JSON", "VALIDATION_ERROR"])
        .await;
    assert_eq!(rejected.header("idempotent-replayed"), "");
    // A rejected request does not use up its key.
    probe.accepts(keyed("{}", "fresh"), 1).await;
}

#[tokio::test]
async fn a_key_is_remembered_over_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let first = node.client().send(keyed("{\"n\":1}", "kept")).await.expect(201);
    node.kill_hard();
    let node = Node::start(directory.path(), &[]).await;
    let again = node.client().send(keyed("{\"n\":1}", "kept")).await.expect(201);
    assert_eq!(again.string("/event_id"), first.string("/event_id"));
    assert_eq!(again.header("idempotent-replayed"), "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_with_one_key_create_one_event() {
    let mut probe = Probe::start(&[]).await;
    for round in 0..10 {
        let key = format!("raced-{round}");
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (client, call) = (probe.node.client(), keyed("{\"n\":1}", &key));
                tokio::spawn(async move { client.send(call).await })
            })
            .collect();
        let mut ids = Vec::new();
        for task in tasks {
            let answer = task.await.expect("a sender does not panic");
            match answer.status {
                201 => ids.push(answer.string("/event_id")),
                // The first was still in flight.
                status => assert_eq!(status, 409, "{}", answer.text()),
            }
        }
        assert!(
            !ids.is_empty() && ids.iter().all(|id| *id == ids[0]),
            "one key, one event: {ids:?}"
        );
        probe.accepts(keyed("{\"n\":1}", &key), 1).await;
    }
}
