//! `GET /v1/events/{id}/status`: where an event's delivery stands, with its attempts.
//!
//! Invariants: `STATUS-1` attempts are numbered without gaps, oldest first; the oldest of very many are forgotten, while
//! `retry_count` counts them all; `STATUS-2` the answer is one snapshot. It has no payload: that is the event's.

use super::{event_id, present};
use crate::api::event_json::{AttemptOutcomeName, Status, outcome_name};
use crate::http::authenticate::{Authorized, InboxRead};
use crate::http::body::path_id::PathId;
use crate::http::edge::EdgeState;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::json::respond;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use triggers_protocol::{Event, EventId, SubscriptionId, Timestamp};
use triggers_store::tables::rows::Attempt;
use utoipa::ToSchema;

/// Bytes of a status response without attempts, about.
const STATUS_BYTES: usize = 320;
const ATTEMPT_BYTES: usize = 256;

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
    #[schema(value_type = AttemptOutcomeName)]
    outcome: &'static str,
    /// The endpoint's HTTP status; null if no answer came, and for an attempt of a consumer that pulled the event.
    #[schema(required = true)]
    http_status: Option<u16>,
    /// What went wrong.
    #[schema(required = true)]
    error: Option<String>,
    /// The subscription that it was made for; null for an attempt of a consumer that pulled the event.
    #[schema(value_type = Option<String>, format = "uuid", required = true)]
    subscription_id: Option<SubscriptionId>,
}

impl From<Attempt> for AttemptJson {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: outcome_name(attempt.outcome),
            http_status: attempt.http_status,
            error: attempt.error,
            subscription_id: attempt.subscription,
        }
    }
}

impl StatusJson {
    fn of(event: &Event, attempts: Vec<Attempt>) -> Self {
        let state = &event.state;
        Self {
            event_id: event.id,
            status: state.status.as_str(),
            retry_count: state.attempts.saturating_sub(1),
            attempts: attempts.into_iter().map(AttemptJson::from).collect(),
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
pub(crate) async fn get_event_status(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    id: PathId,
) -> Result<Response, ApiError> {
    let (found, attempts) =
        edge.router.find_with_attempts(&caller.tenant, event_id(&id)?, edge.deadline()).await?;
    let event = present(found)?;
    let bytes_hint = STATUS_BYTES + ATTEMPT_BYTES * attempts.len();
    respond(StatusCode::OK, &StatusJson::of(&event, attempts), bytes_hint)
}
