//! Tests of leases: an event belongs to one consumer until it is acknowledged, returned or expired.
//!
//! - LEASES-1: a leased event is `queued` and is not leased again.
//! - LEASES-2: only the lease's token is accepted; another token changes nothing and gets 409.
//! - LEASES-3: the paths to lease, return and replay events reject invalid input like all others.
//! - LEASES-4: a long poll does not delay the stop of a node.
//! - LEASES-5: a lease is acknowledged, nacked and extended as a whole, or for some of its events.
//!
//! Events that are not acknowledged are tested in `leases/attempts.rs`, streams and polls in
//! `leases/followers.rs`. The actors and the simulation test leases in virtual time and with
//! faults.

mod attempts;
mod crowd;
mod filters;
mod followers;
mod whole;

use crate::bad_input::probe::{Probe, check_rejection};
use crate::harness::{Answer, Call, Client, listing};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UNKNOWN_ID: &str = "019a0000-0000-7000-8000-000000000000";

fn lease(body: &Value) -> Call {
    Call::post("/v1/inbox/lease", body.to_string())
}

/// Posts to the path of an event.
async fn post(client: &Client, id: &str, action: &str, body: &Value) -> Answer {
    client.post(&format!("/v1/events/{id}/{action}"), body).await
}

/// The ids of the events in an answer.
fn leased_ids(answer: &Answer) -> Vec<String> {
    let events = answer.json()["events"].as_array().expect("events").clone();
    events.iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_lease_accepts_only_its_token() {
    let probe = Probe::start(&[]).await;
    let id = probe.client.accepted("leased.event", "{}").await;
    probe.client.accepted("other.event", "{}").await;
    let leased = probe.client.send(lease(&json!({ "limit": 1 }))).await.expect(200);
    assert_eq!(leased.string("/events/0/event_id"), id, "oldest first");
    assert_eq!(leased.string("/events/0/status"), "queued", "LEASES-1");
    let token = leased.string("/events/0/lease_token");
    for path in ["ack", "nack"] {
        let other = json!({ "lease_token": format!("{token}x") });
        let answer = probe.client.post(&format!("/v1/events/{id}/{path}"), &other).await;
        check_rejection(&answer, 409, &["CONFLICT"], path);
    }
    let again = probe.client.send(lease(&json!({ "limit": 1 }))).await.expect(200);
    assert_ne!(again.string("/events/0/event_id"), id, "LEASES-1");
    assert_eq!(listing::all(&probe.client, "status=queued").await.total_count, 2, "LEASES-1");
    let own = json!({ "lease_token": token });
    let acknowledged = probe.client.post(&format!("/v1/events/{id}/ack"), &own).await.expect(200);
    assert_eq!(acknowledged.string("/status"), "delivered", "LEASES-2");
    let repeated = post(&probe.client, &id, "ack", &own).await.expect(200);
    assert_eq!(repeated.body, acknowledged.body, "again the same");
    assert_eq!(
        post(&probe.client, &id, "nack", &own).await.status,
        409,
        "LEASES-2: it is not leased any more"
    );
    assert_eq!(post(&probe.client, &id, "lease", &extension(&token)).await.status, 409, "LEASES-2");
}

fn extension(token: &str) -> Value {
    json!({ "lease_token": token, "visibility_timeout_seconds": 30 })
}

#[tokio::test]
async fn a_lease_is_extended_and_filters_types() {
    let probe = Probe::start(&[]).await;
    probe.client.accepted("other.event", "{}").await;
    let id = probe.client.accepted("wanted.event", "{ \"n\" : 1.0 }").await;
    let leased =
        probe.client.send(lease(&json!({ "event_types": ["wanted.*"] }))).await.expect(200);
    assert_eq!(leased_ids(&leased), [id.as_str()]);
    assert!(leased.text().contains("{ \"n\" : 1.0 }"), "byte for byte: {}", leased.text());
    let token = leased.string("/events/0/lease_token");
    let longer = post(&probe.client, &id, "lease", &extension(&token)).await.expect(200);
    assert_eq!(
        (longer.string("/status"), longer.string("/lease_token")),
        ("queued".to_owned(), token)
    );
    assert_eq!(
        leased_ids(&probe.client.send(lease(&json!({ "limit": 2 }))).await.expect(200)).len(),
        1,
        "the other"
    );
    let nothing = probe.client.send(Call::post("/v1/inbox/lease", "")).await.expect(200);
    let empty = json!({ "lease_id": null, "leased_until": null, "events": [] });
    assert_eq!(nothing.json(), empty, "no body is needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_never_share_an_event() {
    let probe = Probe::start(&[]).await;
    let mut sent = BTreeSet::new();
    for _ in 0..40 {
        sent.insert(probe.client.accepted("shared.event", "{}").await);
    }
    let consumers = (0..4).map(|_| {
        let client = probe.node.client();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let ids = leased_ids(&client.send(lease(&json!({ "limit": 3 }))).await.expect(200));
                if ids.is_empty() {
                    return taken;
                }
                taken.extend(ids);
            }
        })
    });
    let mut taken = Vec::new();
    for consumer in consumers.collect::<Vec<_>>() {
        taken.extend(consumer.await.expect("a consumer does not panic"));
    }
    assert_eq!(taken.len(), sent.len(), "LEASES-1: each event once");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), sent, "LEASES-1");
}

