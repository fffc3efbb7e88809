//! An event as clients post it, as the API returns it and sends it to webhooks, and its delivery.
//!
//! - `EVENT-JSON-1`: the payload has the sender's bytes, unchanged.
//! - `EVENT-JSON-2`: every member is present, `null` if it has no value, except a payload that the
//!   client asked to leave out.
//! - `EVENT-JSON-3`: `created_at` is the time of acceptance, by the clock of the node.
//!
//! [`EventJson`] borrows from the stored event, so that nothing is copied before it is written.

use crate::{Event, EventId, EventStatus, EventType, Metadata, SubscriptionId, Timestamp};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// Approximate bytes of an event's JSON beside its payload.
const ENVELOPE_BYTES: usize = 640;

/// An event to accept.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "event_type": "order.created",
    "payload": {"order_id": 17, "total": "12.50"},
    "timestamp": "2026-01-01T00:00:00.000Z",
}))]
pub struct NewEvent<'a> {
    /// 1 to 128 characters, dot-separated segments.
    #[schema(
        value_type = String,
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$"
    )]
    pub event_type: EventType,
    /// A JSON object of at most 1 MiB, kept byte for byte. It must be I-JSON (RFC 7493).
    #[schema(value_type = Object)]
    pub payload: Cow<'a, RawValue>,
    /// The sender's time; the time of acceptance if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time", nullable = false)]
    pub timestamp: Option<Timestamp>,
}

/// A CloudEvent 1.0 in JSON.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "specversion": "1.0",
    "id": "17",
    "source": "/shop",
    "type": "order.created",
    "time": "2026-01-01T00:00:00Z",
    "datacontenttype": "application/json",
    "data": {"order_id": 17},
}))]
pub struct CloudEvent<'a> {
    /// The version, `1.0`.
    #[schema(value_type = String)]
    pub specversion: Cow<'a, str>,
    /// With `source`, the idempotency key if no other is sent.
    #[schema(value_type = String, min_length = 1, max_length = 1024)]
    pub id: Cow<'a, str>,
    /// The producer's context in which `id` is unique.
    #[schema(value_type = String, min_length = 1, max_length = 1024)]
    pub source: Cow<'a, str>,
    /// Becomes the event type.
    #[serde(rename = "type")]
    #[schema(value_type = String, min_length = 1, max_length = 128)]
    pub event_type: EventType,
    /// The sender's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time", nullable = false)]
    pub time: Option<Timestamp>,
    /// Type of the data; JSON if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub datacontenttype: Option<Cow<'a, str>>,
    /// Becomes the payload. Data that is not an object becomes the payload
    /// `{"data": …, "datacontenttype": …}`; without data the payload is `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Cow<'a, RawValue>>,
    /// Data in base64, instead of `data`. If it is neither JSON nor text, the payload has it as
    /// `data_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub data_base64: Option<Cow<'a, str>>,
}

/// An accepted event and its delivery status.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventJson<'a> {
    /// UUIDv7, increasing within a tenant in the order of acceptance.
    #[schema(
        value_type = String,
        format = "uuid",
        example = "019b76da-a800-7000-8000-000000000001"
    )]
    pub event_id: EventId,
    /// The type: segments with dots between them.
    #[schema(
        value_type = String,
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
        example = "order.created"
    )]
    pub event_type: Cow<'a, str>,
    /// The sender's time, or the time of acceptance if it sent none.
    #[schema(value_type = String, format = "date-time", example = "2026-01-01T00:00:00.000Z")]
    pub timestamp: Timestamp,
    /// The JSON object as it was sent, byte for byte; absent if `Prefer: return=minimal` asked for
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub payload: Option<Cow<'a, RawValue>>,
    /// The delivery status.
    pub status: EventStatus,
    /// The time of acceptance.
    #[schema(value_type = String, format = "date-time", example = "2026-01-01T00:00:00.000Z")]
    pub created_at: Timestamp,
    /// Number of delivery attempts that have begun.
    pub attempts: u32,
    /// Time at which the last attempt began.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub last_attempt_at: Option<Timestamp>,
    /// Time at which the next attempt is due.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub next_retry_at: Option<Timestamp>,
    /// Time at which it was delivered.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub delivered_at: Option<Timestamp>,
    /// Time at which it failed.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub failed_at: Option<Timestamp>,
    /// The last error.
    #[schema(value_type = Option<String>, required = true)]
    pub last_error: Option<Cow<'a, str>>,
    /// Metadata of the request that sent it.
    #[schema(value_type = EventMetadataJson<'static>)]
    pub metadata: EventMetadataJson<'a>,
}

