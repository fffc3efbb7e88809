//! Requests of consumers: to lease, acknowledge and nack events, and to extend leases.

use super::event::EventJson;
use crate::{EventTypePattern, Timestamp};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Events to lease.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({
    "limit": 10,
    "event_types": ["order.*"],
    "visibility_timeout_seconds": 60,
    "wait_seconds": 10,
}))]
pub struct LeaseRequest {
    /// Maximum number of events; 50 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Event types, or prefixes such as `order.*`; every type if absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    pub event_types: Option<Vec<EventTypePattern>>,
    /// How long the events are held, in seconds; 30 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 43_200)]
    pub visibility_timeout_seconds: Option<u32>,
    /// How long to wait for a first event, in seconds; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 20)]
    pub wait_seconds: Option<u32>,
}

/// The events that were leased.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LeaseAnswer<'a> {
    /// The lease, by which all of its events can be acknowledged, nacked or held longer at once;
    /// null if there is no event.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "0123456789abcdef0123456789abcdef")]
    pub lease_id: Option<String>,
    /// End of the lease; null if there is no event.
    #[schema(value_type = Option<String>, format = "date-time")]
    pub leased_until: Option<Timestamp>,
    /// Due retries first, then the oldest events; empty if no event is available.
    #[schema(value_type = Vec<LeasedEvent<'static>>)]
    pub events: Vec<LeasedEvent<'a>>,
}

/// An event and the token of its lease.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LeasedEvent<'a> {
    // The members of the event are in the same object as `lease_token`.
    #[serde(flatten)]
    #[schema(value_type = EventJson<'static>)]
    event: EventJson<'a>,
    /// The token with which the event is acknowledged or nacked, or its lease is extended.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "0123456789abcdef0123456789abcdef")]
    pub lease_token: String,
}

impl<'a> LeasedEvent<'a> {
    /// An event with the text of its lease token.
    pub fn new(event: EventJson<'a>, lease_token: String) -> Self {
        Self { event, lease_token }
    }

    /// The event without its token.
    pub fn event(&self) -> &EventJson<'a> {
        &self.event
    }

    /// Approximate bytes of its JSON.
    pub fn bytes_hint(&self) -> usize {
        self.event.bytes_hint() + 64
    }
}

/// Written by hand because `flatten` cannot read a payload as raw JSON.
impl<'de> Deserialize<'de> for LeasedEvent<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct TokenOnly {
            lease_token: String,
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let event = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let token: TokenOnly = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self { event, lease_token: token.lease_token })
    }
}

/// An acknowledgement of an event.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({}))]
pub struct Acknowledgement {
    /// The token of the lease under which the event was pulled, if it was leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<String>,
}

/// A nack of an event.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({"reason": "the warehouse does not answer", "retry_after_seconds": 30}))]
pub struct Nack {
    /// The error, stored as `last_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub reason: Option<String>,
    /// Delay of the next attempt, in seconds; the retry policy decides if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 86_400)]
    pub retry_after_seconds: Option<u32>,
    /// The token of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<String>,
}

/// An extension of a lease.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "lease_token": "0123456789abcdef0123456789abcdef",
    "visibility_timeout_seconds": 60,
}))]
pub struct LeaseExtension {
    /// The token of the lease.
    pub lease_token: String,
    /// How long the event is held from now on, in seconds.
    #[schema(minimum = 1, maximum = 43_200)]
    pub visibility_timeout_seconds: u32,
}

/// An acknowledgement of a lease.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({}))]
pub struct LeaseAcknowledgement {
    /// Events to acknowledge; all that the lease holds if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 200)]
    pub event_ids: Option<Vec<String>>,
}

/// A nack of a lease.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({"reason": "the warehouse does not answer", "retry_after_seconds": 30}))]
pub struct LeaseNack {
    /// Events to nack; all that the lease holds if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 200)]
    pub event_ids: Option<Vec<String>>,
    /// The error, stored as `last_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1024)]
    pub reason: Option<String>,
    /// Delay of the next attempts, in seconds; the retry policy decides if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 86_400)]
    pub retry_after_seconds: Option<u32>,
}

/// An extension of a lease.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({"visibility_timeout_seconds": 60}))]
pub struct LeaseRenewal {
    /// Events to hold longer; all that the lease holds if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 200)]
    pub event_ids: Option<Vec<String>>,
    /// How long the events are held from now on, in seconds.
    #[schema(minimum = 1, maximum = 43_200)]
    pub visibility_timeout_seconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leased_event_is_read_with_its_payload_as_sent() {
        let text = concat!(
            r#"{"lease_id":"l","leased_until":"2026-01-01T00:00:30.000Z","#,
            r#""events":[{"event_id":"019b76da-a800-7000-8000-000000000001","event_type":"a","#,
            r#""timestamp":"2026-01-01T00:00:00.000Z","payload":{ "a" : 1.0 },"status":"queued","#,
            r#""created_at":"2026-01-01T00:00:00.000Z","attempts":1,"last_attempt_at":null,"#,
            r#""next_retry_at":null,"delivered_at":null,"failed_at":null,"last_error":null,"#,
            r#""metadata":{"source_ip":"::1","user_agent":null,"api_version":"v1","#,
            r#""correlation_id":"r","idempotency_key":null},"lease_token":"t"}]}"#,
        );
        let answer: LeaseAnswer<'static> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    }
}
