//! Tests of connections that violate HTTP or end in the middle of a request.
//!
//! - CONNECTIONS-1: the node answers or closes such a connection and continues to serve others.
//! - CONNECTIONS-2: an incomplete request adds no event.
//!
//! Slow clients are tested in `timeouts.rs`.

use super::probe::{Probe, check_rejection};
use crate::harness::{Call, STATE_DEADLINE_MS, Wire, wait_until};

/// The header of a POST of one event with a body of `length_bytes`.
pub fn head(probe: &Probe, length_bytes: usize, more: &str) -> String {
    probe.head("/v1/events", length_bytes, more)
}

pub const BODY: &str = "{\"event_type\":\"wire.event\",\"payload\":{}}";

#[tokio::test]
async fn a_body_that_is_too_large_is_rejected_without_reading_it() {
    let mut probe = Probe::start(&[]).await;
    let length_bytes = 10 << 20;
    let waiting = head(&probe, length_bytes, "expect: 100-continue\r\n");
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    assert!(wire.write(&waiting).await);
    let answer = wire.answer().await.expect("an error instead of 100 Continue");
    check_rejection(&answer, 413, &["PAYLOAD_TOO_LARGE"], "ten mebibytes, announced");

    probe.goes_on("a body of ten mebibytes, announced").await;
    for path in ["/v1/events", "/v1/events/batch"] {
        probe.rejects_as_too_large(path, &"x".repeat(length_bytes)).await;
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_read_up_to_the_limit() {
    let mut probe = Probe::start(&[]).await;
    let key = &probe.node.dev.api_key;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let whole = format!("{head}{}0\r\n\r\n", chunk.repeat(160));
    let answer =
        Wire::connect(&probe.node.dev.url).await.write_and_answer(whole.into_bytes()).await;
    check_rejection(&answer.expect("an answer"), 413, &["PAYLOAD_TOO_LARGE"], "chunks without end");

    let small = format!("{head}{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    assert!(wire.write(&small).await);
    assert_eq!(wire.answer().await.expect("an answer").status, 201, "chunks as such are fine");
    let inbox = probe.client.get("/v1/inbox").await.expect(200).json();
    assert_eq!(inbox["pagination"]["total_count"], 1, "{inbox}");
    probe
        .client
        .delete(&format!("/v1/events/{}", inbox["events"][0]["event_id"].as_str().unwrap_or("")))
        .await
        .expect(204);
    probe.goes_on("chunked bodies").await;
}

#[tokio::test]
async fn an_incomplete_body_adds_no_event() {
    let mut probe = Probe::start(&[]).await;
    for cut in [1, BODY.len() / 2, BODY.len() - 1] {
        let mut wire = Wire::connect(&probe.node.dev.url).await;
        assert!(wire.write(format!("{}{}", head(&probe, BODY.len(), ""), &BODY[..cut])).await);
        drop(wire);
        probe.goes_on("half a body").await;
    }
    // A complete event, shorter than the announced body.
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    assert!(wire.write(format!("{}{BODY}", head(&probe, BODY.len() + 10, ""))).await);
    drop(wire);
    probe.goes_on("a body that ends too early").await;
}

#[tokio::test]
async fn the_limit_of_header_fields_is_the_configured_one() {
    // One value above and one below the default of the HTTP library.
    for (limit, few, many) in [("72", 60, 80), ("150", 120, 160)] {
        let mut probe = Probe::start(&[("TRIGGERS__LISTEN__HEADERS_MAX", limit)]).await;
        let with = |fields: usize| {
            let more: String =
                (0..fields).map(|number| format!("x-many-{number}: x\r\n")).collect();
            format!("{}{BODY}", head(&probe, BODY.len(), &more)).into_bytes()
        };
        let answer = Wire::connect(&probe.node.dev.url).await.write_and_answer(with(few)).await;
        assert_eq!(answer.expect("an answer").status, 201, "{few} of {limit}");
        let answer = Wire::connect(&probe.node.dev.url).await.write_and_answer(with(many)).await;
        check_rejection(
            &answer.expect("an answer"),
            431,
            &["HEADER_FIELDS_TOO_LARGE"],
            "more than that",
        );
        probe.accepts(Call::event("good.event", "{}"), 2).await;
    }
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    let large = format!("x-large: {}\r\n", "x".repeat(64 * 1_024));
    let many: String = (0..500).map(|number| format!("x-many-{number}: x\r\n")).collect();
    for more in [large, many] {
        let whole = format!("{}{BODY}", head(&probe, BODY.len(), &more)).into_bytes();
        let answer = Wire::connect(&probe.node.dev.url).await.write_and_answer(whole).await;
        assert_eq!(answer.expect("an answer").status, 431);
        probe.goes_on("a flood of headers").await;
    }
    let long = format!("/v1/inbox?x={}", "x".repeat(70_000));
    let whole = format!("GET {long} HTTP/1.1\r\nhost: node\r\n\r\n").into_bytes();
    let answer =
        Wire::connect(&probe.node.dev.url).await.write_and_answer(whole).await.expect("an answer");
    assert!(
        [414, 431].contains(&answer.status),
        "a target of 70,000 characters: {}",
        answer.status
    );
    probe.goes_on("a long target").await;
}

#[tokio::test]
async fn connections_without_http_are_closed() {
    let mut probe = Probe::start(&[]).await;
    let garbage: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET /v1/inbox HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: node\r\ncontent-length: nonsense\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: node\r\n\
          content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"GET /v1/inbox HTTP/1.1\r\nbad header\r\n\r\n",
    ];
    for bytes in garbage {
        let what = String::from_utf8_lossy(bytes).into_owned();
        let mut wire = Wire::connect(&probe.node.dev.url).await;
        wire.write(bytes).await;
        wire.finish().await;
        if let Some(answer) = wire.answer().await {
            assert!(
                (400..500).contains(&answer.status) || answer.status == 505,
                "{what:?}: {}",
                answer.status
            );
        }
        wire.closed().await;
        probe.goes_on(&what).await;
    }
}

#[tokio::test]
async fn smuggled_requests_are_rejected() {
    let mut probe = Probe::start(&[]).await;
    let key = &probe.node.dev.api_key;
    let inner = format!(
        "POST /v1/events HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n\
         content-length: 2\r\n\r\n{{}}"
    );
    let outer = format!(
        "POST /v1/events HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    assert!(wire.write(outer).await);
    wire.finish().await;
    if let Some(answer) = wire.answer().await {
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    probe.goes_on("a request with two lengths").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut probe = Probe::start(&[]).await;
    let get = |id: &str| {
        let key = &probe.node.dev.api_key;
        format!(
            "GET /v1/inbox HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\nx-request-id: {id}\r\n\r\n"
        )
    };
    let post = format!("{}{BODY}", head(&probe, BODY.len(), "x-request-id: second\r\n"));
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    assert!(wire.write(format!("{}{post}{}", get("first"), get("third"))).await);
    for (id, status) in [("first", 200), ("second", 201), ("third", 200)] {
        let answer = wire.answer().await.expect("each request is answered");
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("x-request-id"), id);
    }
    probe.accepts(Call::event("good.event", "{}"), 2).await;
}

#[tokio::test]
async fn many_idle_connections_do_not_block_others() {
    let mut probe = Probe::start(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(Wire::connect(&probe.node.dev.url).await);
    }
    probe.goes_on("two hundred idle connections").await;
    drop(idle);
    let (client, url) = (probe.client.clone(), "/v1/health");
    wait_until(STATE_DEADLINE_MS, "the node is healthy", || async {
        client.get(url).await.status == 200
    })
    .await;
}
