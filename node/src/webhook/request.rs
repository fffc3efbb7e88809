//! The request of a webhook: the event as JSON, with the headers of Standard Webhooks.
//!
//! Invariants: `WEBHOOK-REQUEST-1` what is signed is what is sent, byte for byte, and the id is the event's in every attempt, so
//! that a receiver can tell a repetition; `WEBHOOK-REQUEST-2` nothing of the sender's request goes along but its `traceparent`.
//! It has nothing to do with the connection: `Host` and the length are the pool's business.

use super::fault::SendFault;
use crate::api::event_json::EventJson;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use std::fmt::Display;
use triggers_actors::{SendFailure, Webhook};
use triggers_protocol::webhook::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signatures};

/// How this node names itself to endpoints.
const USER_AGENT_TEXT: &str = concat!("Triggers/", env!("CARGO_PKG_VERSION"));
/// The trace that the webhook belongs to (W3C Trace Context).
const TRACE_PARENT_HEADER: &str = "traceparent";

/// The request that takes a webhook to its target.
///
/// # Errors
/// If the stored event has no JSON form.
pub(super) fn of(webhook: &Webhook, target: &Uri) -> Result<Request<Full<Bytes>>, SendFault> {
    let body = body(webhook)?;
    let headers = headers(webhook, &body);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.clone();
    *request.headers_mut() = headers;
    Ok(request)
}

fn body(webhook: &Webhook) -> Result<Bytes, SendFault> {
    let json = EventJson::whole(&webhook.event).map_err(|error| unwritable(webhook, &error))?;
    let mut body = Vec::with_capacity(json.bytes_hint());
    serde_json::to_writer(&mut body, &json).map_err(|error| unwritable(webhook, &error))?;
    Ok(body.into())
}

fn unwritable(webhook: &Webhook, error: &dyn Display) -> SendFault {
    tracing::error!(event_id = %webhook.event.id, %error, "webhook cannot be written");
    SendFault::new(SendFailure::Protocol, "the event cannot be written as JSON")
}

fn headers(webhook: &Webhook, body: &[u8]) -> HeaderMap {
    let id = webhook.event.id.to_string();
    let signatures = signatures(&webhook.keys, &id, webhook.at, body);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT));
    headers.insert(ID_HEADER, ascii(id));
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(webhook.at.as_seconds()));
    headers.insert(SIGNATURE_HEADER, ascii(signatures));
    let parent = webhook.event.metadata.trace_parent.as_deref();
    if let Some(parent) = parent.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(TRACE_PARENT_HEADER, parent);
    }
    headers
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text)
        .expect("a UUID, or base64 with commas and spaces, is printable ASCII")
}
