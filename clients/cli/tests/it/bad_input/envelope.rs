//! Tests of single events with members that are missing, of the wrong type or out of bounds.
//!
//! - ENVELOPE-T-1: a rejection names all invalid members in `details`.
//! - ENVELOPE-T-2: bounds are tested from both sides: the last valid value is accepted, the first
//!   invalid one is rejected.

use super::probe::Probe;
use crate::harness::Call;
use serde_json::{Value, json};

const PAYLOAD_BYTES_MAX: usize = 1 << 20;

fn post(body: &Value) -> Call {
    Call::post("/v1/events", body.to_string())
}

#[tokio::test]
async fn members_of_the_wrong_type_or_missing_are_named() {
    let mut probe = Probe::start(&[]).await;
    let wrong = [json!(5), json!(true), json!(null), json!([]), json!({ "a": 1 })];
    for value in &wrong {
        probe
            .rejects_field(post(&json!({ "event_type": value, "payload": {} })), "event_type")
            .await;
    }
    for value in [json!(5), json!(true), json!(null), json!([{}]), json!("{}")] {
        probe
            .rejects_field(post(&json!({ "event_type": "a.b", "payload": value })), "payload")
            .await;
    }
    for value in [
        json!(5),
        json!([]),
        json!({}),
        json!(""),
        json!("yesterday"),
        json!("2026-13-01T00:00:00Z"),
    ] {
        let body = json!({ "event_type": "a.b", "payload": {}, "timestamp": value });
        probe.rejects_field(post(&body), "timestamp").await;
    }
    probe.rejects_field(post(&json!({ "payload": {} })), "event_type").await;
    probe.rejects_field(post(&json!({ "event_type": "a.b" })), "payload").await;
    let both = probe.rejects(post(&json!({})), 400, &["VALIDATION_ERROR"]).await.json();
    assert_eq!(
        both["error"]["details"].as_array().map(Vec::len),
        Some(2),
        "every fault at once: {both}"
    );
    let body = json!({
        "event_type": "a.b",
        "payload": {},
        "unknown": 1,
        "timestamp": "2026-01-01T01:00:00.5+01:00",
    });
    let event = probe.accepts(post(&body), 1).await;
    let timestamp: jiff::Timestamp = event.string("/timestamp").parse().expect("RFC 3339");
    assert_eq!(
        timestamp,
        "2026-01-01T00:00:00.5Z".parse().expect("RFC 3339"),
        "the sender's time, in UTC"
    );
    assert!(event.string("/timestamp").ends_with('Z'));
}

#[tokio::test]
async fn times_are_rfc_3339_and_kept_to_the_nanosecond() {
    let mut probe = Probe::start(&[]).await;
    let event = |time: &str| json!({ "event_type": "a.b", "payload": {}, "timestamp": time });
    for (sent, kept) in [
        ("2026-01-01t01:00:00.123456789012+01:00", "2026-01-01T00:00:00.123456789Z"),
        ("9999-12-31T23:59:59.9z", "9999-12-31T23:59:59.900Z"),
        ("0001-01-01T00:00:00-00:00", "0001-01-01T00:00:00.000Z"),
        ("2026-01-01T23:59:00+23:59", "2026-01-01T00:00:00.000Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.500Z"),
    ] {
        let accepted = probe.accepts(post(&event(sent)), 1).await;
        assert_eq!(accepted.string("/timestamp"), kept, "{sent}");
        let id = accepted.string("/event_id");
        let read = probe.client.get(&format!("/v1/events/{id}")).await.expect(200);
        assert_eq!(read.string("/timestamp"), kept, "{sent}");
    }
    for time in ["2026-01-01T00:00:00+24:00", "2026-01-01T00:00:60Z", "9999-12-31T23:59:59-01:00"] {
        probe.rejects_field(post(&event(time)), "timestamp").await;
        let encoded = time.replace('+', "%2B");
        for field in ["from_timestamp", "to_timestamp"] {
            probe.rejects_field(Call::get(format!("/v1/inbox?{field}={encoded}")), field).await;
        }
        let key = json!({ "name": "short", "expires_at": time }).to_string();
        let rejected = probe.node.admin().send(Call::post("/v1/keys", key)).await.expect(400);
        assert_eq!(rejected.string("/error/details/0/field"), "expires_at");
    }
    let key = json!({ "name": "long", "expires_at": "9999-12-31T23:59:59.1234567890+00:00" });
    let made = probe.node.admin().post("/v1/keys", &key).await.expect(201);
    assert_eq!(made.string("/expires_at"), "9999-12-31T23:59:59.123456789Z");
    let all = "/v1/inbox?from_timestamp=0001-01-01T00:00:00Z&to_timestamp=9999-12-31T23:59:59.9Z";
    let page = probe.client.get(all).await.expect(200).json();
    assert!(page["events"].as_array().is_some_and(|events| events.len() > 5), "{page}");
}

