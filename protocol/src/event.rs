//! The event: what a partner sent, and what has become of it since.
//!
//! Invariants: `EVENT-1` id, type, timestamp, payload and metadata never change once accepted; `EVENT-2` the payload's
//! bytes are the sender's; `EVENT-3` `created_at` is the time inside the id. It is not the stored row (that is
//! `triggers-store`) nor the JSON form (that is the node's edge).

use crate::{EventId, EventType, Timestamp};
use bincode::{Decode, Encode};
use bytes::Bytes;
use std::sync::Arc;

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum EventStatus {
    /// Accepted, waiting to be pulled or pushed.
    Received,
    /// Leased, being pushed, or waiting for its next attempt.
    Queued,
    /// Acknowledged.
    Delivered,
    /// Given up after the last attempt: the dead letter state.
    Failed,
}

impl EventStatus {
    /// Every status, in the order of the life cycle.
    pub const ALL: [EventStatus; 4] = [Self::Received, Self::Queued, Self::Delivered, Self::Failed];

    /// The status as it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Parses the form in JSON and in query parameters.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl std::fmt::Display for EventStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an event came in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Metadata {
    /// The sender's address.
    pub source_ip: String,
    /// The sender's `User-Agent`, if it sent one.
    pub user_agent: Option<String>,
    /// The request id of the request that brought it.
    pub correlation_id: String,
    /// The idempotency key that it was sent with.
    pub idempotency_key: Option<String>,
    /// The `traceparent` (W3C) of the request that brought it, for the webhooks that carry it on.
    pub trace_parent: Option<String>,
}

/// An event with its life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The id: order, age and address.
    pub id: EventId,
    /// The type.
    pub event_type: EventType,
    /// The sender's time, or the time of acceptance if it sent none.
    pub timestamp: Timestamp,
    /// The JSON object as it was sent, byte for byte.
    pub payload: Bytes,
    /// How it came in.
    pub metadata: Arc<Metadata>,
    /// Where it stands.
    pub state: EventState,
}

/// The part of an event that changes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventState {
    /// Where it stands.
    pub status: EventStatus,
    /// Attempts begun so far.
    pub attempts: u32,
    /// When the last attempt began.
    pub last_attempt_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_retry_at: Option<Timestamp>,
    /// When it was acknowledged.
    pub delivered_at: Option<Timestamp>,
    /// When it was given up.
    pub failed_at: Option<Timestamp>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

impl EventState {
    /// The state of an event that was just accepted.
    pub const ACCEPTED: EventState = EventState {
        status: EventStatus::Received,
        attempts: 0,
        last_attempt_at: None,
        next_retry_at: None,
        delivered_at: None,
        failed_at: None,
        last_error: None,
    };
}
