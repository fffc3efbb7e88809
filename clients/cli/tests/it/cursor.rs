//! Tests of reading the inbox with a cursor: no event is skipped or returned twice.
//!
//! - CURSOR-T-1: a read of all pages returns every event that was accepted before the read began,
//!   oldest first and exactly once, while writers run in parallel.
//! - CURSOR-T-2: a cursor continues at the same position after the node was killed and restarted.
//! - CURSOR-T-3: acknowledging events that were read does not make the reader skip others.
//!
//! Filters are tested in `cursor/filters.rs`, the isolation of tenants in `cursor/tenants.rs`.

mod filters;
pub mod tenants;

use crate::harness::listing::{self, Listed};
use crate::harness::{Call, Client, Node, STATE_DEADLINE_MS, wait_until};
use serde_json::json;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const WRITERS: u64 = 6;
const PASSES: u64 = 8;

/// The ids of the events accepted so far.
type Answered = Arc<Mutex<Vec<String>>>;

fn answered_now(answered: &Answered) -> Vec<String> {
    answered.lock().expect("no writer panics while holding the lock").clone()
}

async fn write_until(stop: Arc<AtomicBool>, client: Client, answered: Answered, writer: u64) {
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = client
            .accepted("cursor.written", &format!("{{\"writer\":{writer},\"number\":{number}}}"))
            .await;
        answered.lock().expect("no writer panics while holding the lock").push(id);
    }
}

/// Reads pages until the last of `expected` was returned; the writers may keep adding events.
async fn pass(client: &Client, expected: &[String], limit: u64) -> Vec<String> {
    let until = expected.iter().max().cloned().unwrap_or_default();
    let mut seen: Vec<String> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = listing::page(client, &format!("limit={limit}"), cursor.as_deref()).await;
        seen.extend(page.events.into_iter().map(|event| event.event_id));
        let is_past = seen.last().is_some_and(|last| *last >= until);
        if is_past || !page.has_more {
            return seen;
        }
        cursor = page.cursor;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_beside_writers_skips_and_repeats_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let (answered, stop) = (Answered::default(), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(write_until(stop.clone(), node.client(), answered.clone(), writer))
        })
        .collect();
    let reader = node.client();
    for number in 0..PASSES {
        let goal = (number as usize + 1) * 60;
        wait_until(STATE_DEADLINE_MS, "the writers make progress", || async {
            answered_now(&answered).len() >= goal
        })
        .await;
        let expected = answered_now(&answered);
        let seen = pass(&reader, &expected, 7 + number * 13).await;
        assert!(seen.is_sorted_by(|a, b| a < b), "CURSOR-T-1: oldest first, each once");
        let seen: HashSet<_> = seen.into_iter().collect();
        let missing: Vec<_> = expected.iter().filter(|id| !seen.contains(*id)).collect();
        assert!(missing.is_empty(), "CURSOR-T-1: pass {number} skipped {missing:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    let everything = listing::all(&reader, "limit=200").await;
    let mut expected = answered_now(&answered);
    expected.sort();
    assert_eq!(
        ids(&everything.events),
        expected,
        "CURSOR-T-1: in the end exactly what was answered"
    );
}

fn ids(events: &[Listed]) -> Vec<String> {
    events.iter().map(|event| event.event_id.clone()).collect()
}

/// Posts `count` events in batches and returns their ids in order.
async fn fill(client: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let items = (count - ids.len()).min(100);
        let events: Vec<_> = (0..items)
            .map(|number| json!({ "event_type": "cursor.filled", "payload": { "n": number } }))
            .collect();
        let answer =
            client.post("/v1/events/batch", &json!({ "events": events })).await.expect(201).json();
        let results =
            answer["results"].as_array().expect("a batch is answered with results").clone();
        ids.extend(
            results.iter().map(|result| result["event_id"].as_str().expect("accepted").to_owned()),
        );
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_continues_after_a_kill() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let expected = fill(&node.client(), 250).await;
    let mut seen = Vec::new();
    let mut cursor = None;
    for pages in [1, 2, 1] {
        let client = node.client();
        for _ in 0..pages {
            let page = listing::page(&client, "limit=30", cursor.as_deref()).await;
            seen.extend(ids(&page.events));
            cursor = page.cursor;
        }
        node.kill_hard();
        node = Node::start(directory.path(), &[]).await;
    }
    let late = node.client().accepted("cursor.late", "{}").await;
    let rest = listing::follow(&node.client(), "limit=30", cursor).await;
    seen.extend(ids(&rest.events));
    let expected: Vec<String> = expected.into_iter().chain([late]).collect();
    assert_eq!(seen, expected, "CURSOR-T-2: each once, in order, across restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_between_pages_skips_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    let expected = fill(&client, 120).await;
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = listing::page(&client, "limit=25", cursor.as_deref()).await;
        let page_ids = ids(&page.events);
        client
            .post("/v1/events/acknowledge/batch", &json!({ "event_ids": page_ids }))
            .await
            .expect(200);
        seen.extend(page_ids);
        cursor = page.cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seen, expected, "CURSOR-T-3: each once");
    assert_eq!(listing::received_count(&client).await, 0, "all were acknowledged");
    let delivered = listing::all(&client, "limit=50&status=delivered").await;
    assert_eq!(ids(&delivered.events), expected, "all are listed as delivered");
    assert_eq!(delivered.total_count, expected.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_inbox_is_an_empty_page() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    let page = client.send(Call::get("/v1/inbox")).await.expect(200).json();
    assert_eq!(page["events"], json!([]));
    assert_eq!(page["cursor"], json!(null));
    assert_eq!(page["has_more"], json!(false));
    assert_eq!(
        page["pagination"],
        json!({ "limit": 50, "cursor": null, "has_more": false, "total_count": 0 })
    );
}