#[tokio::test]
async fn event_types_have_an_alphabet_and_a_maximum_length() {
    let mut probe = Probe::start(&[]).await;
    let long = "a".repeat(129);
    let bad = [
        "", " ", ".", ".a", "a.", "a..b", "a b", "a/b", "ä", "a*", "order.*", "a\u{0}b", "a\n",
        "😀", "a:b", "a,b", &long,
    ];
    for event_type in bad {
        probe
            .rejects_field(post(&json!({ "event_type": event_type, "payload": {} })), "event_type")
            .await;
    }
    let raw = Call::post("/v1/events", r#"{"event_type":"a\u0000","payload":{}}"#);
    probe.rejects_field(raw, "event_type").await;
    for event_type in
        ["a", "A-1_b.C", "1.2.3", &"a".repeat(128), "a.".repeat(63).trim_end_matches('.')]
    {
        let event =
            probe.accepts(post(&json!({ "event_type": event_type, "payload": {} })), 1).await;
        assert_eq!(event.string("/event_type"), event_type);
    }
}

#[tokio::test]
async fn a_payload_has_at_most_one_mebibyte() {
    let mut probe = Probe::start(&[]).await;
    let payload = |length_bytes: usize| format!("{{\"p\":\"{}\"}}", "x".repeat(length_bytes - 8));
    let largest = payload(PAYLOAD_BYTES_MAX);
    assert_eq!(largest.len(), PAYLOAD_BYTES_MAX);
    let event = probe.accepts(Call::event("large.event", &largest), 1).await;
    assert_eq!(crate::harness::listing::raw_payload(&event), largest);
    let id = event.string("/event_id");
    let read = probe.client.get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(crate::harness::listing::raw_payload(&read), largest, "byte for byte");
    let larger = payload(PAYLOAD_BYTES_MAX + 1);
    let body = format!("{{\"event_type\":\"large.event\",\"payload\":{larger}}}");
    probe.rejects_as_too_large("/v1/events", &body).await;
}

#[tokio::test]
async fn an_answer_has_every_member_of_an_event() {
    let mut probe = Probe::start(&[]).await;
    let call = Call::event("whole.event", "{ \"a\" : 1.0 }").header("user-agent", "tests/1");
    let answer = probe.accepts(call, 1).await;
    let event = answer.json();
    let members = [
        "event_id",
        "event_type",
        "timestamp",
        "payload",
        "status",
        "created_at",
        "attempts",
        "last_attempt_at",
        "next_retry_at",
        "delivered_at",
        "failed_at",
        "last_error",
        "metadata",
    ];
    for member in members {
        assert!(event.get(member).is_some(), "no {member}: {event}");
    }
    for member in ["source_ip", "user_agent", "api_version", "correlation_id", "idempotency_key"] {
        assert!(event["metadata"].get(member).is_some(), "no metadata.{member}: {event}");
    }
    assert_eq!(event["status"], "received");
    assert_eq!(event["attempts"], 0);
    assert_eq!(event["metadata"]["user_agent"], "tests/1");
    assert_eq!(event["metadata"]["source_ip"], "127.0.0.1");
    assert_eq!(event["metadata"]["api_version"], "v1");
    assert_eq!(event["timestamp"], event["created_at"], "the default is the time of acceptance");
    let read =
        probe.client.get(&format!("/v1/events/{}", answer.string("/event_id"))).await.expect(200);
    assert_eq!(read.json(), event, "a GET returns the same event");
}
