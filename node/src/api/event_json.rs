//! The JSON form of an event.
//!
//! Invariants: `EVENT-JSON-1` the payload is the sender's bytes, spliced in as they are; `EVENT-JSON-2` every member is
//! always there, `null` where there is nothing, except a payload that the client asked to leave out; `EVENT-JSON-3`
//! `created_at` is the time inside the id. It borrows from the event: nothing is copied before it is written.

use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use triggers_protocol::{Event, EventId, EventStatus, Metadata, Timestamp};
use triggers_store::tables::rows::AttemptOutcome;
use utoipa::ToSchema;

/// Bytes of an event's JSON beside its payload, about.
const ENVELOPE_BYTES: usize = 640;

/// An event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventJson<'a> {
    /// UUIDv7, increasing within a tenant in the order of acceptance.
    #[schema(value_type = String, format = "uuid", example = "019b76da-a800-7000-8000-000000000001")]
    event_id: EventId,
    /// Dot-separated segments.
    #[schema(
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$",
        example = "order.created"
    )]
    event_type: &'a str,
    /// The sender's time, or the time of acceptance if it sent none.
    #[schema(value_type = String, format = "date-time", example = "2026-01-01T00:00:00.000Z")]
    timestamp: Timestamp,
    /// The JSON object as it was sent, byte for byte; absent if `Prefer: return=minimal` asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    payload: Option<&'a RawValue>,
    /// Where it stands.
    #[schema(value_type = Status)]
    status: &'static str,
    /// The time of acceptance.
    #[schema(value_type = String, format = "date-time", example = "2026-01-01T00:00:00.000Z")]
    created_at: Timestamp,
    /// Delivery attempts begun so far.
    attempts: u32,
    /// When the last attempt began.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    last_attempt_at: Option<Timestamp>,
    /// When the next attempt is due.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    next_retry_at: Option<Timestamp>,
    /// When it was acknowledged.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    delivered_at: Option<Timestamp>,
    /// When it was given up.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    failed_at: Option<Timestamp>,
    /// What went wrong last.
    #[schema(required = true)]
    last_error: Option<&'a str>,
    /// How it came in.
    metadata: MetadataJson<'a>,
}

/// How an event came in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventMetadata)]
struct MetadataJson<'a> {
    /// The sender's address.
    #[schema(example = "203.0.113.7")]
    source_ip: &'a str,
    /// The sender's `User-Agent`.
    #[schema(required = true)]
    user_agent: Option<&'a str>,
    /// The version of the API that it came in by.
    #[schema(example = "v1")]
    api_version: &'static str,
    /// The id of the request that brought it.
    correlation_id: &'a str,
    /// The idempotency key that it was sent with.
    #[schema(required = true)]
    idempotency_key: Option<&'a str>,
}

/// `received` → `queued` (leased, being pushed, or waiting for its next attempt) → `delivered`, or → `failed`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "it describes the values that EventStatus::as_str gives")
)]
pub(crate) enum Status {
    /// Accepted, waiting to be pulled or pushed.
    Received,
    /// Leased, being pushed, or waiting for its next attempt.
    Queued,
    /// Acknowledged.
    Delivered,
    /// Given up after the last attempt.
    Failed,
}

/// How an attempt ended, if it has.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AttemptOutcome)]
#[cfg_attr(not(test), expect(dead_code, reason = "it describes the values of `outcome_name`"))]
pub(crate) enum AttemptOutcomeName {
    /// It has not ended.
    InProgress,
    /// Acknowledged, or taken by the endpoint.
    Succeeded,
    /// Given back, refused, or the time was over.
    Failed,
}

/// How an attempt ended, as it is written.
pub(crate) fn outcome_name(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::InProgress => "in_progress",
        AttemptOutcome::Succeeded => "succeeded",
        AttemptOutcome::Failed => "failed",
    }
}

impl<'a> EventJson<'a> {
    /// The event with its payload.
    ///
    /// # Errors
    /// 500 if the stored payload is not what was accepted.
    pub(crate) fn whole(event: &'a Event) -> Result<Self, ApiError> {
        let payload = serde_json::from_slice(&event.payload).map_err(|error| {
            ApiError::internal(format_args!("payload of event {}: {error}", event.id))
        })?;
        Ok(Self { payload: Some(payload), ..Self::minimal(event) })
    }