/// Metadata of the request that sent an event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = EventMetadata)]
pub struct EventMetadataJson<'a> {
    /// The sender's address.
    #[schema(value_type = String, example = "203.0.113.7")]
    pub source_ip: Cow<'a, str>,
    /// The sender's `User-Agent`.
    #[schema(value_type = Option<String>, required = true)]
    pub user_agent: Option<Cow<'a, str>>,
    /// The version of the API of the request.
    #[schema(value_type = String, example = "v1")]
    pub api_version: Cow<'a, str>,
    /// The id of the request.
    #[schema(value_type = String)]
    pub correlation_id: Cow<'a, str>,
    /// The idempotency key of the request.
    #[schema(value_type = Option<String>, required = true)]
    pub idempotency_key: Option<Cow<'a, str>>,
}

impl<'a> EventJson<'a> {
    /// The event with its payload.
    ///
    /// # Errors
    /// If the stored payload is not JSON.
    pub fn complete(event: &'a Event) -> Result<Self, serde_json::Error> {
        let payload: &RawValue = serde_json::from_slice(&event.payload)?;
        Ok(Self { payload: Some(Cow::Borrowed(payload)), ..Self::minimal(event) })
    }

    /// The event without its payload.
    pub fn minimal(event: &'a Event) -> Self {
        let state = &event.state;
        Self {
            event_id: event.id,
            event_type: event.event_type.as_str().into(),
            timestamp: event.timestamp,
            payload: None,
            status: state.status,
            created_at: event.received_at,
            attempts: state.attempts,
            last_attempt_at: state.last_attempt_at,
            next_retry_at: state.next_retry_at,
            delivered_at: state.delivered_at,
            failed_at: state.failed_at,
            last_error: state.last_error.as_deref().map(Cow::Borrowed),
            metadata: EventMetadataJson::of(&event.metadata),
        }
    }

    /// Approximate bytes of the event's JSON.
    pub fn bytes_hint(&self) -> usize {
        ENVELOPE_BYTES + self.payload.as_ref().map_or(0, |payload| payload.get().len())
    }
}

impl<'a> EventMetadataJson<'a> {
    fn of(metadata: &'a Metadata) -> Self {
        Self {
            source_ip: Cow::Borrowed(&metadata.source_ip),
            user_agent: metadata.user_agent.as_deref().map(Cow::Borrowed),
            api_version: Cow::Borrowed("v1"),
            correlation_id: Cow::Borrowed(&metadata.correlation_id),
            idempotency_key: metadata.idempotency_key.as_deref().map(Cow::Borrowed),
        }
    }
}

/// An event with an `id`, which polling services require.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolledEvent<'a> {
    /// The same as `event_id`.
    #[schema(value_type = String, format = "uuid")]
    id: EventId,
    #[serde(flatten)]
    #[schema(value_type = EventJson<'static>)]
    event: EventJson<'a>,
}

impl<'a> From<EventJson<'a>> for PolledEvent<'a> {
    fn from(event: EventJson<'a>) -> Self {
        Self { id: event.event_id, event }
    }
}

