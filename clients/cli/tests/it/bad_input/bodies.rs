//! Tests of bodies that are not JSON, or not I-JSON (RFC 7493).
//!
//! The node accepts I-JSON only: UTF-8, no lone surrogates, no duplicate names, at most 127 levels
//! of nesting. JSON libraries interpret other JSON differently, so the node rejects it.

use super::probe::Probe;
use crate::harness::Call;

const NESTING_MAX: usize = 127;

fn post(body: impl Into<bytes::Bytes>) -> Call {
    Call::post("/v1/events", body)
}

#[tokio::test]
async fn bodies_that_are_not_json_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    let bodies = [
        "",
        " ",
        "nonsense",
        "{",
        "}",
        "{\"event_type\"",
        "{\"event_type\":\"a.b\",\"payload\":{}",
        "{'a':1}",
        "{\"event_type\":\"a.b\",\"payload\":{}}}",
        "{\"event_type\":\"a.b\",\"payload\":{}} x",
        "{\"event_type\":\"a.b\",\"payload\":{},}",
        "{\"event_type\":\"a.b\",\"payload\":{\"a\":01}}",
        "{\"event_type\":\"a.b\",\"payload\":{\"a\":NaN}}",
        "<event/>",
        "event_type=a.b",
        "\u{feff}{\"event_type\":\"a.b\",\"payload\":{}}",
        "{\"event_type\":\"a.b\",\"payload\":{\"a\":\"\u{1}\"}}",
        "{\"event_type\":\"a.b\",\"payload\":{}\u{0}}",
        "\u{0}",
        "{\"event_type\":\"a.b\"/**/,\"payload\":{}}",
        "{\"event_type\":\"a.b\",\"payload\":{\"a\":\"\\x\"}}",
    ];
    for body in bodies {
        // A syntax error inside the payload may be reported for the payload.
        let call = post(body).header("content-type", "application/json");
        probe.rejects(call, 400, &["INVALID_JSON", "VALIDATION_ERROR"]).await;
    }
    for body in ["nonsense", "{", "{\"event_type\":\"a.b\",\"payload\":{}} x"] {
        probe.rejects(post(body), 400, &["INVALID_JSON"]).await;
    }
}

#[tokio::test]
async fn json_that_is_not_an_object_is_rejected() {
    let mut probe = Probe::start(&[]).await;
    for body in
        ["[]", "[{\"event_type\":\"a.b\",\"payload\":{}}]", "\"text\"", "5", "-1e3", "true", "null"]
    {
        probe.rejects(post(body), 400, &["INVALID_JSON", "VALIDATION_ERROR"]).await;
    }
}

#[tokio::test]
async fn json_outside_i_json_is_rejected() {
    let mut probe = Probe::start(&[]).await;
    let bodies: [&[u8]; 12] = [
        br#"{"event_type":"a.b","event_type":"c.d","payload":{}}"#,
        br#"{"event_type":"a.b","payload":{},"payload":{"x":1}}"#,
        br#"{"event_type":"a.b","payload":{},"p\u0061yload":{"x":1}}"#,
        br#"{"event_type":"a.b","payload":{"x":1,"x":2}}"#,
        br#"{"event_type":"a.b","payload":{"x":1,"\u0078":2}}"#,
        br#"{"event_type":"a.b","payload":{"deep":[{"x":1,"y":0,"x":1}]}}"#,
        br#"{"event_type":"a.b","payload":{"lone":"\ud800"}}"#,
        br#"{"event_type":"a.b","payload":{"lone":"\udc00 after"}}"#,
        br#"{"event_type":"a.b","payload":{"\udfff":1}}"#,
        b"{\"event_type\":\"a.b\",\"payload\":{\"a\":\"\xff\"}}",
        b"{\"event_type\":\"a.b\",\"payload\":{\"a\":\"\xc0\xaf\"}}",
        b"{\"event_type\":\"a.b\",\"payload\":{\"a\":\"\xed\xa0\x80\"}}",
    ];
    for body in bodies {
        probe.rejects(post(body), 400, &["INVALID_JSON", "VALIDATION_ERROR"]).await;
    }
    let many: String = (0..40).map(|name| format!("\"n{name}\":0,")).collect();
    let body = format!("{{\"event_type\":\"a.b\",\"payload\":{{{many}\"n7\":1}}}}");
    probe.rejects(post(body), 400, &["INVALID_JSON", "VALIDATION_ERROR"]).await;
    let payload = r#"{"x":{"x":[{"x":1},{"x":2}]},"y":"\ud83d\ude00"}"#;
    probe.accepts(Call::event("a.b", payload), 1).await;
}

/// A payload with this many levels of nesting, including its outermost object.
fn nested(levels: usize) -> String {
    format!("{{\"n\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
}

#[tokio::test]
async fn deep_nesting_is_rejected_without_harm() {
    let mut probe = Probe::start(&[]).await;
    let codes = ["INVALID_JSON", "VALIDATION_ERROR"];
    for levels in [NESTING_MAX + 1, 1_000, 100_000] {
        probe.rejects(Call::event("deep.event", &nested(levels)), 400, &codes).await;
        let objects = format!("{}1{}", "{\"n\":".repeat(levels), "}".repeat(levels));
        probe.rejects(Call::event("deep.event", &objects), 400, &codes).await;
    }
    probe.rejects(post("[".repeat(100_000)), 400, &codes).await;
    probe.rejects(post("{\"a\":".repeat(100_000)), 400, &codes).await;
    let unknown =
        format!("{{\"event_type\":\"a.b\",\"payload\":{{}},\"x\":{}}}", "[".repeat(100_000));
    probe.rejects(post(unknown), 400, &codes).await;
    for levels in [1, 2, 64] {
        let payload = if levels == 1 { "{}".to_owned() } else { nested(levels) };
        probe.accepts(Call::event("deep.event", &payload), 1).await;
    }
    let deepest = probe.accepts(Call::event("deep.event", &nested(NESTING_MAX)), 1).await;
    assert_eq!(crate::harness::listing::raw_payload(&deepest), nested(NESTING_MAX));
}

#[tokio::test]
async fn other_content_types_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    let good = r#"{"event_type":"a.b","payload":{}}"#;
    let types = [
        "text/plain",
        "text/json",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "nonsense",
        "application/x-ndjson",
        "application/octet-stream",
    ];
    for content_type in types {
        probe
            .rejects(
                post(good).header("content-type", content_type),
                415,
                &["UNSUPPORTED_MEDIA_TYPE"],
            )
            .await;
    }
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"]
    {
        probe.accepts(post(good).header("content-type", content_type), 1).await;
    }
}
