//! Subscriptions, which say where a tenant's events are pushed to: create, list, read, change,
//! delete, rotate the secret, test. The submodule `attempts` lists their attempts, `recover`
//! sends them what they have missed.
//!
//! - `SUBSCRIPTIONS-EDGE-1`: another tenant's subscription is 404.
//! - `SUBSCRIPTIONS-EDGE-2`: a secret is only in the response that makes it.
//! - `SUBSCRIPTIONS-EDGE-3`: every change names its author, for the audit.
//! - `SUBSCRIPTIONS-EDGE-4`: a target that may not be called is rejected when it is set.
//! - `ROTATE-SECRET-1`: a key that the node makes has the scheme of the newest key, so that a
//!   receiver goes on checking signatures in the same way.
//! - `ROTATE-SECRET-2`: the older keys sign until the grace period ends, so that a receiver can
//!   change its key without rejecting a webhook. The store limits how many keys sign at once; a
//!   rotation beyond that is 409.
//! - `TEST-SUBSCRIPTION-1`: a failure of the endpoint is no error of a test: the response is 200
//!   and describes the failure.
//! - `TEST-SUBSCRIPTION-2`: a disabled subscription is tested like any other, so that an endpoint
//!   can be repaired before the subscription is enabled.
//!
//! A test stores nothing, and the subscription's attempts do not list it.

mod attempts;
pub(super) mod recover;
pub(super) mod request;
mod row;
#[cfg(test)]
mod tests;

use crate::api::prelude::*;
use axum::http::HeaderValue;
use axum::http::header::LOCATION;
use request::Rules;
use row::{
    SUBSCRIPTION_BYTES, by, not_found, present, scheme, subscription_id, subscription_json,
    with_secret,
};
use triggers_actors::model::operations::{
    ChangeSubscription, CreateSubscription, DeleteSubscription, NotChanged, SubscriptionChange,
    TooManySubscriptions,
};
use triggers_actors::model::rows::SubscriptionRow;
use triggers_actors::{Ping, SendOutcome};
use triggers_protocol::ErrorCode;
use triggers_protocol::api::{
    NewSubscription, SecretRotation, Subscription, SubscriptionList, SubscriptionPatch,
    SubscriptionTest,
};
use triggers_protocol::webhook::SigningKey;

/// Approximate bytes of the response to a test.
const TEST_BYTES: usize = 256;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(create_subscription, list_subscriptions))
        .routes(routes!(get_subscription, update_subscription, delete_subscription))
        .routes(routes!(rotate_secret))
        .routes(routes!(test_subscription))
        .routes(routes!(attempts::list_attempts))
        .routes(routes!(recover::recover_subscription))
}

/// Make a subscription
///
/// From now on events of its types are sent to its target instead of waiting in the inbox. The
/// response is the only place that ever shows the secret. `targetUrl` is another name of
/// `target_url`.
#[utoipa::path(
    post, path = "/v1/subscriptions", tag = "subscriptions", operation_id = "createSubscription",
    request_body(content = NewSubscription, content_type = "application/json"),
    responses(
        (status = 201, description = "The subscription, its secret shown this once",
         body = Subscription,
         headers(("Location" = String, description = "The subscription's path"))),
        (status = 409, description = "The tenant has as many subscriptions as it may"),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn create_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let asked = request::new_subscription(body.required(), rules(&edge, &caller))?;
    let row = request::row(asked, &edge.environment);
    let create = CreateSubscription { row, by: by(&caller) };
    match edge.router.execute(&caller.tenant, create, edge.deadline()).await? {
        Ok(row) => created(&row),
        Err(TooManySubscriptions) => Err(too_many(edge.options.delivery.subscriptions_max)),
    }
}

fn created(row: &SubscriptionRow) -> Result<Response, ApiError> {
    let mut response = respond(StatusCode::CREATED, &with_secret(row), SUBSCRIPTION_BYTES)?;
    let location = HeaderValue::try_from(format!("/v1/subscriptions/{}", row.id))
        .map_err(ApiError::internal)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn too_many(subscriptions_max: usize) -> ApiError {
    let message = format!(
        "the tenant has {subscriptions_max} subscriptions, as many as it may; delete one first"
    );
    ApiError::new(ErrorCode::Conflict, message)
}

/// The rules for a request of this caller.
fn rules<'a>(edge: &'a Edge, caller: &Caller) -> Rules<'a> {
    Rules { targets: &edge.targets, is_admin: caller.is_admin() }
}

