//! The shapes of the API that the command line reads and writes, as far as it needs them.
//!
//! Requests are complete; answers name only what is shown to people, and unknown members are ignored, so an older command
//! line works with a newer node. Times stay text: they are printed and sent back, never computed with. A payload stays raw
//! JSON, byte for byte.
//!
//! It is not the contract itself, which is the OpenAPI document of the node.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Body of `POST /v1/events`.
#[derive(Debug, Serialize)]
pub struct NewEvent<'a> {
    /// Dot-separated type.
    pub event_type: &'a str,
    /// A JSON object, passed on byte for byte.
    pub payload: &'a RawValue,
    /// The sender's time, RFC 3339; the time of acceptance if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<&'a str>,
}

/// An event as the node shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// UUIDv7, growing within a tenant in the order of acceptance.
    pub event_id: String,
    /// Dot-separated type.
    pub event_type: String,
    /// The sender's time.
    pub timestamp: String,
    /// The payload; absent in minimal answers.
    pub payload: Option<Box<RawValue>>,
    /// `received`, `queued`, `delivered` or `failed`.
    pub status: String,
    /// Time of acceptance.
    pub created_at: String,
    /// Delivery attempts so far.
    #[serde(default)]
    pub attempts: u64,
    /// Time of the last attempt.
    pub last_attempt_at: Option<String>,
    /// When the next attempt is due.
    pub next_retry_at: Option<String>,
    /// When it was delivered.
    pub delivered_at: Option<String>,
    /// When it was given up.
    pub failed_at: Option<String>,
    /// What the last attempt failed with.
    pub last_error: Option<Value>,
}

/// One page of `GET /v1/inbox`, its events undecoded.
#[derive(Debug, Deserialize)]
pub struct InboxPage {
    /// The events, oldest first, each exactly as sent.
    pub events: Vec<Box<RawValue>>,
    /// Where the next page begins.
    pub cursor: Option<String>,
    /// Whether there is a next page now.
    pub has_more: bool,
    /// Counts beside the page.
    pub pagination: Option<Pagination>,
}

/// The counts of a page.
#[derive(Debug, Deserialize)]
pub struct Pagination {
    /// How many events the tenant has in that status.
    pub total_count: Option<u64>,
}

/// Answer of `GET /v1/events/{id}/status`.
#[derive(Debug, Deserialize)]
pub struct EventStatus {
    /// The event.
    pub event_id: String,
    /// Its status.
    pub status: String,
    /// Attempts after the first.
    #[serde(default)]
    pub retry_count: u64,
    /// Every attempt, oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// When the next attempt is due.
    pub next_retry_at: Option<String>,
    /// When it was delivered.
    pub delivered_at: Option<String>,
    /// When it was given up.
    pub failed_at: Option<String>,
}

/// One delivery attempt.
#[derive(Debug, Deserialize)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u64,
    /// When it began.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// The endpoint's HTTP status.
    pub http_status: Option<u16>,
    /// What went wrong.
    pub error: Option<Value>,
}

/// Answer of `POST /v1/events/acknowledge/batch`.
#[derive(Debug, Deserialize)]
pub struct BatchOutcome {
    /// How many items succeeded.
    pub success_count: u64,
    /// How many did not.
    pub failure_count: u64,
    /// Item by item.
    #[serde(default)]
    pub results: Vec<BatchItem>,
}

/// One item of a batch answer.
#[derive(Debug, Deserialize)]
pub struct BatchItem {
    /// The event, where known.
    pub event_id: Option<String>,
    /// Its status, when the item succeeded.
    pub status: Option<String>,
    /// Why not, otherwise.
    pub error: Option<Value>,
}

/// Answer of `POST /v1/inbox/replay`.
#[derive(Debug, Deserialize)]
pub struct ReplayOutcome {
    /// Events that are to be delivered again.
    pub replayed: u64,
    /// Whether the same request, with the cursor, would replay more.
    pub has_more: bool,
    /// Where it goes on.
    pub cursor: Option<String>,
}

/// Body of `POST /v1/subscriptions`, as far as a receiver needs it that is there for a while.
#[derive(Debug, Serialize)]
pub struct NewSubscription<'a> {
    /// Where webhooks go.
    pub target_url: &'a str,
    /// Types and patterns; none of them selects everything.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub event_types: &'a [String],
    /// What it is for.
    pub description: &'a str,
}

/// A subscription as the node shows it when it was made.
#[derive(Debug, Deserialize)]
pub struct NewSubscriptionAnswer {
    /// The id.
    pub id: String,
    /// The key that a receiver checks signatures with, `whsec_…`, when it is symmetric.
    pub secret: Option<String>,
    /// The same, `whpk_…`, when it is not.
    pub public_key: Option<String>,
}

/// Answer of `POST /v1/subscriptions/{id}/test`.
#[derive(Debug, Deserialize)]
pub struct TestOutcome {
    /// Whether the endpoint took it.
    pub delivered: bool,
    /// The endpoint's HTTP status.
    pub http_status: Option<u16>,
    /// What went wrong.
    pub error: Option<String>,
    /// How long it took.
    #[serde(default)]
    pub duration_ms: u64,
}

/// One page of `GET /v1/subscriptions/{id}/attempts`.
#[derive(Debug, Deserialize)]
pub struct AttemptsPage {
    /// The attempts, as sent.
    pub attempts: Vec<Map<String, Value>>,
    /// Where the next page begins.
    pub cursor: Option<String>,
    /// Whether there is a next page now.
    #[serde(default)]
    pub has_more: bool,
}
