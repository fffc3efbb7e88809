//! Tests of endpoints that close kept connections and answer in odd ways: WEBHOOKS-9.

use super::{reaches, started, subscribe};
use crate::harness::raw_receiver::{Deed, RawReceiver};
use crate::harness::{Client, Node, STATE_DEADLINE_MS, listing, wait_until};
use serde_json::json;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Sends an event and asserts that its first attempt delivers it.
async fn is_delivered_at_once(client: &Client, case: &str) {
    let id = client.accepted("order.created", "{}").await;
    let path = format!("/v1/events/{id}/status");
    wait_until(STATE_DEADLINE_MS, &format!("{case:?} ends"), || async {
        let status = client.get(&path).await.expect(200).string("/status");
        ["delivered", "failed"].contains(&status.as_str())
    })
    .await;
    let answer = client.get(&path).await.expect(200).json();
    let attempts = answer["attempts"].as_array().expect("attempts");
    assert_eq!(answer["status"], "delivered", "WEBHOOKS-9: {case:?}: {attempts:?}");
    assert_eq!(attempts.len(), 1, "WEBHOOKS-9: {case:?}: {attempts:?}");
}

#[tokio::test]
async fn a_kept_connection_that_ends_costs_no_attempt() {
    let (_directory, node) = started().await;
    let client = node.client();
    let closed = || Deed::AnswerAndClose(String::new());
    let late = || Deed::AnswerAndClose("HTTP/1.1 408 Request Timeout\r\n\r\n".to_owned());
    let spoiled = || Deed::Answer(format!("rest of the last answer{NO_CONTENT}"));
    let reset_after = || Deed::AnswerAndReset(NO_CONTENT.to_owned());
    for end in [closed, late, spoiled, reset_after, || Deed::Reset] {
        let receiver = RawReceiver::start(move |number| match number {
            0 => Deed::Answer(NO_CONTENT.to_owned()),
            _ => end(),
        });
        let receiver = receiver.await;
        // Without retries, a failed attempt would be the last.
        let made = subscribe(&client, &receiver.url(), &[]).await;
        let path = format!("/v1/subscriptions/{}", made.string("/id"));
        let case = format!("{:?}", end());
        for _ in 0..8 {
            is_delivered_at_once(&client, &case).await;
            let ping = client.post(&format!("{path}/test"), &json!({})).await.expect(200).json();
            assert_eq!(ping["delivered"], true, "WEBHOOKS-9: {case}: {ping}");
        }
        client.delete(&path).await.expect(204);
    }
    // A new connection that ends is the endpoint's fault, and so is a status.
    let receiver = RawReceiver::start(move |_| closed()).await;
    subscribe(&client, &receiver.url(), &[]).await;
    let id = client.accepted("order.created", "{}").await;
    let attempts = reaches(&client, &id, "failed").await;
    assert_eq!((attempts.len(), receiver.count()), (1, 1), "WEBHOOKS-9: {attempts:?}");
}

#[tokio::test]
async fn a_late_body_does_not_spoil_the_next_webhook() {
    let (_directory, node) = started().await;
    let client = node.client();
    let receiver = RawReceiver::start(|_| {
        Deed::AnswerSlowly(NO_CONTENT.to_owned(), "{\"accepted\":true}".to_owned())
    })
    .await;
    subscribe(&client, &receiver.url(), &[]).await;
    let events: Vec<_> =
        (0..150).map(|n| json!({ "event_type": "a.b", "payload": { "n": n } })).collect();
    client.post("/v1/events/batch", &json!({ "events": events })).await;
    let count = async |status: &str| {
        listing::page(&client, &format!("status={status}"), None).await.pagination.total_count
    };
    wait_until(STATE_DEADLINE_MS, "all end", || async {
        count("delivered").await + count("failed").await == 150
    })
    .await;
    assert_eq!(count("failed").await, 0, "WEBHOOKS-9");
}

