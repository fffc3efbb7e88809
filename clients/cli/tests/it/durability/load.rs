//! The load of the durability tests: writers and consumers that record their requests and answers.
//!
//! A writer posts single events and batches, with and without idempotency keys, until the node
//! stops answering. Each event has a unique `event_type`, which identifies it even if its id is
//! unknown. Tasks take a step of `Progress` before each request and after each answer. The steps
//! tell which POST started after which answer, across all tasks and rounds.
//!
//! The checks of the records are in `verdict.rs`.

use crate::harness::payload::{payload, size_bytes};
use crate::harness::random::Random;
use crate::harness::{Answer, Call, Client};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The global order of requests and answers, and the number of answered requests.
#[derive(Default)]
pub struct Progress {
    step: AtomicU64,
    answered: AtomicU64,
}

impl Progress {
    /// Returns the next step; later calls return greater steps.
    pub fn next_step(&self) -> u64 {
        self.step.fetch_add(1, Ordering::SeqCst)
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }
}

/// An event that a writer posted.
#[derive(Debug)]
pub struct Post {
    pub event_type: String,
    pub payload: String,
    pub key: Option<String>,
    pub began: u64,
}

/// An event that was answered with 201, and the step of the answer.
#[derive(Debug)]
pub struct Answered {
    pub post: Post,
    pub event_id: String,
    pub at: u64,
}

/// The records of a task, a round or the complete test.
#[derive(Debug, Default)]
pub struct Ledger {
    pub answered: Vec<Answered>,
    pub unanswered: Vec<Post>,
    /// Number of interrupted posts with an idempotency key that were repeated.
    pub retried: usize,
    pub acknowledged: HashSet<String>,
    /// Events whose acknowledgement was not answered: both statuses are correct.
    pub maybe_acknowledged: HashSet<String>,
}

impl Ledger {
    pub fn extend(&mut self, other: Ledger) {
        self.answered.extend(other.answered);
        self.unanswered.extend(other.unanswered);
        self.retried += other.retried;
        self.acknowledged.extend(other.acknowledged);
        self.maybe_acknowledged.extend(other.maybe_acknowledged);
    }
}

impl Post {
    fn make(random: &mut Random, marker: &str, began: u64) -> Self {
        let size_bytes = size_bytes(random);
        Self {
            event_type: format!("load.{marker}"),
            payload: payload(random, marker, size_bytes),
            key: None,
            began,
        }
    }

    fn body(&self) -> String {
        format!("{{ \"event_type\":\"{}\" ,\"payload\" : {} }}", self.event_type, self.payload)
    }

    /// The request that posts only this event.
    pub fn call(&self) -> Call {
        let call = Call::post("/v1/events", self.body());
        match &self.key {
            Some(key) => call.header("x-idempotency-key", key),
            None => call,
        }
    }

    pub fn answered(self, event_id: String, at: u64) -> Answered {
        Answered { post: self, event_id, at }
    }
}

/// Posts events until the node stops answering.
pub async fn write(
    client: Client,
    mut random: Random,
    writer: String,
    progress: Arc<Progress>,
) -> Ledger {
    let mut ledger = Ledger::default();
    for number in 0_u64.. {
        let began = progress.next_step();
        let (posts, call) = if random.one_in(8) {
            batch(&mut random, &format!("{writer}-{number}"), began)
        } else {
            single(&mut random, &format!("{writer}-{number}"), began)
        };
        let Ok(answer) = client.try_send(call).await else {
            ledger.unanswered.extend(posts);
            break;
        };
        progress.answered.fetch_add(1, Ordering::SeqCst);
        match answer.status {
            201 => {
                let at = progress.next_step();
                let ids = event_ids(&answer, posts.len());
                ledger
                    .answered
                    .extend(posts.into_iter().zip(ids).map(|(post, id)| post.answered(id, at)));
            }
            // After a rejection because of overload the event may or may not exist.
            429 | 503 => ledger.unanswered.extend(posts),
            _ => panic!("unexpected answer {}: {}", answer.status, answer.text()),
        }
    }
    ledger
}

