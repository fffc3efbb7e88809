//! Tests of unknown paths, unsupported methods, and events that do not exist or were deleted.
//!
//! - RESOURCES-1: an event that never existed is 404 and a deleted one is 410, on every path that
//!   names an event.
//! - RESOURCES-2: a known path with an unsupported method is 405 and lists the supported methods.
//! - RESOURCES-3: a repeated acknowledgement gets the same answer.

use super::probe::{Probe, check_rejection};
use crate::harness::Call;
use serde_json::json;

const UNKNOWN_ID: &str = "019a0000-0000-7000-8000-000000000000";

#[tokio::test]
async fn unknown_routes_are_not_found() {
    let mut probe = Probe::start(&[]).await;
    let paths = [
        "/v1",
        "/v1/",
        "/v2/events",
        "/v1/event",
        "/v1/inbox/",
        "/v1/events/a/b/c",
        "/v1/%00",
        "//v1/inbox",
    ];
    for path in paths {
        probe.rejects(Call::get(path), 404, &["NOT_FOUND"]).await;
    }
    probe.rejects(Call::post("/v1/nothing", "{}"), 404, &["NOT_FOUND"]).await;
}

#[tokio::test]
async fn unsupported_methods_are_answered_with_the_supported_ones() {
    let mut probe = Probe::start(&[]).await;
    let cases = [
        ("PUT", "/v1/events", "POST"),
        ("DELETE", "/v1/inbox", "GET"),
        ("POST", "/v1/inbox", "GET"),
        ("PATCH", "/v1/events/batch", "POST"),
        ("POST", "/v1/health", "GET"),
    ];
    for (method, path, allowed) in cases {
        let answer = probe.rejects(Call::new(method, path), 405, &["METHOD_NOT_ALLOWED"]).await;
        let allow = answer.header("allow");
        assert!(
            allow.split(',').any(|method| method.trim() == allowed),
            "{method} {path}: Allow: {allow}"
        );
    }
    let ack = format!("/v1/events/{UNKNOWN_ID}/ack");
    probe.rejects(Call::get(ack), 405, &["METHOD_NOT_ALLOWED"]).await;
}

/// Every call that names an event in its path.
fn calls_on(id: &str) -> Vec<Call> {
    let event = format!("/v1/events/{id}");
    vec![
        Call::get(&event),
        Call::get(format!("{event}/status")),
        Call::post(format!("{event}/ack"), ""),
        Call::delete(&event),
    ]
}

#[tokio::test]
async fn events_that_never_existed_are_not_found() {
    let mut probe = Probe::start(&[]).await;
    let strange = [
        "nonsense",
        "123",
        "019a0000",
        "%00",
        "019a0000-0000-7000-8000-00000000000g",
        "..%2Finbox",
    ];
    for id in [UNKNOWN_ID, "00000000-0000-0000-0000-000000000000"].iter().chain(&strange) {
        for call in calls_on(id) {
            probe.rejects(call, 404, &["NOT_FOUND"]).await;
        }
    }
    let together = Call::post(
        "/v1/events/acknowledge/batch",
        json!({ "event_ids": [UNKNOWN_ID, "nonsense"] }).to_string(),
    );
    let answer = probe.client.send(together).await.expect(200).json();
    assert_eq!(answer["success_count"], 0, "{answer}");
    assert_eq!(answer["failure_count"], 2, "{answer}");
    probe.goes_on("acknowledging events that never existed").await;
}

#[tokio::test]
async fn deleted_events_are_gone() {
    let probe = Probe::start(&[]).await;
    let id = probe.client.accepted("short.lived", "{}").await;
    let answer = probe.client.delete(&format!("/v1/events/{id}")).await.expect(204);
    assert!(answer.body.is_empty(), "204 has no body");
    for call in calls_on(&id) {
        let answer = probe.client.send(call.clone()).await;
        check_rejection(&answer, 410, &["GONE"], &format!("{call:?}"));
    }
    let page = probe.client.get("/v1/inbox").await.expect(200).json();
    assert_eq!(page["pagination"]["total_count"], 0, "{page}");
}

#[tokio::test]
async fn the_ids_of_an_acknowledgement_are_checked() {
    let mut probe = Probe::start(&[]).await;
    for body in [
        json!({}),
        json!({ "event_ids": [] }),
        json!({ "event_ids": "x" }),
        json!({ "event_ids": [1] }),
    ] {
        let call = Call::post("/v1/events/acknowledge/batch", body.to_string());
        probe.rejects(call, 400, &["VALIDATION_ERROR"]).await;
    }
    let many = json!({ "event_ids": vec![UNKNOWN_ID; 1_001] });
    let call = Call::post("/v1/events/acknowledge/batch", many.to_string());
    probe.rejects_field(call, "event_ids").await;
}

#[tokio::test]
async fn a_repeated_acknowledgement_gets_the_same_answer() {
    let probe = Probe::start(&[]).await;
    let id = probe.client.accepted("twice.acknowledged", "{ }").await;
    let acknowledge = || Call::post(format!("/v1/events/{id}/ack"), "");
    let first = probe.client.send(acknowledge()).await.expect(200);
    assert_eq!(first.string("/status"), "delivered");
    let second = probe.client.send(acknowledge()).await.expect(200);
    assert_eq!(first.body, second.body, "the same body");
}