/// List the subscriptions
#[utoipa::path(
    get, path = "/v1/subscriptions", tag = "subscriptions", operation_id = "listSubscriptions",
    responses(
        (status = 200, description = "The subscriptions, without secrets", body = SubscriptionList),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn list_subscriptions(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
) -> Result<Response, ApiError> {
    let rows = edge.router.subscriptions(&caller.tenant, edge.deadline()).await?;
    let list = SubscriptionList { subscriptions: rows.iter().map(subscription_json).collect() };
    respond(StatusCode::OK, &list, SUBSCRIPTION_BYTES * rows.len() + 32)
}

/// Read a subscription
#[utoipa::path(
    get, path = "/v1/subscriptions/{id}", tag = "subscriptions", operation_id = "getSubscription",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    responses(
        (status = 200, description = "The subscription, without its secret", body = Subscription),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn get_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
) -> Result<Response, ApiError> {
    let row = present(&edge, &caller, &id).await?;
    respond(StatusCode::OK, &subscription_json(&row), SUBSCRIPTION_BYTES)
}

/// Change a subscription
///
/// Members that are absent stay as they are; `null` sets one back to its default. What waits for a
/// subscription that is disabled is given up. `targetUrl` is another name of `target_url`.
#[utoipa::path(
    patch, path = "/v1/subscriptions/{id}",
    tag = "subscriptions", operation_id = "updateSubscription",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    request_body(content = SubscriptionPatch, content_type = "application/json"),
    responses((status = 200, description = "The subscription as it is now", body = Subscription)),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn update_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = subscription_id(&id)?;
    let body = JsonBody::read(request, &edge).await?;
    let patch = request::patch(body.required(), rules(&edge, &caller))?;
    let change = ChangeSubscription { id, change: request::change(patch), by: by(&caller) };
    let changed = edge.router.execute(&caller.tenant, change, edge.deadline()).await?;
    respond(StatusCode::OK, &subscription_json(&changed.map_err(not_changed)?), SUBSCRIPTION_BYTES)
}

/// Remove a subscription
///
/// What waits for it is given up.
#[utoipa::path(
    delete, path = "/v1/subscriptions/{id}",
    tag = "subscriptions", operation_id = "deleteSubscription",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    responses((status = 204, description = "It is removed")),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn delete_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
) -> Result<StatusCode, ApiError> {
    let delete = DeleteSubscription { id: subscription_id(&id)?, by: by(&caller) };
    let was_there = edge.router.execute(&caller.tenant, delete, edge.deadline()).await?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(not_found()) }
}

/// Rotate a subscription's secret
///
/// Until the grace period is over webhooks have a signature of each key. The response is the only
/// place that ever shows the new secret.
#[utoipa::path(
    post, path = "/v1/subscriptions/{id}/rotate",
    tag = "subscriptions", operation_id = "rotateSubscriptionSecret",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    request_body(content = Option<SecretRotation>, content_type = "application/json"),
    responses(
        (status = 200, description = "The subscription and its new secret", body = Subscription),
        (status = 409, description = "As many keys sign as may; the message says until when"),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn rotate_secret(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let asked = request::rotation(body.optional())?;
    let key = match asked.secret {
        Some(key) => key,
        None => {
            SigningKey::generate(scheme(&present(&edge, &caller, &id).await?), &edge.environment)
        }
    };
    let older_end = edge.environment.now().plus(request::grace(asked.grace_seconds));
    let change =
        SubscriptionChange { key: Some((key, older_end)), ..SubscriptionChange::default() };
    let change = ChangeSubscription { id: subscription_id(&id)?, change, by: by(&caller) };
    let changed = edge.router.execute(&caller.tenant, change, edge.deadline()).await?;
    respond(StatusCode::OK, &with_secret(&changed.map_err(not_changed)?), SUBSCRIPTION_BYTES)
}

fn not_changed(why: NotChanged) -> ApiError {
    match why {
        NotChanged::NotFound => not_found(),
        NotChanged::KeysFull { free_at } => {
            let message = format!(
                "as many keys sign as may; the oldest ends at {free_at}: rotate then, or with \
                 grace_seconds 0, which ends all older keys at once"
            );
            ApiError::new(ErrorCode::Conflict, message)
        }
    }
}

fn test_json(Ping { outcome, took }: Ping) -> SubscriptionTest {
    let (http_status, error) = match outcome {
        SendOutcome::Answered { status: status @ 200..=299, .. } => (Some(status), None),
        SendOutcome::Answered { status, .. } => {
            (Some(status), Some(format!("the endpoint answered {status}")))
        }
        SendOutcome::Failed { status, reason, .. } => (status, Some(reason)),
    };
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    SubscriptionTest { delivered: error.is_none(), http_status, error, duration_ms }
}

/// Test a subscription
///
/// Sends a `ping` to the endpoint, signed like every webhook, and answers with what the endpoint
/// did. The `ping` is no event: it is sent once and kept nowhere.
#[utoipa::path(
    post, path = "/v1/subscriptions/{id}/test",
    tag = "subscriptions", operation_id = "testSubscription",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    responses(
        (status = 200, description = "What the endpoint did, also if it refused",
         body = SubscriptionTest),
        (status = 429, description = "The tenant has a `ping` on its way already"),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn test_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
) -> Result<Response, ApiError> {
    let row = present(&edge, &caller, &id).await?;
    let ping = edge.router.ping(&caller.tenant, &row, edge.deadline()).await?;
    respond(StatusCode::OK, &test_json(ping), TEST_BYTES)
}
