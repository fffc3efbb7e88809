//! Pages of the inbox, and the replay of many events, which continues from a cursor like pages.

use super::event::EventJson;
use crate::{EventTypePattern, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of events.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct InboxPage<'a> {
    /// The events, oldest first.
    #[schema(value_type = Vec<EventJson<'static>>)]
    pub events: Vec<EventJson<'a>>,
    /// Cursor of the next page; null if there is none now.
    #[schema(required = true)]
    pub cursor: Option<String>,
    /// Whether there may be a next page.
    pub has_more: bool,
    /// The page in numbers.
    pub pagination: Pagination,
}

/// A page in numbers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pagination {
    /// Maximum number of events of the page.
    #[schema(example = 50)]
    pub limit: usize,
    /// The same as `cursor` of the page.
    #[schema(required = true)]
    pub cursor: Option<String>,
    /// The same as `has_more` of the page.
    pub has_more: bool,
    /// Number of the tenant's events in that status; other filters do not count.
    #[schema(minimum = 0)]
    pub total_count: i64,
}

/// The events to deliver again.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "status": "failed",
    "event_type": "order.*",
    "from_timestamp": "2026-01-01T00:00:00Z",
}))]
pub struct InboxReplay {
    /// Status of the events.
    pub status: ReplayedStatus,
    /// An event type, or a prefix such as `order.*`; every type if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub event_type: Option<EventTypePattern>,
    /// Accepted at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub from_timestamp: Option<Timestamp>,
    /// Accepted at this time or earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub to_timestamp: Option<Timestamp>,
    /// Cursor from the previous answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The status of events that can be delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplayedStatus {
    /// Events that failed in their last attempt.
    Failed,
    /// Events that were acknowledged.
    Delivered,
}

/// The outcome of a replay.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReplayAnswer {
    /// Number of events that wait to be delivered again.
    pub replayed: u64,
    /// Whether there are more events: repeat the request with `cursor`.
    pub has_more: bool,
    /// Cursor for the next request; null if there are no more events.
    #[schema(required = true)]
    pub cursor: Option<String>,
}