#[tokio::test]
async fn a_long_poll_is_answered_by_an_event() {
    let probe = Probe::start(&[]).await;
    let (waiting, other) = (probe.node.client(), probe.node.client());
    let wish = json!({ "wait_seconds": 20, "event_types": ["awaited.*"] });
    let poll = tokio::spawn(async move { waiting.send(lease(&wish)).await });
    // A second consumer that waits for another type does not block the first.
    let idle = tokio::spawn(async move {
        other.try_send(lease(&json!({ "wait_seconds": 20, "event_types": ["never"] }))).await
    });
    probe.client.accepted("other.event", "{}").await;
    let id = probe.client.accepted("awaited.event", "{}").await;
    let answer = poll.await.expect("the poller does not panic").expect(200);
    assert_eq!(leased_ids(&answer), [id]);
    let shortly = probe
        .client
        .send(lease(&json!({ "wait_seconds": 1, "event_types": ["never"] })))
        .await
        .expect(200);
    assert_eq!(leased_ids(&shortly), [""; 0], "an answer without events when the time is up");
    idle.abort();
}

#[tokio::test]
async fn members_of_a_lease_are_checked() {
    let mut probe = Probe::start(&[]).await;
    for value in [json!(0), json!(-1), json!("x"), json!(1.5), json!(100_000)] {
        probe.rejects_field(lease(&json!({ "limit": value })), "limit").await;
    }
    for value in [json!(0), json!(43_201), json!("x"), json!(-1)] {
        let body = json!({ "visibility_timeout_seconds": value });
        probe.rejects_field(lease(&body), "visibility_timeout_seconds").await;
    }
    for value in [json!(-1), json!(21), json!("x")] {
        probe.rejects_field(lease(&json!({ "wait_seconds": value })), "wait_seconds").await;
    }
    let answer = probe.rejects(Call::get("/v1/inbox/lease"), 405, &["METHOD_NOT_ALLOWED"]).await;
    assert!(answer.header("allow").contains("POST"), "LEASES-3");
}

/// The calls that name an event in their path.
fn calls_on(id: &str) -> [Call; 3] {
    let extend = json!({ "lease_token": "nonsense", "visibility_timeout_seconds": 30 }).to_string();
    [
        Call::post(format!("/v1/events/{id}/lease"), extend),
        Call::post(format!("/v1/events/{id}/nack"), "{}"),
        Call::post(format!("/v1/events/{id}/replay"), ""),
    ]
}

#[tokio::test]
async fn events_that_are_not_there_cannot_be_leased() {
    let mut probe = Probe::start(&[]).await;
    let id = probe.client.accepted("short.lived", "{}").await;
    probe.client.delete(&format!("/v1/events/{id}")).await.expect(204);
    for call in calls_on(UNKNOWN_ID).into_iter().chain(calls_on("nonsense")) {
        probe.rejects(call, 404, &["NOT_FOUND"]).await;
    }
    for call in calls_on(&id) {
        probe.rejects(call, 410, &["GONE"]).await;
    }
}

#[tokio::test]
async fn a_long_poll_does_not_delay_the_stop() {
    let mut probe = Probe::start(&[]).await;
    let poller = probe.node.client();
    let poll =
        tokio::spawn(async move { poller.try_send(lease(&json!({ "wait_seconds": 5 }))).await });
    probe.client.get("/v1/inbox").await.expect(200);
    assert_eq!(probe.node.terminate().await, 0, "LEASES-4");
    // The poll may be answered or rejected; it must not hang.
    let polled = poll.await.expect("the poller does not panic");
    assert!(polled.map_or(true, |answer| [200, 503].contains(&answer.status)), "LEASES-4");
}