    /// The event without its payload.
    pub(crate) fn minimal(event: &'a Event) -> Self {
        let state = &event.state;
        Self {
            event_id: event.id,
            event_type: event.event_type.as_str(),
            timestamp: event.timestamp,
            payload: None,
            status: state.status.as_str(),
            created_at: event.id.created_at(),
            attempts: state.attempts,
            last_attempt_at: state.last_attempt_at,
            next_retry_at: state.next_retry_at,
            delivered_at: state.delivered_at,
            failed_at: state.failed_at,
            last_error: state.last_error.as_deref(),
            metadata: MetadataJson::of(&event.metadata),
        }
    }

    /// Bytes of the event's JSON, about.
    pub(crate) fn bytes_hint(&self) -> usize {
        ENVELOPE_BYTES + self.payload.map_or(0, |payload| payload.get().len())
    }
}

impl<'a> MetadataJson<'a> {
    fn of(metadata: &'a Metadata) -> Self {
        Self {
            source_ip: &metadata.source_ip,
            user_agent: metadata.user_agent.as_deref(),
            api_version: "v1",
            correlation_id: &metadata.correlation_id,
            idempotency_key: metadata.idempotency_key.as_deref(),
        }
    }
}

/// A response with an event.
///
/// # Errors
/// 500 if the stored payload is not what was accepted.
pub(crate) fn respond_event(status: StatusCode, event: &Event) -> Result<Response, ApiError> {
    let json = EventJson::whole(event)?;
    respond(status, &json, json.bytes_hint())
}

/// The names of the statuses, for messages.
pub(crate) fn status_names() -> String {
    EventStatus::ALL.map(EventStatus::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::EventType;
    use triggers_protocol::event::EventState;

    #[test]
    fn an_event_is_written_as_the_contract_says() {
        let event = Event {
            id: EventId::parse("019b76da-a800-7000-8000-000000000001").unwrap(),
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
        };
        let expected = concat!(
            r#"{"event_id":"019b76da-a800-7000-8000-000000000001","event_type":"order.created","#,
            r#""timestamp":"2026-01-01T00:00:00.000Z","payload":{ "a" : 1.0 },"status":"received","#,
            r#""created_at":"2026-01-01T00:00:00.000Z","attempts":0,"last_attempt_at":null,"next_retry_at":null,"#,
            r#""delivered_at":null,"failed_at":null,"last_error":null,"metadata":{"source_ip":"::1","#,
            r#""user_agent":"tests/1","api_version":"v1","correlation_id":"r","idempotency_key":null}}"#,
        );
        let whole = EventJson::whole(&event).unwrap();
        assert_eq!(serde_json::to_string(&whole).unwrap(), expected);
        assert!(whole.bytes_hint() >= expected.len());
        let minimal = expected.replace(r#""payload":{ "a" : 1.0 },"#, "");
        assert_eq!(serde_json::to_string(&EventJson::minimal(&event)).unwrap(), minimal);
        let damaged = Event { payload: "{".into(), ..event };
        assert!(EventJson::whole(&damaged).is_err());
    }

    #[test]
    fn the_described_statuses_are_those_of_the_protocol() {
        let described = [Status::Received, Status::Queued, Status::Delivered, Status::Failed];
        let described = described.map(|status| serde_json::to_value(status).unwrap());
        assert_eq!(
            described.map(|value| value.as_str().unwrap().to_owned()),
            EventStatus::ALL.map(|s| s.as_str().to_owned())
        );
    }

    #[test]
    fn the_described_outcomes_are_those_that_are_written() {
        let written =
            [AttemptOutcome::InProgress, AttemptOutcome::Succeeded, AttemptOutcome::Failed]
                .map(outcome_name);
        let described = [
            AttemptOutcomeName::InProgress,
            AttemptOutcomeName::Succeeded,
            AttemptOutcomeName::Failed,
        ];
        assert_eq!(
            described.map(|name| serde_json::to_value(name).unwrap()),
            written.map(serde_json::Value::from)
        );
    }
}
