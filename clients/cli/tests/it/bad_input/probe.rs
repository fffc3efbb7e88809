//! A node and the judgement of its refusals.
//!
//! `Probe::refuses` sends a bad request, checks status, code and the whole shape of the error, then posts a good event
//! and checks that the count of received events grew by that one alone. So each case shows that the refusal had no
//! effect and that the node goes on.
//!
//! Not here: refusals that end the connection; `check_refusal` judges their answer, the tests send them themselves.

use crate::harness::{Answer, Call, Client, Node, Wire, listing};
use serde_json::Value;
use tempfile::TempDir;

/// A node, its development tenant, and how many events that tenant must have.
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

    /// BAD-1 and BAD-2 for one request; any of `codes` will do where the contract leaves it open.
    pub async fn refuses(&mut self, call: Call, status: u16, codes: &[&str]) -> Answer {
        let what = shortened(&call);
        let answer = self.client.send(call).await;
        check_refusal(&answer, status, codes, &what);
        self.goes_on(&what).await;
        answer
    }

    /// A 400 `VALIDATION_ERROR` that names `field` among its details.
    pub async fn refuses_field(&mut self, call: Call, field: &str) -> Answer {
        let what = shortened(&call);
        let answer = self.refuses(call, 400, &["VALIDATION_ERROR"]).await;
        let details = answer.json()["error"]["details"].clone();
        let fields: Vec<_> =
            details.as_array().into_iter().flatten().map(|detail| &detail["field"]).collect();
        assert!(
            fields.iter().any(|named| named.as_str() == Some(field)),
            "{what}: no detail for {field}: {details}"
        );
        answer
    }

    /// The head of a POST of JSON with a body of `length_bytes`; `more` is further header lines, each with its end.
    pub fn head(&self, path: &str, length_bytes: usize, more: &str) -> String {
        let key = &self.node.dev.api_key;
        format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n\
             content-length: {length_bytes}\r\n{more}\r\n"
        )
    }

    /// A 413 for a body that the node may refuse to read: it is sent over a bare connection, because an ordinary
    /// client may see the connection break before it sees the answer.
    pub async fn refuses_as_too_large(&mut self, path: &str, body: &str) {
        let whole = self.head(path, body.len(), "") + body;
        let answer =
            Wire::connect(&self.node.dev.url).await.write_and_answer(whole.into_bytes()).await;
        let what = format!("{} bytes to {path}", body.len());
        check_refusal(&answer.expect("an answer"), 413, &["PAYLOAD_TOO_LARGE"], &what);
        self.goes_on(&what).await;
    }

    /// A good request that adds `events` events.
    pub async fn accepts(&mut self, call: Call, events: u64) -> Answer {
        let what = shortened(&call);
        let answer = self.client.send(call).await;
        assert_eq!(answer.status, 201, "{what}: {}", answer.text());
        check_security_headers(&answer, &what);
        self.count += events;
        self.is_counted(&what).await;
        answer
    }

    /// BAD-2: a good event is accepted and is the only one that was added.
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

/// The request as a failure message can bear it.
fn shortened(call: &Call) -> String {
    format!("{call:?}").chars().take(400).collect()
}

/// BAD-1: status, code and the body that every error has.
pub fn check_refusal(answer: &Answer, status: u16, codes: &[&str], what: &str) {
    assert_eq!(answer.status, status, "BAD-1: {what}: {}", answer.text());
    assert_eq!(
        answer.header("content-type").split(';').next(),
        Some("application/json"),
        "BAD-1: {what}"
    );
    check_error_member(answer, codes, what);
    check_security_headers(answer, what);
}

/// The `error` member, in either format.
pub fn check_error_member(answer: &Answer, codes: &[&str], what: &str) {
    let json = answer.json();
    let error = &json["error"];
    let code = error["code"].as_str().unwrap_or_default();
    assert!(codes.contains(&code), "BAD-1: {what}: code {code:?} is none of {codes:?}: {json}");
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

/// What every response carries, good or bad.
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
