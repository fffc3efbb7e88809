//! Writes the HTTP request of a webhook: the event as JSON with the headers of Standard Webhooks.
//!
//! - `WEBHOOK-REQUEST-1`: the signed bytes are the sent bytes. `webhook-id` is the event's id in
//!   every attempt, so that a receiver can recognise a repetition.
//! - `WEBHOOK-REQUEST-2`: of the headers of the original request only `traceparent` is passed on.

use super::fault::SendFault;
use bytes::{Buf, Bytes};
use hyper::Uri;
use triggers_actors::{NodeFault, SendFailure, Webhook};
use triggers_protocol::api::EventJson;
use triggers_protocol::webhook::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signatures};

/// A request as it is sent.
pub(super) struct WebhookRequest {
    head: Bytes,
    body: Bytes,
}

impl WebhookRequest {
    /// The bytes to send, the same each time.
    pub(super) fn bytes(&self) -> impl Buf + Send + use<> {
        self.head.clone().chain(self.body.clone())
    }
}

/// Writes the request for a webhook.
///
/// # Errors
/// If the stored event cannot be written as JSON.
pub(super) fn write(webhook: &Webhook, target: &Uri) -> Result<WebhookRequest, SendFault> {
    let body = body(webhook).map_err(|error| {
        tracing::error!(event_id = %webhook.event.id, %error, "event cannot be written as JSON");
        SendFault::new(SendFailure::Node(NodeFault::Request), "the event cannot be written as JSON")
    })?;
    let id = webhook.event.id.to_string();
    let signatures = signatures(&webhook.keys, &id, webhook.at, &body);
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let host = target.authority().map_or("", |authority| authority.as_str());
    // A trace parent has neither spaces nor line breaks, which would make other fields of it.
    let parent = webhook.event.metadata.trace_parent.as_deref();
    let parent = parent.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let parent = parent.map(|text| format!("traceparent: {text}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\naccept: */*\r\nuser-agent: Triggers/{version}\r\n\
         {ID_HEADER}: {id}\r\n{TIMESTAMP_HEADER}: {at}\r\n\
         {SIGNATURE_HEADER}: {signatures}\r\n{parent}\r\n",
        length = body.len(),
        version = env!("CARGO_PKG_VERSION"),
        at = webhook.at.as_seconds(),
    );
    Ok(WebhookRequest { head: head.into(), body })
}

fn body(webhook: &Webhook) -> Result<Bytes, serde_json::Error> {
    let json = EventJson::complete(&webhook.event)?;
    let mut body = Vec::with_capacity(json.bytes_hint());
    serde_json::to_writer(&mut body, &json)?;
    Ok(body.into())
}
