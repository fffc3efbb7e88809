//! Events and their delivery state.
//!
//! Invariants:
//! - `EVENT-1`: id, times, type, payload and metadata never change after acceptance.
//! - `EVENT-2`: the bytes of the payload are those that the producer sent.
//! - `EVENT-3`: `received_at` is the time of the clock. The time in the id is that of the last
//!   event if the clock was set back since.
//!
//! The stored row is defined in `triggers-store`, the JSON form in [`crate::api`].

use crate::{EventId, EventType, Timestamp};
use bincode::{Decode, Encode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// `received` → `queued` (leased, being pushed, or waiting for its next attempt) → `delivered`, or
/// → `failed`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = Status)]
pub enum EventStatus {
    /// Accepted, and not leased or pushed yet.
    Received,
    /// Leased, in delivery, or waiting for the next attempt.
    Queued,
    /// Acknowledged by a consumer or by every endpoint.
    Delivered,
    /// Failed in the last attempt; the event is a dead letter.
    Failed,
}

impl EventStatus {
    /// Every status, in the order of the life cycle.
    pub const ALL: [EventStatus; 4] = [Self::Received, Self::Queued, Self::Delivered, Self::Failed];

    /// The status as written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    /// Parses a status as written in JSON and in query parameters.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl std::fmt::Display for EventStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Data about the request that posted an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Metadata {
    /// Address of the producer.
    pub source_ip: String,
    /// The header `User-Agent` of the request.
    pub user_agent: Option<String>,
    /// Id of the request.
    pub correlation_id: String,
    /// Idempotency key of the request.
    pub idempotency_key: Option<String>,
    /// The header `traceparent` (W3C) of the request; webhooks propagate it.
    pub trace_parent: Option<String>,
}

/// An event with its delivery state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Id, from which the order follows.
    pub id: EventId,
    /// Time of acceptance.
    pub received_at: Timestamp,
    /// Type, such as `order.created`.
    pub event_type: EventType,
    /// Time that the producer sent, or else the time of acceptance.
    pub timestamp: Timestamp,
    /// JSON object, byte for byte as sent.
    pub payload: Bytes,
    /// Data about the request that posted the event.
    pub metadata: Arc<Metadata>,
    /// State of the delivery.
    pub state: EventState,
}

/// The mutable part of an event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventState {
    /// Status of the delivery.
    pub status: EventStatus,
    /// Number of attempts started so far.
    pub attempts: u32,
    /// Time at which the last attempt started.
    pub last_attempt_at: Option<Timestamp>,
    /// Time at which the next attempt is due.
    pub next_retry_at: Option<Timestamp>,
    /// Time at which the event was acknowledged.
    pub delivered_at: Option<Timestamp>,
    /// Time at which the last attempt failed.
    pub failed_at: Option<Timestamp>,
    /// Error of the last failed attempt.
    pub last_error: Option<String>,
}

impl EventState {
    /// The state of a newly accepted event.
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
