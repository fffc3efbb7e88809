//! A node, and checks of its rejections.
//!
//! `Probe::rejects` sends an invalid request and checks the status, the code and the complete body
//! of the error. Then it posts a valid event and checks that the event count increased by one. So
//! each case shows that the rejection had no effect and that the node continues to work.
//!
//! For a rejection that closes the connection, tests send the request themselves and use
//! `check_rejection`.

use crate::harness::{Answer, Call, Client, Node, Wire, listing};
use serde_json::Value;
use tempfile::TempDir;

/// A node, a client of its development tenant, and the expected number of events.
pub struct Probe {
    pub node: Node,
    pub client: Client,
    count: u64,
    _directory: TempDir,
}

impl Probe {
    pub async fn start(envs: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let node = Node::start(directory.path(), envs).await;
        let client = node.client();
        Self { node, client, count: 0, _directory: directory }
    }

    /// Checks BAD-1 and BAD-2 for one request; each of `codes` is accepted.
    pub async fn rejects(&mut self, call: Call, status: u16, codes: &[&str]) -> Answer {
        let what = shortened(&call);
        let answer = self.client.send(call).await;
        check_rejection(&answer, status, codes, &what);
        self.goes_on(&what).await;
        answer
    }

    /// Checks for a 400 `VALIDATION_ERROR` whose details name `field`.
    pub async fn rejects_field(&mut self, call: Call, field: &str) -> Answer {
        let what = shortened(&call);
        let answer = self.rejects(call, 400, &["VALIDATION_ERROR"]).await;
        let details = answer.json()["error"]["details"].clone();
        let fields: Vec<_> =
            details.as_array().into_iter().flatten().map(|detail| &detail["field"]).collect();
        assert!(
            fields.iter().any(|named| named.as_str() == Some(field)),
            "{what}: no detail for {field}: {details}"
        );
        answer
    }

    /// The header of a POST of JSON with a body of `length_bytes`; `more` has complete lines.
    pub fn head(&self, path: &str, length_bytes: usize, more: &str) -> String {
        let key = &self.node.dev.api_key;
        format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n\
             content-type: application/json\r\n\
             content-length: {length_bytes}\r\n{more}\r\n"
        )
    }

    /// Checks for a 413, sent over a plain connection: the node may close the connection before it
    /// has read the body, and an HTTP client would report that instead of the answer.
    pub async fn rejects_as_too_large(&mut self, path: &str, body: &str) {
        let whole = self.head(path, body.len(), "") + body;
        let answer =
            Wire::connect(&self.node.dev.url).await.write_and_answer(whole.into_bytes()).await;
        let what = format!("{} bytes to {path}", body.len());
        check_rejection(&answer.expect("an answer"), 413, &["PAYLOAD_TOO_LARGE"], &what);
        self.goes_on(&what).await;
    }

    /// Sends a valid request that adds `events` events.
    pub async fn accepts(&mut self, call: Call, events: u64) -> Answer {
        let what = shortened(&call);
        let answer = self.client.send(call).await;
        assert_eq!(answer.status, 201, "{what}: {}", answer.text());
        check_security_headers(&answer, &what);
        self.count += events;
        self.is_counted(&what).await;
        answer
    }

    /// BAD-2: checks that a valid event is accepted and that no other event was added.
    pub async fn goes_on(&mut self, after: &str) {
        let answer = self.client.send(Call::event("good.event", "{}")).await;
        assert_eq!(answer.status, 201, "BAD-2: after {after}: {}", answer.text());
        self.count += 1;
        self.is_counted(after).await;
    }

    async fn is_counted(&self, after: &str) {
        let count = listing::received_count(&self.client).await;
        assert_eq!(count, self.count, "BAD-2: events received after {after}");
    }
}

/// The request, shortened for a failure message.
fn shortened(call: &Call) -> String {
    format!("{call:?}").chars().take(400).collect()
}

/// BAD-1: checks the status, the code and the body of an error.
pub fn check_rejection(answer: &Answer, status: u16, codes: &[&str], what: &str) {
    assert_eq!(answer.status, status, "BAD-1: {what}: {}", answer.text());
    assert_eq!(
        answer.header("content-type").split(';').next(),
        Some("application/json"),
        "BAD-1: {what}"
    );
    check_error_member(answer, codes, what);
    check_security_headers(answer, what);
}

/// Checks the `error` member, in either format.
pub fn check_error_member(answer: &Answer, codes: &[&str], what: &str) {
    let json = answer.json();
    let error = &json["error"];
    let code = error["code"].as_str().unwrap_or_default();
    assert!(codes.contains(&code), "BAD-1: {what}: code {code:?} is not one of {codes:?}: {json}");
    assert!(
        error["message"].as_str().is_some_and(|message| !message.is_empty()),
        "BAD-1: {what}: {json}"
    );
    let timestamp = error["timestamp"].as_str().unwrap_or_default();
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "BAD-1: {what}: timestamp {timestamp:?}");
    assert!(
        timestamp.ends_with('Z') && timestamp.contains('.'),
        "BAD-1: {what}: timestamp {timestamp:?}"
    );
    let request_id = error["request_id"].as_str().unwrap_or_default();
    assert!(!request_id.is_empty(), "BAD-1: {what}: {json}");
    assert_eq!(request_id, answer.header("x-request-id"), "BAD-1: {what}: both request ids agree");
    if code == "VALIDATION_ERROR" {
        check_details(&error["details"], what);
    }
}

fn check_details(details: &Value, what: &str) {
    let details = details.as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(!details.is_empty(), "BAD-1: {what}: a validation error has details");
    for detail in details {
        assert!(
            detail["field"].is_string() && detail["message"].is_string(),
            "BAD-1: {what}: {detail}"
        );
    }
}

/// Checks the headers that every response has.
pub fn check_security_headers(answer: &Answer, what: &str) {
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(answer.header("x-frame-options"), "DENY", "{what}");
    assert_eq!(answer.header("referrer-policy"), "no-referrer", "{what}");
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    assert!(
        !answer.header("content-security-policy").is_empty(),
        "{what}: a content security policy"
    );
    assert!(!answer.header("x-request-id").is_empty(), "{what}: a request id");
}
