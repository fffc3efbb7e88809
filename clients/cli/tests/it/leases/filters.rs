//! Tests of reads with a filter that is behind more events than one read scans.
//!
//! - FILTERS-1: a filtered lease, long poll, poll or page finds the events that it selects,
//!   however many others are in front of them.

use super::{lease, leased_ids, post};
use crate::bad_input::probe::Probe;
use crate::harness::{Call, Client};
use serde_json::json;

/// Sends this many events of another type.
async fn others(client: &Client, count: usize) {
    let event = json!({ "event_type": "usual.event", "payload": {} });
    for begin in (0..count).step_by(1_000) {
        let events = vec![&event; 1_000.min(count - begin)];
        client.post("/v1/events/batch", &json!({ "events": events })).await.expect(201);
    }
}

/// A lease of rare events, with further members.
fn rare(more: serde_json::Value) -> Call {
    let mut body = json!({ "event_types": ["rare.event"] });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    lease(&body)
}

#[tokio::test]
async fn a_lease_finds_an_event_behind_2500_others() {
    let probe = Probe::start(&[]).await;
    others(&probe.client, 2_500).await;
    let id = probe.client.accepted("rare.event", "{}").await;
    let leased = probe.client.send(rare(json!({}))).await.expect(200);
    assert_eq!(leased_ids(&leased), [id], "FILTERS-1");
    assert!(leased_ids(&probe.client.send(rare(json!({}))).await.expect(200)).is_empty());
}

#[tokio::test]
async fn a_lease_finds_a_retry_behind_300_others() {
    let probe = Probe::start(&[]).await;
    others(&probe.client, 300).await;
    let rare_id = probe.client.accepted("rare.event", "{}").await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let leased = probe.client.send(lease(&json!({ "limit": 200 }))).await.expect(200);
        held.extend(leased_ids(&leased));
    }
    assert_eq!(held.last(), Some(&rare_id), "it becomes due last");
    for id in &held {
        post(&probe.client, id, "nack", &json!({ "retry_after_seconds": 0 })).await.expect(200);
    }
    let leased = probe.client.send(rare(json!({}))).await.expect(200);
    assert_eq!(leased_ids(&leased), [rare_id], "FILTERS-1");
}

#[tokio::test]
async fn a_poll_a_page_and_a_waiting_lease_find_events_behind_10500_others() {
    let probe = Probe::start(&[]).await;
    let first = probe.client.accepted("rare.event", "{}").await;
    others(&probe.client, 10_500).await;
    let polled = probe.client.get("/v1/triggers/poll?event_type=rare.event").await.expect(200);
    assert_eq!(polled.string("/0/id"), first, "FILTERS-1");

    let second = probe.client.accepted("rare.event", "{}").await;
    let (mut found, mut path) = (Vec::new(), "/v1/inbox?event_type=rare.event".to_owned());
    loop {
        let page = probe.client.get(&path).await.expect(200).json();
        let events = page["events"].as_array().expect("events").clone();
        found
            .extend(events.iter().map(|event| event["event_id"].as_str().unwrap_or("").to_owned()));
        assert_eq!(page["has_more"], page["cursor"].is_string());
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/v1/inbox?event_type=rare.event&cursor={cursor}");
    }
    assert_eq!(found, [first.as_str(), &second], "FILTERS-1");

    let both = probe.client.send(rare(json!({ "limit": 1 }))).await.expect(200);
    assert_eq!(leased_ids(&both), [first.as_str()], "FILTERS-1");
    let both = probe.client.send(rare(json!({ "limit": 1 }))).await.expect(200);
    assert_eq!(leased_ids(&both), [second.as_str()], "FILTERS-1");
    let waiting = probe.client.send(rare(json!({ "wait_seconds": 20 })));
    let sending = async {
        others(&probe.client, 1_500).await;
        probe.client.accepted("rare.event", "{}").await
    };
    let (waited, third) = tokio::join!(waiting, sending);
    assert_eq!(leased_ids(&waited.expect(200)), [third.as_str()], "FILTERS-1");
    // A replayed event is in front of the position of the filter.
    post(&probe.client, &first, "ack", &json!({})).await.expect(200);
    post(&probe.client, &first, "replay", &json!({})).await.expect(202);
    let again = probe.client.send(rare(json!({}))).await.expect(200);
    assert_eq!(leased_ids(&again), [first], "FILTERS-1");
}
