//! Tests of webhooks from a node process to an HTTP server.
//!
//! - WEBHOOKS-1: an event is sent to every matching subscription, signed according to Standard
//!   Webhooks, and is `delivered` after a 2xx.
//! - WEBHOOKS-2: every other outcome is a failed attempt with its error. The retry policy
//!   determines the next attempt; after the last one the event is `failed`.
//! - WEBHOOKS-3: a replay sends the event again.
//! - WEBHOOKS-4: nothing is sent to addresses that are not allowed.
//! - WEBHOOKS-5: if nodes are killed, no event is lost or stuck, and repeated webhooks have the
//!   same `webhook-id`.
//! - WEBHOOKS-6: other implementations of Standard Webhooks accept the webhooks.
//! - WEBHOOKS-7: what the node lacks costs no event an attempt.
//! - WEBHOOKS-8: every attempt that began is listed with its end, and what is answered 200 is kept.
//! - WEBHOOKS-9: a kept connection that has ended costs no attempt. A status that arrived is the
//!   answer, in whatever form HTTP allows and whatever follows it.
//!
//! Long delays and rare faults are tested by the actors in virtual time.

mod command_line;
mod failures;
mod interoperability;
mod kills;
mod limits;
mod odd_answers;
mod records;

use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Answer, Call, Client, Node, STATE_DEADLINE_MS, listing, wait_until};
use serde_json::{Value, json};
use triggers_protocol::Timestamp;
use triggers_protocol::webhook::{SignedHeaders, VerifyingKey, verify};

/// Creates a subscription to all event types; the answer contains its secret.
async fn subscribe(client: &Client, url: &str, delays_seconds: &[u32]) -> Answer {
    let body = json!({ "target_url": url, "retry_policy": { "delays_seconds": delays_seconds } });
    client.post("/v1/subscriptions", &body).await.expect(201)
}

/// Waits until an event has a status and returns its attempts.
async fn reaches(client: &Client, id: &str, status: &str) -> Vec<Value> {
    let path = format!("/v1/events/{id}/status");
    wait_until(STATE_DEADLINE_MS, &format!("{id} is {status}"), || async {
        client.get(&path).await.expect(200).string("/status") == status
    })
    .await;
    client.get(&path).await.expect(200).json()["attempts"].as_array().expect("attempts").clone()
}

async fn started() -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    (directory, node)
}

#[tokio::test]
async fn an_event_arrives_signed_and_is_delivered() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(204)).await);
    let made = subscribe(&client, &receiver.url(), &[1]).await;
    let secret = made.string("/secret");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = Call::event("order.created", "{ \"n\" : 1.0 }").header("traceparent", trace);
    let accepted = client.send(call).await.expect(201);
    assert_eq!(accepted.string("/status"), "received", "the event as it was accepted");
    let id = accepted.string("/event_id");
    let attempts = reaches(&client, &id, "delivered").await;
    assert_eq!(attempts.len(), 1, "WEBHOOKS-1: {attempts:?}");
    assert_eq!(
        (&attempts[0]["outcome"], &attempts[0]["http_status"]),
        (&json!("succeeded"), &json!(204))
    );
    assert_eq!(attempts[0]["subscription_id"], made.json()["id"]);
    let arrived = receiver.arrived().remove(0);
    assert_eq!((arrived.header("webhook-id"), arrived.header("traceparent")), (id.as_str(), trace));
    assert!(arrived.header("user-agent").starts_with("Triggers/"), "{arrived:?}");
    assert_eq!(arrived.header("content-type"), "application/json");
    let event = arrived.event();
    assert_eq!((&event["event_id"], &event["event_type"]), (&json!(id), &json!("order.created")));
    assert_eq!((&event["status"], &event["attempts"]), (&json!("queued"), &json!(1)));
    assert!(
        String::from_utf8_lossy(&arrived.body).contains("{ \"n\" : 1.0 }"),
        "byte for byte: {arrived:?}"
    );
    let headers = SignedHeaders {
        id: arrived.header("webhook-id"),
        timestamp: arrived.header("webhook-timestamp"),
        signatures: arrived.header("webhook-signature"),
    };
    let now = Timestamp::parse(event["last_attempt_at"].as_str().expect("a time")).expect("a time");
    let key = VerifyingKey::parse(&secret).expect("the shown secret is a key");
    assert_eq!(verify(&key, headers, &arrived.body, now), Ok(()), "WEBHOOKS-1");
}

