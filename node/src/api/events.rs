//! One event by its id: read it, read its delivery status, and delete it. The submodule has what
//! consumers do with it.
//!
//! - `EVENTS-1`: another tenant's event is 404, like one that does not exist.
//! - `EVENTS-2`: a deleted event is 410 for as long as the deletion is remembered.
//! - `EVENTS-3`: acknowledging an event again changes nothing and has the same response.
//! - `STATUS-1`: the attempts of a status are numbered, oldest first. Of very many to one consumer
//!   the oldest are not kept; `retry_count` counts them all.
//! - `STATUS-2`: a status is one snapshot.

pub(crate) mod delivery;

use super::event::{event_id, missing, respond_event};
use crate::api::prelude::*;
use triggers_actors::model::operations::DeleteEvent;
use triggers_actors::model::rows::{Attempt, Delivery, Push, PushState};
use triggers_protocol::Event;
use triggers_protocol::api::{AttemptJson, DeliveryStatus, EventJson, WebhookJson, WebhookStatus};

/// Approximate bytes of a status without attempts.
const STATUS_BYTES: usize = 320;
const ATTEMPT_BYTES: usize = 256;
const WEBHOOK_BYTES: usize = 128;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(get_event, delete_event))
        .routes(routes!(get_event_status))
        .routes(routes!(delivery::acknowledge_event))
        .routes(routes!(delivery::nack_event))
        .routes(routes!(delivery::extend_lease))
        .routes(routes!(delivery::replay_event))
}

/// Read an event
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "events", operation_id = "getEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 200, description = "The event", body = EventJson<'static>),
        (status = 410, description = "It was deleted"),
    ),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
async fn get_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    id: PathId,
) -> Result<Response, ApiError> {
    let found = edge.router.find(&caller.tenant, event_id(&id)?, edge.deadline()).await?;
    respond_event(StatusCode::OK, &*found.map_err(missing)?)
}

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

fn webhook_json(push: Push) -> WebhookJson {
    let (status, next_attempt_at) = match push.state {
        PushState::Waiting { due } => (WebhookStatus::Waiting, Some(due)),
        PushState::Running { .. } => (WebhookStatus::InProgress, None),
        PushState::Delivered => (WebhookStatus::Delivered, None),
        PushState::Dropped => (WebhookStatus::Failed, None),
        PushState::Skipped => (WebhookStatus::Skipped, None),
    };
    WebhookJson { subscription_id: push.subscription, status, next_attempt_at }
}

fn delivery_status(event: &Event, delivery: Delivery) -> DeliveryStatus {
    let state = &event.state;
    DeliveryStatus {
        event_id: event.id,
        status: state.status,
        retry_count: state.attempts.saturating_sub(1),
        attempts: delivery.attempts.into_iter().map(attempt_json).collect(),
        webhooks: delivery.pushes.into_iter().map(webhook_json).collect(),
        last_retry_at: state.last_attempt_at.filter(|_| state.attempts > 1),
        next_retry_at: state.next_retry_at,
        delivered_at: state.delivered_at,
        failed_at: state.failed_at,
    }
}

/// Read an event's delivery status
#[utoipa::path(
    get, path = "/v1/events/{id}/status", tag = "events", operation_id = "getEventStatus",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 200, description = "The event's delivery so far", body = DeliveryStatus),
        (status = 410, description = "It was deleted"),
    ),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
async fn get_event_status(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    id: PathId,
) -> Result<Response, ApiError> {
    let (found, delivery) =
        edge.router.find_with_delivery(&caller.tenant, event_id(&id)?, edge.deadline()).await?;
    let event = found.map_err(missing)?;
    let bytes_hint = STATUS_BYTES
        + ATTEMPT_BYTES * delivery.attempts.len()
        + WEBHOOK_BYTES * delivery.pushes.len();
    respond(StatusCode::OK, &delivery_status(&event, delivery), bytes_hint)
}

/// Delete an event
#[utoipa::path(
    delete, path = "/v1/events/{id}", tag = "events", operation_id = "deleteEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 204, description = "It is deleted"),
        (status = 410, description = "It was deleted before"),
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
