//! One event by its id: read it and delete it. The submodules have its attempts and what consumers
//! do with it.
//!
//! - `EVENTS-1`: another tenant's event is 404, like one that does not exist.
//! - `EVENTS-2`: a deleted event is 410 for as long as the deletion is remembered.
//! - `EVENTS-3`: acknowledging an event again changes nothing and has the same response.

pub(crate) mod delivery;
mod status;

use super::event_json::respond_event;
use super::event_lookup::{event_id, missing, present};
use crate::http::authenticate::{Authorized, InboxAck, InboxRead};
use crate::http::body::query::PathId;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use triggers_actors::model::operations::DeleteEvent;
use triggers_protocol::api::{ErrorBody, EventJson};
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
