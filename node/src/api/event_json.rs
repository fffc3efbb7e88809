//! Responses with the JSON form of an event, which is defined in `triggers_protocol::api`.

use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::http::StatusCode;
use axum::response::Response;
use triggers_protocol::api::EventJson;
use triggers_protocol::{Event, EventStatus};

/// The JSON form of an event with its payload.
///
/// # Errors
/// 500 if the stored payload is not JSON.
pub(crate) fn complete(event: &Event) -> Result<EventJson<'_>, ApiError> {
    EventJson::complete(event)
        .map_err(|error| ApiError::internal(format_args!("payload of event {}: {error}", event.id)))
}

/// A response with an event.
///
/// # Errors
/// 500 if the stored payload is not JSON.
pub(crate) fn respond_event(status: StatusCode, event: &Event) -> Result<Response, ApiError> {
    let json = complete(event)?;
    respond(status, &json, json.bytes_hint())
}

/// The names of the statuses, for messages.
pub(crate) fn status_names() -> String {
    EventStatus::ALL.map(EventStatus::as_str).join(", ")
}
