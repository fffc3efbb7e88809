//! Tests of reading without leases: the Server-Sent Events stream and the polling endpoint.
//!
//! - FOLLOWERS-1: a stream sends each received event once, in order, starting after the given id.
//! - FOLLOWERS-2: a stream ends cleanly when the node stops or its key is revoked.
//! - FOLLOWERS-3: a tenant has at most 100 streams; closing one permits another.
//! - FOLLOWERS-4: a poll returns an array, newest event first, each event with an `id`.

use super::post;
use crate::bad_input::probe::{Probe, check_rejection, check_security_headers};
use crate::harness::{Call, STATE_DEADLINE_MS, wait_until};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An open stream, and the bytes read from it so far, including the chunk headers.
struct Follower {
    stream: TcpStream,
    text: String,
}

impl Follower {
    /// Opens a stream and waits for its first bytes; `more` has complete header lines.
    async fn open(url: &str, key: &str, query: &str, more: &str) -> Self {
        let mut follower = Self::ask(url, key, query, more).await;
        assert!(follower.text.starts_with("HTTP/1.1 200"), "{}", follower.text);
        follower.read_until(|text| text.contains("retry: ")).await;
        follower
    }

    /// Requests a stream and waits for the header of the answer.
    async fn ask(url: &str, key: &str, query: &str, more: &str) -> Self {
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).await.expect("the node listens");
        let head = format!(
            "GET /v1/inbox/stream{query} HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the node reads");
        let mut follower = Self { stream, text: String::new() };
        follower.read_until(|text| text.contains("\r\n")).await;
        follower
    }

    async fn read_until(&mut self, done: impl Fn(&str) -> bool) {
        while !done(&self.text) {
            assert!(self.more().await, "the stream ended: {}", self.text);
        }
    }

    /// Reads some bytes; returns false at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1_024];
        let reading = tokio::time::timeout(
            Duration::from_millis(STATE_DEADLINE_MS),
            self.stream.read(&mut buffer),
        );
        let count = reading.await.expect("bytes arrive before the deadline").unwrap_or(0);
        self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    /// Waits for this many events and returns all events so far.
    async fn events(&mut self, count: usize) -> Vec<Value> {
        self.read_until(|text| text.ends_with("\n\r\n") && data(text).count() >= count).await;
        data(&self.text).map(|line| serde_json::from_str(line).expect("JSON on one line")).collect()
    }

    fn ids(&self) -> Vec<&str> {
        self.text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
    }
}

fn data(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("data: "))
}

#[tokio::test]
async fn a_stream_sends_new_events_and_resumes() {
    let probe = Probe::start(&[]).await;
    let (url, key) = (&probe.node.dev.url, &probe.node.dev.api_key);
    probe.client.accepted("early.event", "{}").await;
    let mut follower = Follower::open(url, key, "", "").await;
    assert!(follower.text.contains("content-type: text/event-stream"), "{}", follower.text);
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(
            probe.client.accepted("live.event", &format!("{{\n\"number\": {number}\r\n}}")).await,
        );
        let events = follower.events(number + 1).await;
        assert_eq!(events[number]["payload"]["number"], number, "FOLLOWERS-1");
        assert_eq!(events[number]["event_id"], *ids[number], "FOLLOWERS-1");
    }
    assert_eq!(follower.ids(), ids, "FOLLOWERS-1: not what came before it, and each once");
    drop(follower);

    ids.push(probe.client.accepted("missed.event", "{}").await);
    let resume = format!("last-event-id: {}\r\n", ids[0]);
    let mut follower = Follower::open(url, key, "", &resume).await;
    follower.events(3).await;
    assert_eq!(follower.ids(), ids[1..], "FOLLOWERS-1");
    let mut filtered = Follower::open(url, key, "?event_type=missed.*", &resume).await;
    filtered.events(1).await;
    assert_eq!(filtered.ids(), ids[3..], "FOLLOWERS-1");
    probe.client.accepted("other.event", "{}").await;
    let last = probe.client.accepted("missed.again", "{}").await;
    filtered.events(2).await;
    assert_eq!(filtered.ids(), [&ids[3], &last], "FOLLOWERS-1");

    let bad = Call::get("/v1/inbox/stream").header("last-event-id", "nonsense");
    check_rejection(&probe.client.send(bad).await, 400, &["VALIDATION_ERROR"], "a bad id");
}

