//! Tests of every kind of failed delivery: the recorded attempt, and the next step.

use super::{reaches, started, subscribe};
use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Client, Node, STATE_DEADLINE_MS, wait_until};
use serde_json::{Value, json};

/// Options with short timeouts and limits.
const HASTY: [(&str, &str); 4] = [
    ("TRIGGERS__DELIVERY__ATTEMPT_TIMEOUT_MS", "1500"),
    ("TRIGGERS__DELIVERY__READ_TIMEOUT_MS", "1000"),
    ("TRIGGERS__DELIVERY__CONNECT_TIMEOUT_MS", "1000"),
    ("TRIGGERS__DELIVERY__RESPONSE_BYTES_MAX", "10000"),
];

/// Sends an event to a failing target and returns its two attempts.
async fn failing(client: &Client, url: &str) -> Vec<Value> {
    let made = subscribe(client, url, &[0]).await;
    let id = client.accepted("order.created", "{}").await;
    let attempts = reaches(client, &id, "failed").await;
    assert_eq!(attempts.len(), 2, "WEBHOOKS-2: {url}: {attempts:?}");
    assert!(
        attempts.iter().all(|attempt| attempt["outcome"] == "failed"),
        "WEBHOOKS-2: {attempts:?}"
    );
    let event = client.get(&format!("/v1/events/{id}")).await.expect(200).json();
    assert_eq!(
        (&event["attempts"], &event["last_error"]),
        (&json!(2), &attempts[1]["error"]),
        "WEBHOOKS-2"
    );
    client.delete(&format!("/v1/subscriptions/{}", made.string("/id"))).await.expect(204);
    attempts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_failure_is_recorded() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &HASTY).await;
    let client = node.client();
    let receiver = Receiver::start(Reaction::Answer(500)).await;
    let other = Receiver::start(Reaction::Answer(200)).await;
    let redirect = Reaction::With(302, "location", other.url());
    for (reaction, status, words) in [
        (Reaction::Answer(500), json!(500), "answered 500"),
        (Reaction::Answer(404), json!(404), "answered 404"),
        (redirect, json!(302), "answered 302"),
        (Reaction::Hang, Value::Null, "no answer within"),
    ] {
        receiver.set(reaction.clone());
        for attempt in failing(&client, &receiver.url()).await {
            assert_eq!(attempt["http_status"], status, "{reaction:?}: {attempt}");
            let error = attempt["error"].as_str().expect("an error");
            assert!(error.contains(words), "WEBHOOKS-2: {reaction:?}: {error}");
        }
    }
    assert_eq!(other.count(), 0, "a redirect is not followed");
    // The status counts, regardless of the body.
    subscribe(&client, &receiver.url(), &[]).await;
    for reaction in [Reaction::Large(20_000), Reaction::Endless] {
        receiver.set(reaction);
        let id = client.accepted("order.created", "{}").await;
        reaches(&client, &id, "delivered").await;
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_recorded_as_such() {
    let (_directory, node) = started().await;
    let client = node.client();
    let receiver = Receiver::start(Reaction::Answer(200)).await;
    // The socket is bound but not listening, so that no other process gets the port.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let closed = socket.local_addr().expect("a bound socket has an address");
    for (url, words) in [
        (format!("http://{closed}/"), "refused"),
        ("http://nothing.invalid/".to_owned(), "no address"),
        (format!("https://{}/", receiver.address), "secure connection"),
    ] {
        for attempt in failing(&client, &url).await {
            assert_eq!(attempt["http_status"], Value::Null, "{url}: {attempt}");
            assert!(
                attempt["error"].as_str().is_some_and(|error| error.contains(words)),
                "{url}: {attempt}"
            );
        }
    }
}

#[tokio::test]
async fn a_failed_event_is_sent_again_on_request() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(500)).await);
    subscribe(&client, &receiver.url(), &[]).await;
    let call = crate::harness::Call::event("order.created", "{}").header("idempotency-key", "once");
    let id = client.send(call).await.expect(201).string("/event_id");
    reaches(&client, &id, "failed").await;
    receiver.set(Reaction::Answer(200));
    client.post(&format!("/v1/events/{id}/replay"), &json!({})).await.expect(202);
    reaches(&client, &id, "delivered").await;
    let again =
        client.post("/v1/inbox/replay", &json!({ "status": "delivered" })).await.expect(202);
    assert_eq!(again.json()["replayed"], 1, "WEBHOOKS-3");
    wait_until(STATE_DEADLINE_MS, "it arrives a third time", || async { receiver.count() == 3 })
        .await;
    assert_eq!(receiver.ids(), [(id, 3)].into(), "WEBHOOKS-3");
}

#[tokio::test]
async fn the_answers_gone_and_retry_after_are_respected() {
    let (_directory, node) = started().await;
    let (client, receiver) =
        (node.client(), Receiver::start(Reaction::With(429, "retry-after", "2".to_owned())).await);
    let made = subscribe(&client, &receiver.url(), &[3_600]).await;
    let id = client.accepted("order.created", "{}").await;
    wait_until(STATE_DEADLINE_MS, "the first attempt", || async { receiver.count() == 1 }).await;
    receiver.set(Reaction::Answer(200));
    let attempts = reaches(&client, &id, "delivered").await;
    assert_eq!(
        attempts[0]["http_status"], 429,
        "the delay of the policy would be an hour: {attempts:?}"
    );
    receiver.set(Reaction::Answer(410));
    let last = client.accepted("order.created", "{}").await;
    reaches(&client, &last, "failed").await;
    let path = format!("/v1/subscriptions/{}", made.string("/id"));
    let subscription = client.get(&path).await.expect(200).json();
    assert_eq!(
        (&subscription["status"], &subscription["disabled_reason"]),
        (&json!("disabled"), &json!("gone"))
    );
    let audit = client.get("/v1/audit").await.expect(200).json();
    assert_eq!(audit["entries"][0]["action"], "subscription.disabled", "{audit}");
    // The inbox counts it once it has heard of the commit, which readers may see before.
    let admin = Client::new(&node.dev.admin_url, "").anonymous();
    let counted = "triggers_subscriptions_disabled_total{reason=\"gone\"} 1";
    wait_until(STATE_DEADLINE_MS, counted, || async {
        let metrics = admin.get("/metrics").await.expect(200);
        String::from_utf8_lossy(&metrics.body).contains(counted)
    })
    .await;
    let enabled =
        client.send(crate::harness::Call::new("PATCH", path).body(r#"{"status":"active"}"#)).await;
    assert_eq!(enabled.expect(200).json()["status"], "active");
}
