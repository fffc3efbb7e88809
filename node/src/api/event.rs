//! Finds the event that a path names, and makes responses with its JSON form, which is defined in
//! `triggers_protocol::api`.

use crate::api::prelude::*;
use triggers_actors::model::inbox::Missing;
use triggers_protocol::api::EventJson;
use triggers_protocol::{ErrorCode, Event, EventId};

/// Reads the event's id of a path. A text that is no UUID names no event.
///
/// # Errors
/// 404.
pub(super) fn event_id(PathId(text): &PathId) -> Result<EventId, ApiError> {
    EventId::parse(text).map_err(|_| missing(Missing::NotFound))
}

/// The error that says why an event is not there: 410 if it was deleted, else 404.
pub(super) fn missing(missing: Missing) -> ApiError {
    match missing {
        Missing::Gone => ApiError::new(ErrorCode::Gone, "the event was deleted"),
        Missing::NotFound => ApiError::not_found("event"),
    }
}

/// The JSON form of an event with its payload.
///
/// # Errors
/// 500 if the stored payload is not JSON.
pub(super) fn json(event: &Event) -> Result<EventJson<'_>, ApiError> {
    EventJson::complete(event)
        .map_err(|error| ApiError::internal(format_args!("payload of event {}: {error}", event.id)))
}

/// A response with an event.
///
/// # Errors
/// 500 if the stored payload is not JSON.
pub(super) fn respond_event(status: StatusCode, event: &Event) -> Result<Response, ApiError> {
    let json = json(event)?;
    respond(status, &json, json.bytes_hint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_event_says_why() {
        assert_eq!(missing(Missing::Gone).code, ErrorCode::Gone);
        assert_eq!(missing(Missing::NotFound).code, ErrorCode::NotFound);
        let error = event_id(&PathId("nonsense".into())).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
    }
}
