//! Builds the HTTP request of a webhook: the event as JSON with the headers of Standard Webhooks.
//!
//! - `WEBHOOK-REQUEST-1`: the signed bytes are the sent bytes. `webhook-id` is the event's id in
//!   every attempt, so that a receiver can recognise a repetition.
//! - `WEBHOOK-REQUEST-2`: of the headers of the original request only `traceparent` is passed on.
//!
//! The connection pool sets `Host` and the content length.

use super::fault::SendFault;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use triggers_actors::{NodeFault, SendFailure, Webhook};
use triggers_protocol::api::EventJson;
use triggers_protocol::webhook::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signatures};

/// `User-Agent` of webhooks.
const USER_AGENT_TEXT: &str = concat!("Triggers/", env!("CARGO_PKG_VERSION"));
/// W3C Trace Context header.
const TRACE_PARENT_HEADER: &str = "traceparent";

/// Builds the request for a webhook.
///
/// # Errors
/// If the stored event cannot be written as JSON.
pub(super) fn build(webhook: &Webhook, target: &Uri) -> Result<Request<Full<Bytes>>, SendFault> {
    let body = body(webhook).map_err(|error| {
        tracing::error!(event_id = %webhook.event.id, %error, "event cannot be written as JSON");
        SendFault::new(SendFailure::Node(NodeFault::Request), "the event cannot be written as JSON")
    })?;
    let id = webhook.event.id.to_string();
    let signatures = signatures(&webhook.keys, &id, webhook.at, &body);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.clone();
    let headers = request.headers_mut();
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
    Ok(request)
}

fn body(webhook: &Webhook) -> Result<Bytes, serde_json::Error> {
    let json = EventJson::complete(&webhook.event)?;
    let mut body = Vec::with_capacity(json.bytes_hint());
    serde_json::to_writer(&mut body, &json)?;
    Ok(body.into())
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text)
        .expect("a UUID, or base64 with commas and spaces, is printable ASCII")
}