#[tokio::test]
async fn events_without_a_matching_subscription_are_pulled() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(200)).await);
    let body = json!({ "targetUrl": receiver.url(), "event_types": ["order.*"] });
    let made = client.post("/v1/subscriptions", &body).await.expect(201);
    let other = client.accepted("invoice.paid", "{}").await;
    let selected = client.accepted("order.created", "{}").await;
    reaches(&client, &selected, "delivered").await;
    assert_eq!(receiver.ids().into_keys().collect::<Vec<_>>(), [selected], "WEBHOOKS-1");
    let leased = client.post("/v1/inbox/lease", &json!({})).await.expect(200);
    assert_eq!(leased.string("/events/0/event_id"), other, "a tenant's other events are pulled");
    client.delete(&format!("/v1/subscriptions/{}", made.string("/id"))).await.expect(204);
    client.accepted("order.created", "{}").await;
    assert_eq!(
        listing::received_count(&client).await,
        1,
        "without a subscription events wait to be pulled"
    );
}

#[tokio::test]
async fn the_old_and_the_new_secret_sign_after_a_rotation() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(200)).await);
    let made = subscribe(&client, &receiver.url(), &[]).await;
    let path = format!("/v1/subscriptions/{}/rotate", made.string("/id"));
    let rotated = client.post(&path, &json!({ "grace_seconds": 600 })).await.expect(200);
    assert_ne!(rotated.string("/secret"), made.string("/secret"));
    let id = client.accepted("order.created", "{}").await;
    reaches(&client, &id, "delivered").await;
    let arrived = receiver.arrived().remove(0);
    let headers = SignedHeaders {
        id: arrived.header("webhook-id"),
        timestamp: arrived.header("webhook-timestamp"),
        signatures: arrived.header("webhook-signature"),
    };
    let at = arrived.event()["last_attempt_at"]
        .as_str()
        .map(|text| Timestamp::parse(text).expect("a time"));
    for answer in [&made, &rotated] {
        let key = VerifyingKey::parse(&answer.string("/secret")).expect("a key");
        assert_eq!(
            verify(&key, headers, &arrived.body, at.expect("a time")),
            Ok(()),
            "{}",
            headers.signatures
        );
    }
}

#[tokio::test]
async fn webhooks_to_internal_addresses_are_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[("TRIGGERS__DELIVERY__ALLOWED_TARGETS", "")]).await;
    let client = node.client();
    for url in [
        "http://127.0.0.1:1/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:192.168.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "ftp://example.com/",
        "http://user:password@example.com/",
        "not a url",
    ] {
        let answer = client.post("/v1/subscriptions", &json!({ "target_url": url })).await;
        assert_eq!(
            (answer.status, answer.string("/error/details/0/field").as_str()),
            (400, "target_url"),
            "{url}"
        );
    }
    // A host name is resolved only when a webhook is sent.
    let made = subscribe(&client, "http://localhost:1/", &[]).await;
    let id = client.accepted("order.created", "{}").await;
    let attempts = reaches(&client, &id, "failed").await;
    assert!(
        attempts[0]["error"].as_str().expect("an error").contains("may not be called"),
        "WEBHOOKS-4: {attempts:?}"
    );
    let test = client
        .post(&format!("/v1/subscriptions/{}/test", made.string("/id")), &json!({}))
        .await
        .expect(200);
    assert_eq!(test.json()["delivered"], json!(false), "WEBHOOKS-4");
}
