//! One event by its id: read it, delete it; its attempts are in `status`, what consumers do with it in `delivery`.
//!
//! Invariants: `EVENTS-1` another tenant's event is as one that never was: 404; `EVENTS-2` a deleted one is 410 for as long
//! as the deletion is remembered; `EVENTS-3` acknowledging again changes nothing and answers the same.

pub(crate) mod delivery;
mod status;

use super::event_json::respond_event;
use crate::http::authenticate::{Authorized, InboxAck, InboxRead};
use crate::http::body::path_id::PathId;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use triggers_protocol::api::{ErrorBody, EventJson};
use triggers_protocol::{ErrorCode, Event, EventId};
use triggers_store::tables::inbox::{Found, Missing};
use triggers_store::tables::operations::DeleteEvent;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(get_event, delete_event))
        .routes(routes!(status::get_event_status))
        .routes(routes!(delivery::acknowledge_event))
        .routes(routes!(delivery::nack_event))
        .routes(routes!(delivery::extend_lease))
        .routes(routes!(delivery::replay_event))
}

/// The event's id of a path, which names nothing if it is no UUID.
///
/// # Errors
/// 404.
fn event_id(PathId(text): &PathId) -> Result<EventId, ApiError> {
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

/// Read an event
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    tag = "events",
    operation_id = "getEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 200, description = "The event", body = EventJson<'static>),
        (status = 410, description = "It was deleted", body = ErrorBody),
    ),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
async fn get_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    id: PathId,
) -> Result<Response, ApiError> {
    let found = edge.router.find(&caller.tenant, event_id(&id)?, edge.deadline()).await?;
    respond_event(StatusCode::OK, &*present(found)?)
}

/// Delete an event
#[utoipa::path(
    delete,
    path = "/v1/events/{id}",
    tag = "events",
    operation_id = "deleteEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 410, description = "It was deleted before", body = ErrorBody),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
async fn delete_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
) -> Result<StatusCode, ApiError> {
    let delete = DeleteEvent { id: event_id(&id)? };
    let deleted = edge.router.execute(&caller.tenant, delete, edge.deadline()).await?;
    deleted.map(|()| StatusCode::NO_CONTENT).map_err(missing)
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