/// The delivery of an event so far.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = EventStatus)]
pub struct DeliveryStatus {
    /// The event's id.
    #[schema(value_type = String, format = "uuid")]
    pub event_id: EventId,
    /// The delivery status.
    pub status: EventStatus,
    /// Number of attempts after the first.
    pub retry_count: u32,
    /// The stored attempts, oldest first: at least the last 50 of each subscription, and of the
    /// consumers that pull.
    pub attempts: Vec<AttemptJson>,
    /// The deliveries to subscriptions.
    #[serde(default)]
    #[schema(required = true)]
    pub webhooks: Vec<WebhookJson>,
    /// Time at which the last attempt after the first began.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub last_retry_at: Option<Timestamp>,
    /// Time at which the next attempt is due.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub next_retry_at: Option<Timestamp>,
    /// Time at which it was delivered.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub delivered_at: Option<Timestamp>,
    /// Time at which it failed.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub failed_at: Option<Timestamp>,
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptJson {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Time at which it began.
    #[schema(value_type = String, format = "date-time")]
    pub started_at: Timestamp,
    /// Time at which it ended.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The endpoint's HTTP status; null if no answer came, and for an attempt of a consumer that
    /// pulled the event.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// The error, if it failed.
    #[schema(required = true)]
    pub error: Option<String>,
    /// The subscription that it was made for; null for an attempt of a consumer that pulled the
    /// event.
    #[schema(value_type = Option<String>, format = "uuid", required = true)]
    pub subscription_id: Option<SubscriptionId>,
}

/// The delivery of an event to one subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookJson {
    /// The subscription's id.
    #[schema(value_type = String, format = "uuid")]
    pub subscription_id: SubscriptionId,
    /// How far it is.
    pub status: WebhookStatus,
    /// Time at which its next attempt is due, if it waits for one.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub next_attempt_at: Option<Timestamp>,
}

/// How far the delivery of an event to one subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WebhookStatus {
    /// It waits for its next attempt.
    Waiting,
    /// An attempt is on its way.
    InProgress,
    /// The endpoint has accepted the event.
    Delivered,
    /// The endpoint did not accept it, and no further attempt follows.
    Failed,
    /// When its next attempt was due, the subscription did not select events of this type any more.
    Skipped,
}

/// How an attempt ended, if it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// It has not ended.
    InProgress,
    /// A consumer acknowledged the event, or the endpoint answered with a 2xx status.
    Succeeded,
    /// The consumer gave the event back, the endpoint failed, or the time was over.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventState;

    fn event() -> Event {
        Event {
            id: EventId::parse("019b76da-a800-7000-8000-000000000001").unwrap(),
            received_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            event_type: EventType::parse("order.created").unwrap(),
            timestamp: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            payload: r#"{ "a" : 1.0 }"#.into(),
            metadata: std::sync::Arc::new(Metadata {
                source_ip: "::1".into(),
                user_agent: Some("tests/1".into()),
                correlation_id: "r".into(),
                idempotency_key: None,
                trace_parent: None,
            }),
            state: EventState::ACCEPTED,
        }
    }

    #[test]
    fn an_event_is_written_as_the_contract_says_and_read_back() {
        let event = event();
        let expected = concat!(
            r#"{"event_id":"019b76da-a800-7000-8000-000000000001","event_type":"order.created","#,
            r#""timestamp":"2026-01-01T00:00:00.000Z","payload":{ "a" : 1.0 },"#,
            r#""status":"received","#,
            r#""created_at":"2026-01-01T00:00:00.000Z","attempts":0,"last_attempt_at":null,"#,
            r#""next_retry_at":null,"delivered_at":null,"failed_at":null,"last_error":null,"#,
            r#""metadata":{"source_ip":"::1","user_agent":"tests/1","api_version":"v1","#,
            r#""correlation_id":"r","idempotency_key":null}}"#,
        );
        let complete = EventJson::complete(&event).unwrap();
        assert_eq!(serde_json::to_string(&complete).unwrap(), expected);
        assert!(complete.bytes_hint() >= expected.len());
        let minimal = expected.replace(r#""payload":{ "a" : 1.0 },"#, "");
        assert_eq!(serde_json::to_string(&EventJson::minimal(&event)).unwrap(), minimal);
        for text in [expected, &minimal] {
            let read: EventJson<'static> = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text, "EVENT-JSON-1");
        }
        let damaged = Event { payload: "{".into(), ..event };
        assert!(EventJson::complete(&damaged).is_err());
    }
}
