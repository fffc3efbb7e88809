//! Tests of events that are not acknowledged: further attempts, dead letters and replays.
//!
//! - ATTEMPTS-1: an expired lease is a failed attempt; after the last attempt of the retry policy
//!   the event is `failed`.
//! - ATTEMPTS-2: the token of an expired lease gets 409.
//! - ATTEMPTS-3: the status of an event lists every attempt.
//! - ATTEMPTS-4: failed and delivered events can be replayed, individually or together.
//! - ATTEMPTS-5: a lease and its expiry survive a restart of the node.
//!
//! The delays of the default policy are tested by the actors in virtual time.

use super::{extension, lease, leased_ids, post};
use crate::bad_input::probe::{Probe, check_rejection};
use crate::harness::{Call, Client, Node, STATE_DEADLINE_MS, listing, process, wait_until};
use serde_json::{Value, json};

const WAIT_SECONDS: u64 = 20;

/// Sets the retry policy of the development tenant.
async fn set_delays(node: &Node, delays_seconds: &[u32]) {
    let policy = json!({ "retry_policy": { "delays_seconds": delays_seconds } });
    let call =
        Call::new("PATCH", format!("/v1/tenants/{}", node.dev.tenant_id)).body(policy.to_string());
    node.admin().send(call).await.expect(200);
}

/// Waits for one event, leases it for `visibility_seconds` and returns it.
async fn lease_one(client: &Client, visibility_seconds: u32) -> Value {
    let wish = json!({
        "limit": 1,
        "visibility_timeout_seconds": visibility_seconds,
        "wait_seconds": WAIT_SECONDS,
    });
    let answer = client.send(lease(&wish)).await.expect(200);
    let event = answer.json()["events"][0].clone();
    assert!(event.is_object(), "nothing to lease within {WAIT_SECONDS} s");
    event
}

fn token(event: &Value) -> &str {
    event["lease_token"].as_str().expect("a token")
}

async fn is_in(client: &Client, id: &str, status: &str) -> bool {
    client.get(&format!("/v1/events/{id}")).await.expect(200).string("/status") == status
}

#[tokio::test]
async fn an_unacknowledged_event_returns_and_finally_fails() {
    let probe = Probe::start(&[]).await;
    set_delays(&probe.node, &[0, 0]).await;
    let id = probe.client.accepted("lost.event", "{}").await;
    let first = lease_one(&probe.client, 1).await;
    assert_eq!((&first["attempts"], &first["status"]), (&json!(1), &json!("queued")));
    let second = lease_one(&probe.client, 1).await;
    assert_eq!((&second["event_id"], &second["attempts"]), (&json!(id), &json!(2)), "ATTEMPTS-1");
    assert_ne!(token(&first), token(&second));
    let third = lease_one(&probe.client, 1).await;
    assert_eq!(third["attempts"], 3, "ATTEMPTS-1");
    wait_until(STATE_DEADLINE_MS, "the event has failed", || is_in(&probe.client, &id, "failed"))
        .await;
    for action in ["ack", "nack", "lease"] {
        for stale in [&first, &third] {
            let answer = post(&probe.client, &id, action, &extension(token(stale))).await;
            check_rejection(&answer, 409, &["CONFLICT"], &format!("ATTEMPTS-2: {action}"));
        }
    }
    let status = probe.client.get(&format!("/v1/events/{id}/status")).await.expect(200).json();
    assert_eq!(
        (&status["status"], &status["retry_count"]),
        (&json!("failed"), &json!(2)),
        "ATTEMPTS-3: {status}"
    );
    assert!(
        status["failed_at"].is_string() && status["last_retry_at"].is_string(),
        "ATTEMPTS-3: {status}"
    );
    assert_eq!(status["next_retry_at"], Value::Null, "ATTEMPTS-3: {status}");
    let attempts = status["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 3, "ATTEMPTS-3: {status}");
    for (attempt, number) in attempts.iter().zip(1..) {
        assert_eq!(
            (&attempt["number"], &attempt["outcome"]),
            (&json!(number), &json!("failed")),
            "ATTEMPTS-3"
        );
        assert!(
            attempt["started_at"].is_string() && attempt["finished_at"].is_string(),
            "ATTEMPTS-3: {attempt}"
        );
        assert!(
            attempt["error"].is_string() && attempt["http_status"].is_null(),
            "ATTEMPTS-3: {attempt}"
        );
    }

    let replayed = post(&probe.client, &id, "replay", &json!({})).await.expect(202);
    assert_eq!(replayed.string("/status"), "received", "ATTEMPTS-4");
    assert_eq!(
        post(&probe.client, &id, "replay", &json!({})).await.status,
        409,
        "ATTEMPTS-4: it is received"
    );
    let again = lease_one(&probe.client, 60).await;
    assert_eq!((&again["event_id"], &again["attempts"]), (&json!(id), &json!(4)), "ATTEMPTS-4");
    let running = probe.client.get(&format!("/v1/events/{id}/status")).await.expect(200).json();
    assert_eq!(running["attempts"][3]["outcome"], "in_progress", "ATTEMPTS-3: {running}");
    post(&probe.client, &id, "ack", &json!({ "lease_token": token(&again) })).await.expect(200);
    let ended = probe.client.get(&format!("/v1/events/{id}/status")).await.expect(200).json();
    assert_eq!(ended["attempts"][3]["outcome"], "succeeded", "ATTEMPTS-3: {ended}");
}

#[tokio::test]
async fn a_returned_event_is_leased_again_after_its_delay() {
    let probe = Probe::start(&[]).await;
    let id = probe.client.accepted("nacked.event", "{}").await;
    check_rejection(
        &post(&probe.client, &id, "nack", &json!({})).await,
        409,
        &["CONFLICT"],
        "it is not leased",
    );
    let held = lease_one(&probe.client, 600).await;
    let reason =
        json!({ "reason": "not now", "retry_after_seconds": 0, "lease_token": token(&held) });
    let nacked = post(&probe.client, &id, "nack", &reason).await.expect(200).json();
    assert_eq!(
        (&nacked["status"], &nacked["last_error"]),
        (&json!("queued"), &json!("not now")),
        "{nacked}"
    );
    assert!(nacked["next_retry_at"].is_string(), "{nacked}");
    let again = lease_one(&probe.client, 600).await;
    assert_eq!((&again["event_id"], &again["attempts"]), (&json!(id), &json!(2)));
    // The first delay of the default policy is a minute, so the event does not return at once.
    let nacked = post(&probe.client, &id, "nack", &json!({})).await.expect(200).json();
    assert_eq!(nacked["status"], "queued", "{nacked}");
    assert!(
        leased_ids(&probe.client.send(lease(&json!({}))).await.expect(200)).is_empty(),
        "it waits"
    );
    for (body, field) in [
        (json!({ "retry_after_seconds": 86_401 }), "retry_after_seconds"),
        (json!({ "retry_after_seconds": -1 }), "retry_after_seconds"),
        (json!({ "reason": "x".repeat(1_025) }), "reason"),
        (json!({ "lease_token": 1 }), "lease_token"),
    ] {
        let answer = post(&probe.client, &id, "nack", &body).await;
        check_rejection(&answer, 400, &["VALIDATION_ERROR"], field);
        assert_eq!(answer.string("/error/details/0/field"), field);
    }
}

#[tokio::test]
async fn a_lease_and_its_expiry_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    set_delays(&node, &[0]).await;
    let client = node.client();
    let held = client.accepted("held.event", "{}").await;
    let lost = client.accepted("lost.event", "{}").await;
    let holding = lease_one(&client, 43_200).await;
    let losing = lease_one(&client, 1).await;
    assert_eq!((&holding["event_id"], &losing["event_id"]), (&json!(held), &json!(lost)));
    node.kill_hard();
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    let back = lease_one(&client, 600).await;
    assert_eq!(
        (&back["event_id"], &back["attempts"]),
        (&json!(lost), &json!(2)),
        "ATTEMPTS-5: it ran out"
    );
    assert!(
        leased_ids(&client.send(lease(&json!({}))).await.expect(200)).is_empty(),
        "ATTEMPTS-5: the other lease is still valid"
    );
    post(&client, &held, "ack", &json!({ "lease_token": token(&holding) })).await.expect(200);
}

