//! Twenty consumers drain an inbox of 100,000 events, and each event is handled once.
//!
//! CROWD-1: if no consumer fails, no event is leased twice and none is left.

use super::leased_ids;
use crate::harness::{Call, Client, Node, listing};
use serde_json::json;
use std::collections::BTreeSet;

const EVENTS: usize = 100_000;
const BATCH: usize = 1_000;
const CONSUMERS: usize = 20;

async fn fill(client: &Client) {
    let item = json!({ "event_type": "crowd.event", "payload": {} });
    let body = json!({ "events": vec![item; BATCH] }).to_string();
    for _ in 0..EVENTS / BATCH {
        client.send(Call::post("/v1/events/batch", body.clone())).await.expect(201);
    }
}

/// Leases and acknowledges until the inbox is empty; returns the ids of the handled events.
async fn consume(client: Client) -> Vec<String> {
    let mut handled = Vec::new();
    loop {
        let wish = json!({ "limit": 200, "visibility_timeout_seconds": 600 });
        let ids = leased_ids(&client.post("/v1/inbox/lease", &wish).await.expect(200));
        if ids.is_empty() {
            return handled;
        }
        let answer = client
            .post("/v1/events/acknowledge/batch", &json!({ "event_ids": ids }))
            .await
            .expect(200);
        assert_eq!(answer.json()["success_count"], ids.len());
        handled.extend(ids);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_consumers_drain_an_inbox_and_handle_each_event_once() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    fill(&node.client()).await;
    let consumers: Vec<_> = (0..CONSUMERS).map(|_| tokio::spawn(consume(node.client()))).collect();
    let mut handled = Vec::with_capacity(EVENTS);
    for consumer in consumers {
        handled.extend(consumer.await.expect("a consumer does not panic"));
    }
    assert_eq!(handled.len(), EVENTS, "CROWD-1: each event once");
    assert_eq!(
        handled.into_iter().collect::<BTreeSet<_>>().len(),
        EVENTS,
        "CROWD-1: no event twice"
    );
    for (status, count) in [("received", 0), ("queued", 0), ("delivered", EVENTS as u64)] {
        let page = listing::page(&node.client(), &format!("limit=1&status={status}"), None).await;
        assert_eq!(page.pagination.total_count, count, "CROWD-1: {status}");
    }
}