fn single(random: &mut Random, marker: &str, began: u64) -> (Vec<Post>, Call) {
    let mut post = Post::make(random, marker, began);
    if random.one_in(2) {
        post.key = Some(format!("key {marker}"));
    }
    let call = post.call();
    (vec![post], call)
}

fn batch(random: &mut Random, marker: &str, began: u64) -> (Vec<Post>, Call) {
    let count = random.between(1, 12);
    let posts: Vec<Post> =
        (0..count).map(|item| Post::make(random, &format!("{marker}-{item}"), began)).collect();
    let bodies: Vec<String> = posts.iter().map(Post::body).collect();
    let body = format!("{{\"events\":[{}]}}", bodies.join(" , "));
    (posts, Call::post("/v1/events/batch", body))
}

/// The ids in an answer to a single event or to a batch of `count`.
fn event_ids(answer: &Answer, count: usize) -> Vec<String> {
    let json = answer.json();
    let Some(results) = json["results"].as_array() else {
        assert_eq!(count, 1, "a batch is answered with results: {}", answer.text());
        return vec![answer.string("/event_id")];
    };
    assert_eq!(
        json["success_count"].as_u64(),
        Some(count as u64),
        "all good items: {}",
        answer.text()
    );
    let ids: Vec<String> = results
        .iter()
        .filter_map(|result| result["event_id"].as_str())
        .map(str::to_owned)
        .collect();
    assert_eq!(ids.len(), count, "an id for each item: {}", answer.text());
    assert!(ids.is_sorted_by(|a, b| a < b), "DURABILITY-4: a batch is accepted in its order");
    ids
}

/// Acknowledges some of the oldest events repeatedly until the node stops answering.
pub async fn acknowledge(client: Client, mut random: Random) -> Ledger {
    let mut ledger = Ledger::default();
    while let Ok(answer) = client.try_send(Call::get("/v1/inbox?limit=20")).await {
        let page = answer.expect(200).json();
        let events = page["events"].as_array().expect("a page has events");
        let ids: Vec<&str> = events.iter().filter_map(|event| event["event_id"].as_str()).collect();
        let chosen: Vec<String> =
            ids.into_iter().filter(|_| random.one_in(3)).map(str::to_owned).collect();
        let is_cut = if random.one_in(2) {
            acknowledge_together(&client, chosen, &mut ledger).await
        } else {
            acknowledge_singly(&client, chosen, &mut ledger).await
        };
        if is_cut {
            break;
        }
    }
    ledger
}

/// Returns true if the node stopped answering.
async fn acknowledge_together(client: &Client, ids: Vec<String>, ledger: &mut Ledger) -> bool {
    if ids.is_empty() {
        return false;
    }
    let call = Call::post("/v1/events/acknowledge/batch", json!({ "event_ids": ids }).to_string());
    let Ok(answer) = client.try_send(call).await else {
        ledger.maybe_acknowledged.extend(ids);
        return true;
    };
    let json = answer.expect(200).json();
    let results = json["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(results.len(), ids.len(), "a result for each id: {json}");
    assert!(results.iter().all(|result| result["status"] == "delivered"), "{json}");
    ledger.acknowledged.extend(ids);
    false
}

/// Returns true if the node stopped answering.
async fn acknowledge_singly(client: &Client, ids: Vec<String>, ledger: &mut Ledger) -> bool {
    for id in ids {
        let Ok(answer) = client.try_send(Call::post(format!("/v1/events/{id}/ack"), "")).await
        else {
            ledger.maybe_acknowledged.insert(id);
            return true;
        };
        assert_eq!(answer.expect(200).string("/status"), "delivered");
        ledger.acknowledged.insert(id);
    }
    false
}
