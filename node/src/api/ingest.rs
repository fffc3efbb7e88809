//! Ingest: everything a sender can post becomes drafts, drafts become new events, and the tenant's inbox takes them.
//!
//! ```text
//! JSON · CloudEvents (structured, binary, batch) · NDJSON  →  Draft  →  NewEvent  →  Router::append  →  201
//! ```
//! Invariants: `INGEST-1` a 201 is sent only for what the router said is durable; `INGEST-2` a payload is checked once and
//! kept as sent; `INGEST-3` a fault of one item of a batch leaves the others alone. Authentication, scope and the rate of
//! requests were checked before a byte of the body is read; the rate of events is charged before anything is stored.

pub(crate) mod batch;
pub(crate) mod batch_answer;
mod cloud_events;
mod envelope;
mod idempotency;
mod ndjson;
pub(crate) mod single;

use self::idempotency::{CloudEventIdentity, Key};
use crate::http::authenticate::Caller;
use crate::http::body;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::request_context::TraceParent;
use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use bytes::Bytes;
use std::sync::Arc;
use triggers_protocol::api::NewEvent;
use triggers_protocol::{ErrorCode, Metadata};
use triggers_store::tables::operations::{self, Accepted, Append, Rejection};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of a single event's body beside its payload.
const ENVELOPE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of `User-Agent` that are kept.
const USER_AGENT_BYTES_MAX: usize = 256;
/// Bytes of a `traceparent` that is kept; only versions to come could have more.
const TRACE_PARENT_BYTES_MAX: usize = 256;
/// Payloads up to this size are copied out of their body.
const COPIED_BYTES_MAX: usize = 8 * 1024;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new().routes(routes!(single::create_event)).routes(routes!(batch::create_events))
}

/// What the headers say the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The API's own JSON.
    Json,
    /// One event a line.
    Lines,
    /// A CloudEvent in JSON.
    CloudEvent,
    /// A CloudEvent whose attributes are headers and whose data is the body.
    BinaryCloudEvent,
    /// An array of CloudEvents.
    CloudEvents,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let media_type = body::media_type(headers)?;
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/json") {
            let binary = headers.contains_key(cloud_events::SPECVERSION_HEADER);
            return Ok(if binary { Self::BinaryCloudEvent } else { Self::Json });
        }
        match () {
            () if is("application/cloudevents+json") => Ok(Self::CloudEvent),
            () if is("application/cloudevents-batch+json") => Ok(Self::CloudEvents),
            () if is("application/x-ndjson") => Ok(Self::Lines),
            () if body::is_json(media_type)
                && headers.contains_key(cloud_events::SPECVERSION_HEADER) =>
            {
                Ok(Self::BinaryCloudEvent)
            }
            () => Err(body::unsupported(
                "Content-Type must be application/json, application/cloudevents+json, \
                 application/cloudevents-batch+json or, for a batch, application/x-ndjson",
            )),
        }
    }
}

/// A checked event that borrows from the body, in whatever form it was sent.
#[derive(Debug)]
struct Draft<'a> {
    event: NewEvent<'a>,
    /// The identity of a CloudEvent.
    identity: Option<CloudEventIdentity>,
}

impl<'a> From<NewEvent<'a>> for Draft<'a> {
    fn from(event: NewEvent<'a>) -> Self {
        Self { event, identity: None }
    }
}

/// Who sent it: the metadata of an event without an idempotency key.
struct Sender(Arc<Metadata>);

impl Sender {
    fn of(caller: &Caller, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let trace_parent = caller.context.trace_parent.as_ref().map(TraceParent::as_str);
        Self(Arc::new(Metadata {
            source_ip: caller.context.address.to_string(),
            // Text of a header is ASCII, so that every byte is a character.
            user_agent: user_agent
                .map(|text| text[..text.len().min(USER_AGENT_BYTES_MAX)].to_owned()),
            correlation_id: caller.context.request_id.as_str().to_owned(),
            idempotency_key: None,
            trace_parent: trace_parent
                .filter(|text| text.len() <= TRACE_PARENT_BYTES_MAX)
                .map(str::to_owned),
        }))
    }

    fn metadata(&self, idempotency_key: Option<String>) -> Arc<Metadata> {
        match idempotency_key {
            None => self.0.clone(),
            some => Arc::new(Metadata { idempotency_key: some, ..Metadata::clone(&self.0) }),
        }
    }
}