/// Bytes of a status line and what follows, for a success in every odd form.
fn odd_successes() -> Vec<Deed> {
    let many = |count: usize| {
        let fields: String = (0..count).map(|n| format!("x-{n}: {n}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{fields}content-length: 0\r\n\r\n")
    };
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(3);
    let answers = [
        "HTTP/1.1 200 OK\r\nx-folded: one\r\n\ttwo\r\n three\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n starts with a space\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nno field\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: 1\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \u{1}\u{2}\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nless",
        "HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\nlarge",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nunknown",
        "HTTP/1.1 200 OK\r\nx-begun: and never end",
        "HTTP/1.1 200 OK\r\n",
    ];
    let mut deeds: Vec<Deed> = answers.map(|text| Deed::Answer(text.to_owned())).into();
    deeds.extend([
        Deed::Answer(many(150)),
        Deed::Answer(many(1_500)),
        Deed::Answer(many(20_000)),
        Deed::Answer(format!("{hints}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
    ]);
    for text in [
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nless",
        "HTTP/1.1 200 OK\r\nx-begun: and never end",
        "HTTP/1.1 200 OK\r\n",
    ] {
        deeds.push(Deed::AnswerAndClose(text.to_owned()));
        deeds.push(Deed::AnswerAndReset(text.to_owned()));
    }
    deeds.extend([
        Deed::AnswerWithoutEnd("HTTP/1.1 200 OK\r\n\r\nx".to_owned()),
        Deed::AnswerWithoutEnd("HTTP/1.1 200 OK\r\nx-endless: x".to_owned()),
        Deed::AnswerSlowly("HTTP/1.1 20".to_owned(), "2 OK\r\nconten".to_owned()),
    ]);
    deeds
}

#[tokio::test]
async fn an_event_is_delivered_once_the_status_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let options = [("TRIGGERS__DELIVERY__READ_TIMEOUT_MS", "5000")];
    let node = Node::start(directory.path(), &options).await;
    let client = node.client();
    for deed in odd_successes() {
        let case: String = format!("{deed:?}").chars().take(120).collect();
        let receiver = RawReceiver::start(move |_| deed.clone()).await;
        let made = subscribe(&client, &receiver.url(), &[]).await;
        for _ in 0..2 {
            is_delivered_at_once(&client, &case).await;
        }
        client.delete(&format!("/v1/subscriptions/{}", made.string("/id"))).await.expect(204);
    }
}

#[tokio::test]
async fn other_statuses_count_whatever_follows_them() {
    let (_directory, node) = started().await;
    let client = node.client();
    let answer = "HTTP/1.1 500 Oops\r\nx: 1\r\n folded\r\nno field\r\ncontent-length: x\r\n\r\n";
    let receiver = RawReceiver::start(|_| Deed::Answer(answer.to_owned())).await;
    let made = subscribe(&client, &receiver.url(), &[]).await;
    let id = client.accepted("order.created", "{}").await;
    let attempts = reaches(&client, &id, "failed").await;
    assert_eq!(attempts[0]["http_status"], 500, "WEBHOOKS-9: {attempts:?}");
    client.delete(&format!("/v1/subscriptions/{}", made.string("/id"))).await.expect(204);

    // The policy would wait for an hour.
    let asked = std::sync::atomic::AtomicBool::new(false);
    let receiver = RawReceiver::start(move |_| {
        let busy = "HTTP/1.1 503 Busy\r\nretry-after :\r\n 1\r\nno field\r\nbroken";
        match asked.swap(true, std::sync::atomic::Ordering::SeqCst) {
            false => Deed::AnswerAndClose(busy.to_owned()),
            true => Deed::Answer(NO_CONTENT.to_owned()),
        }
    })
    .await;
    let made = subscribe(&client, &receiver.url(), &[3_600]).await;
    let id = client.accepted("order.created", "{}").await;
    let attempts = reaches(&client, &id, "delivered").await;
    assert_eq!(attempts[0]["http_status"], 503, "WEBHOOKS-9: {attempts:?}");
    client.delete(&format!("/v1/subscriptions/{}", made.string("/id"))).await.expect(204);

    let gone = "HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\n";
    let receiver = RawReceiver::start(|_| Deed::AnswerAndReset(gone.to_owned())).await;
    let made = subscribe(&client, &receiver.url(), &[3_600]).await;
    let id = client.accepted("order.created", "{}").await;
    reaches(&client, &id, "failed").await;
    let path = format!("/v1/subscriptions/{}", made.string("/id"));
    let subscription = client.get(&path).await.expect(200).json();
    assert_eq!(subscription["disabled_reason"], "gone", "WEBHOOKS-9");
}