#[tokio::test]
async fn many_are_replayed_at_once() {
    let probe = Probe::start(&[]).await;
    let mut ids = Vec::new();
    for number in 0..120 {
        let event_type = if number % 4 == 0 { "rare.event" } else { "usual.event" };
        ids.push(probe.client.accepted(event_type, "{}").await);
    }
    probe
        .client
        .post("/v1/events/acknowledge/batch", &json!({ "event_ids": ids }))
        .await
        .expect(200);
    let replay = async |body: Value| probe.client.post("/v1/inbox/replay", &body).await;
    let rare =
        replay(json!({ "status": "delivered", "event_type": "rare.*" })).await.expect(202).json();
    assert_eq!((&rare["replayed"], &rare["has_more"]), (&json!(30), &json!(false)), "ATTEMPTS-4");
    let early = json!({ "status": "delivered", "to_timestamp": "2020-01-01T00:00:00Z" });
    assert_eq!(replay(early).await.expect(202).json()["replayed"], 0, "ATTEMPTS-4");
    let rest = replay(json!({ "status": "delivered" })).await.expect(202).json();
    assert_eq!(rest["replayed"], 90, "ATTEMPTS-4");
    let received = listing::all(&probe.client, "").await;
    assert_eq!(received.total_count, 120, "ATTEMPTS-4");
    assert_eq!(
        received.events.into_iter().map(|event| event.event_id).collect::<Vec<_>>(),
        ids,
        "in their old order"
    );
    check_rejection(
        &replay(json!({ "status": "received" })).await,
        400,
        &["VALIDATION_ERROR"],
        "replay of received",
    );
}

#[tokio::test]
async fn the_command_line_replays() {
    let probe = Probe::start(&[]).await;
    let id = probe.client.accepted("again.event", "{}").await;
    post(&probe.client, &id, "ack", &json!({})).await.expect(200);
    let envs = [
        ("TRIGGERS_URL", probe.node.dev.url.as_str()),
        ("TRIGGERS_API_KEY", probe.node.dev.api_key.as_str()),
    ];
    let replayed = process::run(&["events", "replay", &id], &envs).await;
    assert_eq!(replayed.code, 0, "{replayed:?}");
    assert!(replayed.stdout.contains(&id), "{replayed:?}");
    assert!(is_in(&probe.client, &id, "received").await, "ATTEMPTS-4");
    let rejected = process::run(&["events", "replay", &id], &envs).await;
    assert_eq!(rejected.code, 1, "{rejected:?}");
    assert!(rejected.stderr.contains("CONFLICT"), "the node's message: {rejected:?}");
}