impl Draft<'_> {
    fn into_new_event(
        self,
        body: &Bytes,
        key: Option<Key>,
        sender: &Sender,
    ) -> operations::NewEvent {
        let idempotency = key.as_ref().map(|key| idempotency::request(key, &self));
        operations::NewEvent {
            payload: kept(body, self.event.payload.get()),
            event_type: self.event.event_type,
            timestamp: self.event.timestamp,
            metadata: sender.metadata(key.map(|key| key.text())),
            idempotency,
        }
    }
}

/// The payload as a part of the body, or copied if it would keep a much larger body in memory until it is committed, or if that
/// is cheaper than the new memory which the connection would otherwise need for the next request.
fn kept(body: &Bytes, payload: &str) -> Bytes {
    let bytes = payload.as_bytes();
    let is_shared = bytes.len() > COPIED_BYTES_MAX && bytes.len() >= body.len() / 2;
    if is_shared { body.slice_ref(bytes) } else { Bytes::copy_from_slice(bytes) }
}

/// Asks the tenant's inbox; one outcome for each event, in order.
async fn append(
    edge: &EdgeState,
    caller: &Caller,
    events: Vec<operations::NewEvent>,
) -> Result<Vec<Result<Accepted, ApiError>>, ApiError> {
    let append = Append { events, waiting_events_max: caller.key.tenant.max_inbox_events };
    let results = edge.router.append(&caller.tenant, append, edge.deadline()).await?;
    Ok(results.into_iter().map(|result| result.map_err(rejected)).collect())
}

/// Why the inbox did not take an event, as the client reads it.
fn rejected(rejection: Rejection) -> ApiError {
    let (code, message, retry_after_s) = match rejection {
        Rejection::KeyReused => (
            ErrorCode::IdempotencyKeyReused,
            "the idempotency key was used before, with another event",
            None,
        ),
        Rejection::KeyInFlight => (
            ErrorCode::Conflict,
            "an event with this idempotency key is being accepted right now",
            Some(1),
        ),
        Rejection::QuotaExceeded => (
            ErrorCode::TenantQuotaExceeded,
            "as many events are waiting as max_inbox_events allows",
            Some(5),
        ),
        Rejection::Unavailable => {
            (ErrorCode::Unavailable, "the event could not be stored; send it again", Some(1))
        }
        Rejection::Unknown => (
            ErrorCode::Unavailable,
            "the event may have been stored; send it again only with an idempotency key",
            Some(1),
        ),
    };
    ApiError { retry_after_s, ..ApiError::new(code, message) }
}

/// Panics unless the parsers accept these bodies.
#[cfg(test)]
pub(crate) fn accepts_examples(event: &str, batch: &str, cloud_event: &str) {
    envelope::parse(event, 1_000).unwrap();
    cloud_events::structured(cloud_event, 1_000).unwrap();
    batch::accepts(batch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_TYPE;

    #[test]
    fn headers_tell_the_form() {
        let form = |media_type: &'static str, binary: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            if binary {
                headers.insert(cloud_events::SPECVERSION_HEADER, HeaderValue::from_static("1.0"));
            }
            Form::of(&headers).map_err(|error| error.code)
        };
        assert_eq!(form("application/json; charset=utf-8", false), Ok(Form::Json));
        assert_eq!(form("application/json", true), Ok(Form::BinaryCloudEvent));
        assert_eq!(form("application/vnd.shop+json", true), Ok(Form::BinaryCloudEvent));
        assert_eq!(form("application/vnd.shop+json", false), Err(ErrorCode::UnsupportedMediaType));
        assert_eq!(form("application/CloudEvents+json", true), Ok(Form::CloudEvent));
        assert_eq!(form("application/cloudevents-batch+json", false), Ok(Form::CloudEvents));
        assert_eq!(form("application/x-ndjson", false), Ok(Form::Lines));
        assert_eq!(form("text/plain", true), Err(ErrorCode::UnsupportedMediaType));
    }

    #[test]
    fn only_large_payloads_keep_their_bodies() {
        let is_shared = |payload_bytes: usize, body_bytes: usize| {
            let body = Bytes::from("x".repeat(body_bytes));
            let text = std::str::from_utf8(&body[..payload_bytes]).unwrap();
            kept(&body, text).as_ptr() == body.as_ptr()
        };
        assert!(!is_shared(1_000, 1_100), "it is small");
        assert!(!is_shared(20_000, 41_000), "it would keep a much larger body");
        assert!(is_shared(20_000, 20_100));
    }
}
