//! `GET /v1/subscriptions/{id}/attempts`: the attempts of a subscription's webhooks, newest first.
//!
//! - `ATTEMPT-LIST-1`: an attempt is listed once it has ended. Following the cursor neither skips
//!   nor repeats one.
//! - `ATTEMPT-LIST-2`: `cursor` is null exactly when `has_more` is false.
//! - `ATTEMPT-LIST-3`: a cursor opens only for the subscription that it was made for.
//!
//! The attempts of one event, to all subscriptions, are in the event's status.

use super::row::{not_found, subscription_id};
use crate::api::prelude::*;
use crate::api::{cursor, read};
use triggers_actors::model::rows::LoggedAttempt;
use triggers_protocol::EventId;
use triggers_protocol::api::{SubscriptionAttempt, SubscriptionAttemptList};

/// Approximate bytes of one attempt's JSON.
const ATTEMPT_BYTES: usize = 320;

fn attempt_json(event_id: EventId, logged: LoggedAttempt) -> SubscriptionAttempt {
    let LoggedAttempt { event_type, attempt } = logged;
    SubscriptionAttempt {
        event_id,
        event_type: event_type.as_str().to_owned(),
        number: attempt.number,
        started_at: attempt.started_at,
        finished_at: attempt.finished_at,
        outcome: attempt.outcome,
        http_status: attempt.http_status,
        error: attempt.error,
    }
}

/// List a subscription's attempts
#[utoipa::path(
    get, path = "/v1/subscriptions/{id}/attempts",
    tag = "subscriptions", operation_id = "listSubscriptionAttempts",
    params(
        ("id" = String, Path, description = "The subscription's id", format = "uuid"),
        ("limit" = Option<u32>, Query, description = "Attempts of the page; 50 if absent",
         minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "Where to begin, from the page before"),
    ),
    responses((status = 200, description = "The page", body = SubscriptionAttemptList)),
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
    let limit = read::page_limit(&limit, &edge.options.limits, &mut faults);
    let cursor = query::once("cursor", &cursor, &mut faults);
    faults.check()?;
    let (secret, tenant) = (&edge.cursor_secret, &caller.tenant);
    let before = cursor.map(|text| cursor::open_attempt(secret, tenant, id, text)).transpose()?;
    let found =
        edge.router.subscription_attempts(tenant, id, before, limit, edge.deadline()).await?;
    let page = found.ok_or_else(not_found)?;
    let cursor = page.next.map(|next| cursor::seal_attempt(secret, tenant, id, next));
    let attempts = page.attempts.into_iter().map(|(id, logged)| attempt_json(id, logged));
    let attempts: Vec<_> = attempts.collect();
    let bytes_hint = ATTEMPT_BYTES * attempts.len() + 128;
    let list = SubscriptionAttemptList { attempts, has_more: cursor.is_some(), cursor };
    respond(StatusCode::OK, &list, bytes_hint)
}
