//! Tests of batches that are empty, too large or partly invalid, as JSON and as lines.
//!
//! - BATCH-T-1: items are judged separately: valid items are accepted, invalid ones get an error at
//!   their index.
//! - BATCH-T-2: a batch without a valid item is rejected.

use super::probe::Probe;
use crate::harness::{Answer, Call, listing};
use serde_json::{Value, json};

fn batch(events: Value) -> Call {
    Call::post("/v1/events/batch", json!({ "events": events }).to_string())
}

fn lines(text: &str) -> Call {
    Call::post("/v1/events/batch", text.to_owned()).header("content-type", "application/x-ndjson")
}

/// Checks that the answer contains exactly the accepted and the rejected indexes.
fn check_results(answer: &Answer, good: &[u64], bad: &[u64]) {
    let json = answer.json();
    assert_eq!(json["success_count"], json!(good.len()), "{json}");
    assert_eq!(json["failure_count"], json!(bad.len()), "{json}");
    let results = json["results"].as_array().expect("results");
    assert_eq!(results.len(), good.len() + bad.len(), "{json}");
    for result in results {
        let index = result["index"].as_u64().expect("an index");
        if good.contains(&index) {
            assert!(result["event_id"].is_string() && result["status"] == "received", "{result}");
            assert!(result["timestamp"].is_string() && result.get("error").is_none(), "{result}");
        } else {
            assert!(bad.contains(&index), "{result}");
            assert!(!result["error"].is_null() && result.get("event_id").is_none(), "{result}");
        }
    }
}

#[tokio::test]
async fn malformed_batches_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    probe.rejects_field(batch(json!([])), "events").await;
    probe.rejects_field(Call::post("/v1/events/batch", "{}"), "events").await;
    for value in [json!(null), json!("x"), json!({}), json!(1)] {
        probe.rejects_field(batch(value), "events").await;
    }
    let many = vec![json!({ "event_type": "a.b", "payload": {} }); 1_001];
    probe.rejects_field(batch(json!(many)), "events").await;
    for body in ["", "nonsense", "[", "{\"events\":[}"] {
        let call = Call::post("/v1/events/batch", body).header("content-type", "application/json");
        probe.rejects(call, 400, &["INVALID_JSON"]).await;
    }
    let call = Call::post("/v1/events/batch", "{}").header("content-type", "text/csv");
    probe.rejects(call, 415, &["UNSUPPORTED_MEDIA_TYPE"]).await;
}

#[tokio::test]
async fn a_batch_without_a_valid_item_is_rejected() {
    let mut probe = Probe::start(&[]).await;
    let bad = [
        json!([1]),
        json!([null, "x", []]),
        json!([{}]),
        json!([
            { "event_type": "a..b", "payload": {} },
            { "event_type": "a.b" },
            { "payload": {} },
        ]),
        json!([{ "event_type": "a.b", "payload": [] }]),
    ];
    for events in bad {
        probe.rejects(batch(events), 400, &["VALIDATION_ERROR"]).await;
    }
    probe.rejects(lines("nonsense\n{}\n"), 400, &["VALIDATION_ERROR", "INVALID_JSON"]).await;
}

#[tokio::test]
async fn valid_items_are_accepted_beside_invalid_ones() {
    let mut probe = Probe::start(&[]).await;
    let large = "x".repeat(1 << 20);
    let events = json!([
        { "event_type": "a.first", "payload": { "n": 0 } },
        { "event_type": "", "payload": {} },
        { "event_type": "a.b", "payload": { "large": large } },
        7,
        { "event_type": "a.last", "payload": { "n": 4 } },
        { "event_type": "a.b", "payload": {}, "timestamp": "never" },
    ]);
    let answer = probe.accepts(batch(events), 2).await;
    check_results(&answer, &[0, 4], &[1, 2, 3, 5]);
    let listed = listing::all(&probe.client, "event_type=a.*").await.events;
    let types: Vec<_> = listed.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["a.first", "a.last"]);
}

#[tokio::test]
async fn a_batch_has_at_most_a_thousand_items() {
    let mut probe = Probe::start(&[]).await;
    let events: Vec<Value> =
        (0..1_000).map(|n| json!({ "event_type": "large.batch", "payload": { "n": n } })).collect();
    let answer = probe.accepts(batch(json!(events)), 1_000).await;
    check_results(&answer, &(0..1_000).collect::<Vec<_>>(), &[]);
    let listed = listing::all(&probe.client, "limit=200").await.events;
    for (number, event) in listed.iter().enumerate() {
        assert_eq!(event.payload.get(), format!("{{\"n\":{number}}}"), "in the order of the batch");
    }
    let events =
        json!({ "events": [{ "event_type": "a.b", "payload": { "p": "x".repeat(9 << 20) } }] });
    probe.rejects_as_too_large("/v1/events/batch", &events.to_string()).await;
}

#[tokio::test]
async fn lines_are_judged_separately() {
    let mut probe = Probe::start(&[]).await;
    let text = concat!(
        "{\"event_type\":\"line.first\",\"payload\":{ \"kept\" : 1.0 }}\n",
        "nonsense\n",
        "{\"event_type\":\"line.bad\"}\r\n",
        "{\"event_type\":\"line.last\",\"payload\":{}}",
    );
    let answer = probe.accepts(lines(text), 2).await;
    check_results(&answer, &[0, 3], &[1, 2]);
    let listed = listing::all(&probe.client, "event_type=line.first").await.events;
    assert_eq!(listed[0].payload.get(), "{ \"kept\" : 1.0 }", "byte for byte");
    probe.accepts(lines("{\"event_type\":\"line.only\",\"payload\":{}}\n"), 1).await;
    let many = "{\"event_type\":\"a.b\",\"payload\":{}}\n".repeat(1_001);
    probe.rejects(lines(&many), 400, &["VALIDATION_ERROR"]).await;
    for empty in ["\n", "\n\n \n"] {
        probe.rejects(lines(empty), 400, &["VALIDATION_ERROR", "INVALID_JSON"]).await;
    }
}
