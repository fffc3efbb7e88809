//! Changes of a whole lease, and of some of its events (LEASES-5).

use super::{lease, leased_ids, post};
use crate::bad_input::probe::{Probe, check_rejection};
use crate::harness::{Answer, Client, listing};
use serde_json::{Value, json};

async fn change(client: &Client, lease: &str, action: &str, body: &Value) -> Answer {
    client.post(&format!("/v1/inbox/leases/{lease}/{action}"), body).await
}

/// Sends events and leases them; returns the id of the lease and those of the events.
async fn leased(client: &Client, count: usize) -> (String, Vec<String>) {
    for _ in 0..count {
        client.accepted("leased.event", "{}").await;
    }
    let answer = client.send(lease(&json!({ "limit": count }))).await.expect(200);
    assert!(answer.json()["leased_until"].is_string());
    (answer.string("/lease_id"), leased_ids(&answer))
}

async fn total(client: &Client, status: &str) -> u64 {
    listing::all(client, &format!("status={status}")).await.total_count
}

#[tokio::test]
async fn a_lease_is_acknowledged_at_once() {
    let probe = Probe::start(&[]).await;
    let client = &probe.client;
    let (lease, ids) = leased(client, 70).await;
    assert_eq!((total(client, "queued").await, total(client, "received").await), (70, 0));
    post(client, &ids[3], "ack", &json!({})).await.expect(200);
    let some = json!({ "event_ids": [ids[3], ids[5], "none", ids[5]] });
    let answer = change(client, &lease, "ack", &some).await.expect(200).json();
    assert_eq!((&answer["success_count"], &answer["failure_count"]), (&json!(3), &json!(1)));
    assert_eq!(answer["results"][2]["error"]["code"], "NOT_FOUND");
    let answer = change(client, &lease, "ack", &json!({})).await.expect(200).json();
    assert_eq!((&answer["success_count"], &answer["failure_count"]), (&json!(68), &json!(0)));
    assert_eq!(answer["results"][0], json!({ "event_id": ids[0], "status": "delivered" }));
    assert_eq!((total(client, "queued").await, total(client, "delivered").await), (0, 70));
    let event = client.get(&format!("/v1/events/{}", ids[69])).await.expect(200).json();
    assert_eq!((&event["status"], &event["attempts"]), (&json!("delivered"), &json!(1)));
    let again = change(client, &lease, "ack", &json!({})).await;
    check_rejection(&again, 409, &["CONFLICT"], "the lease holds nothing");
    let named = change(client, &lease, "ack", &json!({ "event_ids": ids })).await.expect(200);
    assert_eq!(named.json()["success_count"], 70, "they were acknowledged under this lease");
    check_rejection(&change(client, "x", "ack", &json!({})).await, 409, &["CONFLICT"], "no id");
}

#[tokio::test]
async fn a_lease_is_given_back_and_leased_again() {
    let probe = Probe::start(&[]).await;
    let client = &probe.client;
    let (first, ids) = leased(client, 3).await;
    let back = json!({ "retry_after_seconds": 0, "reason": "later" });
    let one = json!({ "event_ids": [ids[0]], "retry_after_seconds": 0 });
    let answer = change(client, &first, "nack", &one).await.expect(200).json();
    assert_eq!(answer["results"], json!([{ "event_id": ids[0], "status": "queued" }]));
    let answer = change(client, &first, "nack", &back).await.expect(200).json();
    assert_eq!(answer["success_count"], 2, "the first one is not in the lease any more");
    let answer = client.send(lease(&json!({ "limit": 10, "wait_seconds": 5 }))).await.expect(200);
    let (second, again) = (answer.string("/lease_id"), leased_ids(&answer));
    assert!(!again.is_empty() && second != first);
    let old = change(client, &first, "ack", &json!({ "event_ids": again })).await.expect(200);
    assert_eq!(old.json()["results"][0]["error"]["code"], "CONFLICT", "it has another lease");
    let answer = change(client, &second, "ack", &json!({})).await.expect(200).json();
    assert_eq!(answer["success_count"], again.len(), "retries are in a lease like new events");
    let event = client.get(&format!("/v1/events/{}", again[0])).await.expect(200).json();
    assert_eq!((&event["status"], &event["attempts"]), (&json!("delivered"), &json!(2)));
}

#[tokio::test]
async fn a_lease_is_held_longer_as_a_whole() {
    let probe = Probe::start(&[]).await;
    let client = &probe.client;
    let (held, ids) = leased(client, 2).await;
    let longer = json!({ "visibility_timeout_seconds": 600 });
    let answer = change(client, &held, "extend", &longer).await.expect(200).json();
    assert_eq!(answer["success_count"], 2);
    let one = json!({ "visibility_timeout_seconds": 700, "event_ids": [ids[1]] });
    change(client, &held, "extend", &one).await.expect(200);
    assert!(leased_ids(&client.send(lease(&json!({}))).await.expect(200)).is_empty());
    let answer = change(client, &held, "ack", &json!({})).await.expect(200).json();
    assert_eq!(answer["success_count"], 2, "what is held longer is in the lease until it ends");
    check_rejection(&change(client, &held, "ack", &json!({})).await, 409, &["CONFLICT"], "held");
    let named = json!({ "event_ids": ids });
    let answer = change(client, &held, "ack", &named).await.expect(200).json();
    assert_eq!(answer["success_count"], 2, "they were acknowledged under this lease");
}

#[tokio::test]
async fn a_deleted_event_leaves_its_lease() {
    let probe = Probe::start(&[]).await;
    let client = &probe.client;
    let (held, ids) = leased(client, 2).await;
    client.delete(&format!("/v1/events/{}", ids[0])).await.expect(204);
    let named = json!({ "event_ids": ids });
    let answer = change(client, &held, "nack", &named).await.expect(200).json();
    assert_eq!(answer["results"][0]["error"]["code"], "GONE");
    assert_eq!(answer["results"][1]["status"], "queued");
    assert_eq!((total(client, "queued").await, total(client, "received").await), (1, 0));
}
