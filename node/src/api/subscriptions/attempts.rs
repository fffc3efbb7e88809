//! `GET /v1/subscriptions/{id}/attempts`: what became of a subscription's webhooks, newest first.
//!
//! Invariants: `ATTEMPT-LIST-1` an attempt is listed once it has ended; following the cursor neither skips nor repeats
//! one; `ATTEMPT-LIST-2` `cursor` is null exactly when `has_more` is false; `ATTEMPT-LIST-3` a cursor is for the
//! subscription that it was made for alone. The attempts of one event, to all subscriptions, are in its status.

use super::{not_found, page, subscription_id};
use crate::api::cursor;
use crate::api::event_json::{AttemptOutcomeName, outcome_name};
use crate::http::authenticate::{Authorized, SubscriptionsManage};
use crate::http::body::faults::Faults;
use crate::http::body::path_id::PathId;
use crate::http::body::query;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use triggers_protocol::{EventId, Timestamp};
use triggers_store::tables::rows::LoggedAttempt;
use utoipa::ToSchema;

/// Bytes of one attempt's JSON, about.
const ATTEMPT_BYTES: usize = 320;

/// A page of a subscription's attempts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriptionAttemptList)]
struct AttemptList<'a> {
    /// Newest first.
    #[schema(value_type = Vec<AttemptJson<'static>>)]
    attempts: Vec<AttemptJson<'a>>,
    /// Where the next page begins; null if there is none.
    #[schema(required = true)]
    cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// One attempt to send an event to a subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubscriptionAttempt)]
struct AttemptJson<'a> {
    /// The event.
    #[schema(value_type = String, format = "uuid")]
    event_id: EventId,
    /// Its type.
    event_type: &'a str,
    /// Counted from 1, over all attempts of the event.
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
    /// The endpoint's HTTP status; null if no answer came.
    #[schema(required = true)]
    http_status: Option<u16>,
    /// What went wrong.
    #[schema(required = true)]
    error: Option<&'a str>,
}

impl<'a> From<&'a (EventId, LoggedAttempt)> for AttemptJson<'a> {
    fn from(
        (event_id, LoggedAttempt { event_type, attempt }): &'a (EventId, LoggedAttempt),
    ) -> Self {
        Self {
            event_id: *event_id,
            event_type: event_type.as_str(),
            number: attempt.number,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: outcome_name(attempt.outcome),
            http_status: attempt.http_status,
            error: attempt.error.as_deref(),
        }
    }
}

/// List a subscription's attempts
#[utoipa::path(
    get,
    path = "/v1/subscriptions/{id}/attempts",
    tag = "subscriptions",
    operation_id = "listSubscriptionAttempts",
    params(
        ("id" = String, Path, description = "The subscription's id", format = "uuid"),
        ("limit" = Option<u32>, Query, description = "Attempts of the page; 50 if absent", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "Where to begin, from the page before"),
    ),
    responses((status = 200, description = "The page", body = AttemptList<'static>)),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
pub(crate) async fn list_attempts(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let id = subscription_id(&id)?;
    let [limit, cursor] = query::parameters(query.as_deref(), ["limit", "cursor"]);
    let mut faults = Faults::default();
    let limit = page::limit(&limit, &edge.options.limits, &mut faults);
    let cursor = query::once("cursor", &cursor, &mut faults);
    faults.check()?;
    let (secret, tenant) = (&edge.cursor_secret, &caller.tenant);
    let before = cursor.map(|text| cursor::open_attempt(secret, (tenant, id), text)).transpose()?;
    let found =
        edge.router.subscription_attempts(tenant, id, before, limit, edge.deadline()).await?;
    let page = found.ok_or_else(not_found)?;
    let cursor = page.next.map(|next| cursor::seal_attempt(secret, (tenant, id), next));
    let attempts: Vec<_> = page.attempts.iter().map(AttemptJson::from).collect();
    let bytes_hint = ATTEMPT_BYTES * attempts.len() + 128;
    respond(
        StatusCode::OK,
        &AttemptList { attempts, has_more: cursor.is_some(), cursor },
        bytes_hint,
    )
}
