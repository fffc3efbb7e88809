//! Turns drafts into new events and appends them to the tenant's inbox.

use super::envelope::Draft;
use super::idempotency::{self, Key};
use crate::api::prelude::*;
use crate::http::request_context::TraceParent;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use triggers_actors::model::operations::{self, Accepted, Append, Rejection};
use triggers_protocol::{ErrorCode, Metadata};

/// Marks the response to a request whose idempotency key was used before.
pub(super) const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Maximum bytes of `User-Agent` that are stored.
const USER_AGENT_BYTES_MAX: usize = 256;
/// Maximum bytes of a `traceparent` that is stored; only future versions could have more.
const TRACE_PARENT_BYTES_MAX: usize = 256;
/// Maximum bytes of a payload that is always copied out of its body.
const COPIED_BYTES_MAX: usize = 8 * 1024;

/// The sender of a request, as the metadata of its events without an idempotency key.
pub(super) struct Sender(Arc<Metadata>);

impl Sender {
    pub(super) fn of(caller: &Caller, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let trace_parent = caller.context.trace_parent.as_ref().map(TraceParent::as_str);
        Self(Arc::new(Metadata {
            source_ip: caller.context.address.to_string(),
            // `to_str` accepts only ASCII, so every byte is a character.
            user_agent: user_agent
                .map(|text| text[..text.len().min(USER_AGENT_BYTES_MAX)].to_owned()),
            correlation_id: caller.context.request_id.as_str().to_owned(),
            idempotency_key: None,
            trace_parent: trace_parent
                .filter(|text| text.len() <= TRACE_PARENT_BYTES_MAX)
                .map(str::to_owned),
        }))
    }

    pub(super) fn metadata(&self, idempotency_key: Option<String>) -> Arc<Metadata> {
        match idempotency_key {
            None => self.0.clone(),
            some => Arc::new(Metadata { idempotency_key: some, ..Metadata::clone(&self.0) }),
        }
    }
}

/// The payload as a part of the body, or a copy. A large body must not stay in memory for a small
/// payload until the commit. Copying a small payload lets the connection reuse the body's memory.
pub(super) fn kept(body: &Bytes, payload: &str) -> Bytes {
    let bytes = payload.as_bytes();
    let is_shared = bytes.len() > COPIED_BYTES_MAX && bytes.len() >= body.len() / 2;
    if is_shared { body.slice_ref(bytes) } else { Bytes::copy_from_slice(bytes) }
}

/// Appends events to the tenant's inbox; returns one outcome for each, in order.
pub(super) async fn append(
    edge: &EdgeState,
    caller: &Caller,
    events: Vec<operations::NewEvent>,
) -> Result<Vec<Result<Accepted, ApiError>>, ApiError> {
    let append = Append { events, waiting_events_max: caller.key.tenant.max_inbox_events };
    let results = edge.router.append(&caller.tenant, append, edge.deadline()).await?;
    Ok(results.into_iter().map(|result| result.map_err(rejected)).collect())
}

/// The error for a client whose event the inbox rejected.
pub(super) fn rejected(rejection: Rejection) -> ApiError {
    let error = ApiError::new;
    match rejection {
        Rejection::KeyReused => error(
            ErrorCode::IdempotencyKeyReused,
            "the idempotency key was used before, with another event",
        ),
        Rejection::KeyInFlight => error(
            ErrorCode::Conflict,
            "an event with this idempotency key is being accepted right now",
        )
        .with_retry_after_seconds(1),
        Rejection::QuotaExceeded => error(
            ErrorCode::TenantQuotaExceeded,
            "as many events are waiting as max_inbox_events allows",
        )
        .with_retry_after_seconds(5),
        Rejection::Unavailable => {
            error(ErrorCode::Unavailable, "the event could not be stored; send it again")
        }
        Rejection::Unknown => error(
            ErrorCode::Unavailable,
            "the event may have been stored; send it again only with an idempotency key",
        ),
    }
}

impl Draft<'_> {
    pub(super) fn into_new_event(
        self,
        body: &Bytes,
        key: Option<Key>,
        sender: &Sender,
    ) -> operations::NewEvent {
        let idempotency = key.as_ref().map(|key| idempotency::request(key, &self));
        operations::NewEvent {
            payload: match self.event.payload {
                Cow::Borrowed(payload) => kept(body, payload.get()),
                Cow::Owned(payload) => Box::<str>::from(payload).into_string().into(),
            },
            event_type: self.event.event_type,
            timestamp: self.event.timestamp,
            metadata: sender.metadata(key.map(|key| key.text())),
            idempotency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
