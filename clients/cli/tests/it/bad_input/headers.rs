//! Tests of response headers, and of the request headers that select a response.
//!
//! - HEADERS-T-1: every response has the security headers.
//! - HEADERS-T-2: a request id of 1 to 128 visible ASCII characters is echoed; another is replaced.
//! - HEADERS-T-3: `Accept: application/problem+json` selects RFC 9457, with the same `error`
//!   member.

use super::probe::{Probe, check_error_member, check_rejection, check_security_headers};
use crate::harness::Call;

#[tokio::test]
async fn every_response_carries_the_security_headers() {
    let probe = Probe::start(&[]).await;
    let id = probe.client.accepted("a.b", "{}").await;
    let calls = [
        (Call::get("/v1/health"), 200),
        (Call::get("/livez"), 200),
        (Call::get("/readyz"), 200),
        (Call::get("/openapi.json"), 200),
        (Call::get("/docs"), 200),
        (Call::get("/v1/inbox"), 200),
        (Call::get(format!("/v1/events/{id}")), 200),
        (Call::event("a.b", "{}"), 201),
        (Call::delete(format!("/v1/events/{id}")), 204),
        (Call::get(format!("/v1/events/{id}")), 410),
        (Call::get("/nowhere"), 404),
        (Call::new("PUT", "/v1/events"), 405),
        (Call::new("OPTIONS", "/v1/events").header("origin", "https://evil.example"), 0),
    ];
    for (call, status) in calls {
        let what = format!("{call:?}");
        let answer = probe.client.send(call).await;
        assert!(status == 0 || answer.status == status, "{what}: {}", answer.text());
        check_security_headers(&answer, &what);
        assert!(
            answer.header("access-control-allow-origin").is_empty(),
            "{what}: no origin is configured"
        );
        assert!(answer.header("server").is_empty(), "{what}: nothing about the server");
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_or_replaced() {
    let probe = Probe::start(&[]).await;
    let longest = "x".repeat(128);
    for id in ["abc-123", "a", "!~#$%", &longest] {
        for (path, status) in [("/v1/inbox", 200), ("/nowhere", 404), ("/v1/health", 200)] {
            let answer =
                probe.client.send(Call::get(path).header("x-request-id", id)).await.expect(status);
            assert_eq!(answer.header("x-request-id"), id, "{path}");
        }
    }
    let too_long = "x".repeat(129);
    for id in ["", "with space", "tab\tinside", "ümlaut", &too_long] {
        let answer = probe.client.send(Call::get("/nowhere").header("x-request-id", id)).await;
        check_rejection(&answer, 404, &["NOT_FOUND"], id);
        let made = answer.header("x-request-id");
        assert!(!made.is_empty() && made != id, "{id:?} is replaced, not echoed: {made:?}");
        assert!(made.bytes().all(|byte| byte.is_ascii_graphic()), "{made:?}");
    }
    let first = probe.client.get("/v1/health").await;
    let second = probe.client.get("/v1/health").await;
    assert_ne!(
        first.header("x-request-id"),
        second.header("x-request-id"),
        "each request gets its own"
    );
}

#[tokio::test]
async fn problem_json_is_sent_on_request() {
    let probe = Probe::start(&[]).await;
    let calls = [
        (Call::event("a..b", "{}"), 400, "VALIDATION_ERROR"),
        (Call::post("/v1/events", "nonsense"), 400, "INVALID_JSON"),
        (Call::get("/nowhere"), 404, "NOT_FOUND"),
        (Call::new("PUT", "/v1/events"), 405, "METHOD_NOT_ALLOWED"),
        (Call::get("/v1/inbox").header("x-api-key", "nonsense"), 401, "UNAUTHORIZED"),
    ];
    for (call, status, code) in calls {
        let answer = probe
            .client
            .send(call.header("accept", "application/problem+json"))
            .await
            .expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{code}");
        check_error_member(&answer, &[code], code);
        let json = answer.json();
        assert_eq!(json["status"], status, "{json}");
        for member in ["type", "title", "detail", "instance"] {
            assert!(json[member].is_string(), "{code}: no {member}: {json}");
        }
    }
}

#[tokio::test]
async fn the_answer_to_a_post_can_omit_the_payload() {
    let mut probe = Probe::start(&[]).await;
    let minimal = Call::event("a.b", "{\"n\":1}").header("prefer", "return=minimal");
    let answer = probe.accepts(minimal, 1).await;
    assert!(answer.json().get("payload").is_none(), "{}", answer.text());
    let id = answer.string("/event_id");
    assert_eq!(answer.header("preference-applied"), "return=minimal");
    assert!(
        answer.header("location").ends_with(&format!("/v1/events/{id}")),
        "{}",
        answer.header("location")
    );
    let read = probe.client.get(&format!("/v1/events/{id}")).await.expect(200).json();
    assert_eq!(read["payload"]["n"], 1, "only the answer omits it");
    let full = probe
        .accepts(Call::event("a.b", "{\"n\":1}").header("prefer", "return=representation"), 1)
        .await;
    assert_eq!(full.json()["payload"]["n"], 1);
}