#[tokio::test]
async fn a_stream_ends_with_the_node_and_with_its_key() {
    let mut probe = Probe::start(&[]).await;
    let wish = json!({
        "name": "follower",
        "scopes": ["inbox:read"],
        "tenant_id": probe.node.dev.tenant_id,
    });
    let made = probe.node.admin().post("/v1/keys", &wish).await.expect(201);
    let url = probe.node.dev.url.clone();
    let mut revoked = Follower::open(&url, &made.string("/key"), "", "").await;
    let mut follower = Follower::open(&url, &probe.node.dev.api_key, "", "").await;
    probe.node.admin().delete(&format!("/v1/keys/{}", made.string("/id"))).await.expect(204);
    revoked.read_until(|text| text.ends_with("0\r\n\r\n")).await;
    probe.client.accepted("live.event", "{}").await;
    follower.events(1).await;
    let reading = tokio::spawn(async move {
        while follower.more().await {}
        follower.text
    });
    assert_eq!(probe.node.terminate().await, 0, "FOLLOWERS-2");
    let text = reading.await.expect("the follower does not panic");
    assert!(text.ends_with("0\r\n\r\n"), "FOLLOWERS-2: the body has its end: {text}");
}

#[tokio::test]
async fn a_tenant_has_a_limited_number_of_streams() {
    let probe = Probe::start(&[]).await;
    let (url, key) = (&probe.node.dev.url, &probe.node.dev.api_key);
    let mut followers = Vec::new();
    for _ in 0..100 {
        followers.push(Follower::open(url, key, "", "").await);
    }
    let rejected = probe.client.get("/v1/inbox/stream").await;
    check_rejection(&rejected, 429, &["TENANT_QUOTA_EXCEEDED"], "FOLLOWERS-3");
    assert!(!rejected.header("retry-after").is_empty(), "FOLLOWERS-3");
    followers.pop();
    wait_until(STATE_DEADLINE_MS, "a slot is free", || async {
        Follower::ask(url, key, "", "").await.text.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_events_sends_comments() {
    // A comment is sent every 15 s, or more often if the idle timeout is shorter.
    let probe = Probe::start(&[("TRIGGERS__LISTEN__IDLE_TIMEOUT_MS", "2000")]).await;
    let mut follower = Follower::open(&probe.node.dev.url, &probe.node.dev.api_key, "", "").await;
    follower.read_until(|text| text.matches(": keep-alive\n\n").count() >= 4).await;
    let id = probe.client.accepted("live.event", "{}").await;
    follower.events(1).await;
    assert_eq!(follower.ids(), [id], "FOLLOWERS-1");
}

#[tokio::test]
async fn a_poll_returns_the_newest_first() {
    let probe = Probe::start(&[]).await;
    let first = probe.client.accepted("polled.event", "{ \"n\" : 1.0 }").await;
    // More events than the node reads at once when a filter is set.
    let event = json!({ "event_type": "usual.event", "payload": {} });
    probe.client.post("/v1/events/batch", &json!({ "events": vec![event; 700] })).await.expect(201);
    let second = probe.client.accepted("polled.event", "{}").await;
    let third = probe.client.accepted("polled.event", "{}").await;
    let ids = async |query: &str| {
        let answer = probe.client.get(&format!("/v1/triggers/poll{query}")).await.expect(200);
        check_security_headers(&answer, query);
        let events = answer.json().as_array().expect("FOLLOWERS-4: a bare array").clone();
        assert!(events.iter().all(|event| event["id"] == event["event_id"]), "FOLLOWERS-4");
        events
            .iter()
            .map(|event| event["id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids("?event_type=polled.*").await,
        [&third, &second, &first].map(String::as_str),
        "FOLLOWERS-4"
    );
    assert_eq!(
        ids("?event_type=polled.event&limit=2").await,
        [&third, &second].map(String::as_str),
        "FOLLOWERS-4"
    );
    let newest = ids("").await;
    assert_eq!((newest.len(), &newest[0]), (50, &third), "FOLLOWERS-4");
    assert!(newest.is_sorted_by(|a, b| a > b), "FOLLOWERS-4");
    post(&probe.client, &third, "ack", &json!({})).await.expect(200);
    assert_eq!(ids("?limit=1").await, [second], "FOLLOWERS-4: received ones");
    check_rejection(
        &probe.client.get("/v1/triggers/poll?limit=51").await,
        400,
        &["VALIDATION_ERROR"],
        "limit",
    );
}
