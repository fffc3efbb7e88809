//! `GET /v1/events/{id}/status`: the delivery of an event, with its attempts.
//!
//! - `STATUS-1`: attempts are numbered without gaps, oldest first. The oldest of very many are not
//!   kept; `retry_count` counts them all.
//! - `STATUS-2`: the response is one snapshot.

use crate::api::event_lookup::{event_id, present};
use crate::http::authenticate::{Authorized, InboxRead};
use crate::http::body::query::PathId;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use triggers_actors::model::rows::Attempt;
use triggers_protocol::Event;
use triggers_protocol::api::{AttemptJson, DeliveryStatus, ErrorBody};

/// Approximate bytes of a response without attempts.
const STATUS_BYTES: usize = 320;
const ATTEMPT_BYTES: usize = 256;

fn attempt_json(attempt: Attempt) -> AttemptJson {
    AttemptJson {
        number: attempt.number,
        started_at: attempt.started_at,
        finished_at: attempt.finished_at,
        outcome: attempt.outcome,
        http_status: attempt.http_status,
        error: attempt.error,
        subscription_id: attempt.subscription,
    }
}

fn delivery_status(event: &Event, attempts: Vec<Attempt>) -> DeliveryStatus {
    let state = &event.state;
    DeliveryStatus {
        event_id: event.id,
        status: state.status,
        retry_count: state.attempts.saturating_sub(1),
        attempts: attempts.into_iter().map(attempt_json).collect(),
        last_retry_at: state.last_attempt_at.filter(|_| state.attempts > 1),
        next_retry_at: state.next_retry_at,
        delivered_at: state.delivered_at,
        failed_at: state.failed_at,
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
        (status = 200, description = "The event's delivery so far", body = DeliveryStatus),
        (status = 410, description = "It was deleted", body = ErrorBody),
    ),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
pub(crate) async fn get_event_status(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    id: PathId,
) -> Result<Response, ApiError> {
    let (found, attempts) =
        edge.router.find_with_attempts(&caller.tenant, event_id(&id)?, edge.deadline()).await?;
    let event = present(found)?;
    let bytes_hint = STATUS_BYTES + ATTEMPT_BYTES * attempts.len();
    respond(StatusCode::OK, &delivery_status(&event, attempts), bytes_hint)
}
