//! Tests of `Content-Encoding` of requests and `Accept-Encoding` for answers.
//!
//! - CODINGS-T-1: every body may be gzip or zstd; what it expands to is treated like a plain body.
//! - CODINGS-T-2: a body that expands beyond its limit is rejected, however small it is.

use super::probe::Probe;
use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Call, STATE_DEADLINE_MS, listing, wait_until};
use serde_json::json;

const CODINGS: [&str; 2] = ["gzip", "zstd"];

fn cloud_event(id: &str) -> String {
    json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": "a.b", "data": {} })
        .to_string()
}

#[tokio::test]
async fn every_body_may_be_compressed() {
    let mut probe = Probe::start(&[]).await;
    for coding in CODINGS {
        let payload = "{ \"n\" : 1.0 }";
        let event = Call::event("a.b", payload);
        let accepted = probe.accepts(event.clone().coded(coding), 1).await;
        assert_eq!(listing::raw_payload(&accepted), payload, "byte for byte");
        let id = accepted.string("/event_id");
        let batch = json!({ "events": [{ "event_type": "a.b", "payload": {} }] }).to_string();
        probe.accepts(Call::post("/v1/events/batch", batch).coded(coding), 1).await;
        let lines = "{\"event_type\":\"a.b\",\"payload\":{}}\n".repeat(3);
        let lines = Call::post("/v1/events/batch", lines).coded(coding);
        probe.accepts(lines.header("content-type", "application/x-ndjson"), 3).await;
        let structured = Call::post("/v1/events", cloud_event(&format!("s-{coding}")));
        let structured = structured.coded(coding);
        probe.accepts(structured.header("content-type", "application/cloudevents+json"), 1).await;
        let binary = Call::post("/v1/events", "text").coded(coding);
        let binary = [("specversion", "1.0"), ("id", coding), ("source", "/s"), ("type", "a.b")]
            .iter()
            .fold(binary, |call, (name, value)| call.header(&format!("ce-{name}"), value))
            .header("content-type", "text/plain");
        let text = probe.accepts(binary, 1).await.json();
        assert_eq!(text["payload"]["data"], "text");
        let ids = json!({ "event_ids": [id] }).to_string();
        let acknowledge = Call::post("/v1/events/acknowledge/batch", ids).coded(coding);
        let acknowledged = probe.client.send(acknowledge).await.expect(200);
        assert_eq!(acknowledged.json()["success_count"], 1);
        let replay = probe.client.send(Call::post(format!("/v1/events/{id}/replay"), "")).await;
        replay.expect(202);
        let key = json!({ "name": coding }).to_string();
        probe.node.admin().send(Call::post("/v1/keys", key).coded(coding)).await.expect(201);
    }
    let plain = Call::event("a.b", "{}").header("content-encoding", "identity");
    probe.accepts(plain, 1).await;
}

#[tokio::test]
async fn other_and_false_codings_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    for path in ["/v1/events", "/v1/events/batch", "/v1/inbox/lease"] {
        for coding in ["br", "deflate", "compress", "gzip, zstd", "nonsense"] {
            let call = Call::post(path, "{}").header("content-encoding", coding);
            let rejected = probe.rejects(call, 415, &["UNSUPPORTED_MEDIA_TYPE"]).await;
            assert_eq!(rejected.header("accept-encoding"), "gzip, zstd", "{coding}");
        }
    }
    let other = Call::event("a.b", "{}").header("content-type", "text/plain");
    let rejected = probe.rejects(other, 415, &["UNSUPPORTED_MEDIA_TYPE"]).await;
    assert_eq!(rejected.header("accept-encoding"), "", "the coding is not why");
    for coding in CODINGS {
        let plain = Call::event("a.b", "{}").header("content-encoding", coding);
        probe.rejects(plain, 400, &["INVALID_JSON"]).await;
        let twice = Call::event("a.b", "{}").coded(coding).coded(coding);
        probe.rejects(twice, 415, &["UNSUPPORTED_MEDIA_TYPE"]).await;
    }
}

