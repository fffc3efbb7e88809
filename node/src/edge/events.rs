//! One event by its id: read it, read its attempts, acknowledge it, delete it.
//!
//! Invariants: `EVENTS-1` another tenant's event is as one that never was: 404; `EVENTS-2` a deleted one is 410 for as long
//! as the deletion is remembered; `EVENTS-3` acknowledging again changes nothing and answers the same. No lease is handed
//! out yet, so that a lease token in a request is never the current one.

use super::EdgeState;
use super::authenticate::{Authorized, InboxAck, InboxRead};
use super::body;
use super::body::faults::Faults;
use super::body::members::members;
use super::body::path_id::PathId;
use super::error::{ApiError, ErrorBody};
use super::event_json::{EventJson, Status, respond, respond_event};
use super::openapi::schemas::Acknowledgement;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use triggers_actors::Deletion;
use triggers_protocol::{ErrorCode, Event, EventId, Timestamp};
use triggers_store::tables::inbox::Found;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Bytes of a status response without attempts, about.
const STATUS_BYTES: usize = 320;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(get_event, delete_event))
        .routes(routes!(get_event_status))
        .routes(routes!(acknowledge_event))
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
    match found {
        Found::Event(event) => Ok(event),
        Found::Gone => Err(gone()),
        Found::NotFound => Err(not_found()),
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Gone, "the event was deleted")
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

/// An event's delivery so far.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventStatus)]
struct StatusJson {
    /// The event.
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    /// Where it stands.
    #[schema(value_type = Status)]
    status: &'static str,
    /// Attempts begun after the first.
    retry_count: u32,
    /// Every attempt that is remembered, oldest first.
    attempts: Vec<AttemptJson>,
    /// When the last attempt after the first began.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    last_retry_at: Option<Timestamp>,
    /// When the next attempt is due.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    next_retry_at: Option<Timestamp>,
    /// When it was acknowledged.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    delivered_at: Option<Timestamp>,
    /// When it was given up.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    failed_at: Option<Timestamp>,
}

/// One attempt to deliver an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptJson {
    /// Counted from 1.
    number: u32,
    /// When it began.
    #[schema(value_type = String, format = "date-time")]
    started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    finished_at: Option<Timestamp>,
    /// How it ended.
    #[schema(required = true)]
    outcome: Option<String>,
    /// The endpoint's HTTP status.
    #[schema(required = true)]
    http_status: Option<u16>,
    /// What went wrong.
    #[schema(required = true)]
    error: Option<String>,
}

impl StatusJson {
    fn of(event: &Event) -> Self {
        let state = &event.state;
        Self {
            event_id: event.id,
            status: state.status.as_str(),
            retry_count: state.attempts.saturating_sub(1),
            attempts: Vec::new(),
            last_retry_at: state.last_attempt_at.filter(|_| state.attempts > 1),
            next_retry_at: state.next_retry_at,
            delivered_at: state.delivered_at,
            failed_at: state.failed_at,
        }
    }
}

/// Read an event's delivery status
#[utoipa::path(
    get,
    path = "/v1/events/{id}/status",
    tag = "events",
    operation_id = "getEventStatus",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 200, description = "The event's delivery so far", body = StatusJson),
        (status = 410, description = "It was deleted", body = ErrorBody),
    ),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
async fn get_event_status(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    id: PathId,
) -> Result<Response, ApiError> {
    let found = edge.router.find(&caller.tenant, event_id(&id)?, edge.deadline()).await?;
    respond(StatusCode::OK, &StatusJson::of(&*present(found)?), STATUS_BYTES)
}

/// Acknowledge an event
///
/// The event becomes `delivered`. Acknowledging it again answers the same.
#[utoipa::path(
    post,
    path = "/v1/events/{id}/ack",
    tag = "inbox",
    operation_id = "acknowledgeEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    request_body(content = Option<Acknowledgement>, content_type = "application/json"),
    responses(
        (status = 200, description = "The event, delivered", body = EventJson<'static>),
        (status = 409, description = "The lease token is not the current one", body = ErrorBody),
        (status = 410, description = "It was deleted", body = ErrorBody),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
async fn acknowledge_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = event_id(&id)?;
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    if has_lease_token(body.as_deref())? {
        present(edge.router.find(&caller.tenant, id, edge.deadline()).await?)?;
        return Err(ApiError::new(ErrorCode::Conflict, "lease_token is not that of a current lease of the event"));
    }
    let found = edge.router.acknowledge(&caller.tenant, vec![id], edge.deadline()).await?.pop();
    respond_event(StatusCode::OK, &*present(found.unwrap_or(Found::NotFound))?)
}

fn has_lease_token(body: Option<&[u8]>) -> Result<bool, ApiError> {
    let Some(body) = body else { return Ok(false) };
    let mut faults = Faults::default();
    let [lease_token] = members(body::text(body)?, ["lease_token"], &mut faults)?;
    let given = lease_token.text(&mut faults).is_some();
    faults.check().map(|()| given)
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
    match edge.router.delete(&caller.tenant, event_id(&id)?, edge.deadline()).await? {
        Deletion::Deleted => Ok(StatusCode::NO_CONTENT),
        Deletion::Gone => Err(gone()),
        Deletion::NotFound => Err(not_found()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_token_is_a_string_or_not_there() {
        assert!(!has_lease_token(None).unwrap());
        for none in [&b"{}"[..], br#"{"lease_token":null}"#, br#"{"other":1}"#] {
            assert!(!has_lease_token(Some(none)).unwrap());
        }
        assert!(has_lease_token(Some(br#"{"lease_token":"x"}"#)).unwrap());
        assert_eq!(has_lease_token(Some(br#"{"lease_token":1}"#)).unwrap_err().code, ErrorCode::ValidationError);
        assert_eq!(has_lease_token(Some(b"nonsense")).unwrap_err().code, ErrorCode::InvalidJson);
    }

    #[test]
    fn an_absent_event_says_why() {
        assert_eq!(present(Found::Gone).unwrap_err().code, ErrorCode::Gone);
        assert_eq!(present(Found::NotFound).unwrap_err().code, ErrorCode::NotFound);
        assert!(event_id(&PathId("nonsense".into())).is_err());
    }
}
