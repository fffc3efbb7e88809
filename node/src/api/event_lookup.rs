//! Finds the event that a path names, or the error that says why it is not there.

use crate::http::body::query::PathId;
use crate::http::error::ApiError;
use triggers_actors::model::inbox::{Found, Missing};
use triggers_protocol::{ErrorCode, Event, EventId};

/// Reads the event's id of a path. A text that is no UUID names no event.
///
/// # Errors
/// 404.
pub(super) fn event_id(PathId(text): &PathId) -> Result<EventId, ApiError> {
    EventId::parse(text).map_err(|_| not_found())
}

fn not_found() -> ApiError {
    ApiError::not_found("event")
}

/// The event, or the error that says why it is not there.
///
/// # Errors
/// 404 if it never was, 410 if it was deleted.
pub(super) fn present(found: Found) -> Result<Box<Event>, ApiError> {
    found.map_err(missing)
}

pub(super) fn missing(missing: Missing) -> ApiError {
    match missing {
        Missing::Gone => ApiError::new(ErrorCode::Gone, "the event was deleted"),
        Missing::NotFound => not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_event_says_why() {
        assert_eq!(present(Err(Missing::Gone)).unwrap_err().code, ErrorCode::Gone);
        assert_eq!(present(Err(Missing::NotFound)).unwrap_err().code, ErrorCode::NotFound);
        assert!(event_id(&PathId("nonsense".into())).is_err());
    }
}