#[tokio::test]
async fn a_bomb_is_rejected() {
    let mut probe = Probe::start(&[]).await;
    for coding in CODINGS {
        for path in ["/v1/events", "/v1/events/batch", "/v1/inbox/lease"] {
            let bomb = Call::post(path, vec![b' '; 9 << 20]).coded(coding);
            probe.rejects(bomb, 413, &["PAYLOAD_TOO_LARGE"]).await;
        }
    }
}

#[tokio::test]
async fn an_idempotency_key_compares_what_was_compressed() {
    let mut probe = Probe::start(&[]).await;
    let event = |payload: &str| Call::event("a.b", payload).header("idempotency-key", "same");
    let first = probe.accepts(event("{\"n\":1}"), 1).await;
    for coding in CODINGS {
        let again = probe.accepts(event("{\"n\":1}").coded(coding), 0).await;
        assert_eq!((&again.body, again.header("idempotent-replayed")), (&first.body, "true"));
        let other = event("{\"n\":2}").coded(coding);
        probe.rejects(other, 422, &["IDEMPOTENCY_KEY_REUSED"]).await;
    }
}

#[tokio::test]
async fn large_answers_are_compressed_when_asked_for() {
    let mut probe = Probe::start(&[]).await;
    let event = Call::event("a.b", &format!("{{\"text\":\"{}\"}}", "x".repeat(2_000)));
    probe.accepts(event.clone(), 1).await;
    let plain = probe.client.get("/v1/inbox").await.expect(200);
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    for (accepted, coding) in [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip;q=0.9, zstd;q=0.5, *;q=0", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=0", ""),
        ("br", ""),
        ("identity, gzip;q=0.5", ""),
    ] {
        let call = Call::get("/v1/inbox").header("accept-encoding", accepted);
        let answer = probe.client.send(call).await.expect(200);
        assert_eq!(answer.header("content-encoding"), coding, "{accepted}");
        assert_eq!(answer.header("vary"), "accept-encoding", "{accepted}");
        let answer = if coding.is_empty() { answer } else { answer.expanded() };
        assert_eq!(answer.body, plain.body, "{accepted}");
    }
    for call in [event, Call::get("/openapi.json"), Call::get("/docs")] {
        let answer = probe.client.send(call.header("accept-encoding", "gzip")).await;
        assert_eq!(answer.header("content-encoding"), "gzip", "{}", answer.text());
        assert!(!answer.expanded().body.is_empty());
    }
    let small = Call::get("/v1/health").header("accept-encoding", "gzip, zstd");
    let small = probe.client.send(small).await.expect(200);
    assert_eq!((small.header("content-encoding"), small.header("vary")), ("", ""));
    let bad = json!({ "events": vec![json!({}); 50] }).to_string();
    let bad = Call::post("/v1/events/batch", bad).header("accept-encoding", "gzip");
    let bad = probe.client.send(bad).await.expect(400);
    assert_eq!(bad.header("content-encoding"), "gzip", "errors too");
    assert_eq!(bad.expanded().string("/error/code"), "VALIDATION_ERROR");
}

#[tokio::test]
async fn webhooks_stay_plain() {
    let receiver = Receiver::start(Reaction::Answer(200)).await;
    let probe = Probe::start(&[]).await;
    let subscription = json!({ "target_url": receiver.url(), "event_types": ["a.b"] });
    probe.client.post("/v1/subscriptions", &subscription).await.expect(201);
    let text = "x".repeat(5_000);
    let event = Call::event("a.b", &format!("{{\"text\":\"{text}\"}}")).coded("gzip");
    probe.client.send(event.header("accept-encoding", "gzip")).await.expect(201);
    wait_until(STATE_DEADLINE_MS, "the webhook arrives", || async {
        !receiver.arrived().is_empty()
    })
    .await;
    let webhook = &receiver.arrived()[0];
    assert_eq!((webhook.header("content-encoding"), webhook.header("accept-encoding")), ("", ""));
    assert_eq!(webhook.event()["payload"]["text"], text);
}
