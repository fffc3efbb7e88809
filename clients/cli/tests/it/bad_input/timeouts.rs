//! Tests of slow clients: their request times out, and only their connection is closed.
//!
//! - TIMEOUTS-1: the timeout applies to the complete header and the complete body. Sending single
//!   bytes does not extend it.
//! - TIMEOUTS-2: a slow body is answered with an error; a slow header may close without an answer.
//!
//! The tests configure short timeouts and check that they apply, not how long they take.

use super::connections::{BODY, head};
use super::probe::{Probe, check_rejection};
use crate::harness::Wire;

#[tokio::test]
async fn a_missing_body_times_out() {
    let mut probe = Probe::start(&[("TRIGGERS__LISTEN__BODY_TIMEOUT_MS", "1000")]).await;
    for sent in ["", "{\"ev", &BODY[..BODY.len() - 1]] {
        let mut wire = Wire::connect(&probe.node.dev.url).await;
        assert!(wire.write(format!("{}{sent}", head(&probe, BODY.len(), ""))).await);
        let answer = wire.answer().await.expect("an answer");
        check_rejection(&answer, 408, &["REQUEST_TIMEOUT"], "a body that does not come");
        wire.closed().await;
        probe.goes_on("a body that does not come").await;
    }
}

#[tokio::test]
async fn a_slowly_sent_body_times_out() {
    let mut probe = Probe::start(&[("TRIGGERS__LISTEN__BODY_TIMEOUT_MS", "1000")]).await;
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    assert!(wire.write(head(&probe, 100_000, "")).await);
    // TIMEOUTS-1: single bytes do not extend the timeout.
    while wire.write(" ").await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        if wire.has_answer().await {
            break;
        }
    }
    let answer = wire.answer().await.expect("an answer");
    check_rejection(&answer, 408, &["REQUEST_TIMEOUT"], "a body that drips");
    wire.closed().await;
    probe.goes_on("a body that drips").await;
}

#[tokio::test]
async fn an_incomplete_header_times_out() {
    let mut probe = Probe::start(&[("TRIGGERS__LISTEN__HEADER_TIMEOUT_MS", "1000")]).await;
    for start in
        ["G", "GET /v1/inbox HTTP/1.1\r\n", "GET /v1/inbox HTTP/1.1\r\nhost: node\r\nx-slow: "]
    {
        let mut wire = Wire::connect(&probe.node.dev.url).await;
        assert!(wire.write(start).await);
        if let Some(answer) = wire.answer().await {
            assert_eq!(answer.status, 408, "{}", answer.text());
        }
        wire.closed().await;
        probe.goes_on("a head that does not end").await;
    }
}

#[tokio::test]
async fn a_slowly_sent_header_times_out() {
    let mut probe = Probe::start(&[("TRIGGERS__LISTEN__HEADER_TIMEOUT_MS", "1000")]).await;
    let mut wire = Wire::connect(&probe.node.dev.url).await;
    let mut is_open = wire.write("GET /v1/inbox HTTP/1.1\r\nhost: node\r\nx-slow: ").await;
    for _ in 0..600 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        is_open = is_open && wire.write("x").await;
        if !is_open {
            break;
        }
    }
    assert!(!is_open, "TIMEOUTS-1: the connection is closed");
    probe.goes_on("a head that drips").await;
}
