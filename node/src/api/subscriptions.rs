//! Subscriptions, which say where a tenant's events are pushed to: create, list, read, change,
//! delete. The submodules have the other operations.
//!
//! - `SUBSCRIPTIONS-EDGE-1`: another tenant's subscription is 404.
//! - `SUBSCRIPTIONS-EDGE-2`: a secret is only in the response that makes it.
//! - `SUBSCRIPTIONS-EDGE-3`: every change names its author, for the audit.
//! - `SUBSCRIPTIONS-EDGE-4`: a target that may not be called is rejected when it is set.

mod attempts;
mod json;
mod lookup;
pub(super) mod page;
mod ping;
pub(super) mod request;
mod rotate;
#[cfg(test)]
mod tests;

use crate::http::authenticate::{Authorized, Caller, SubscriptionsManage};
use crate::http::body;
use crate::http::body::query::PathId;
use crate::http::edge::{Edge, EdgeState};
use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use json::{SUBSCRIPTION_BYTES, subscription_json, with_secret};
use lookup::{by, not_found, present, subscription_id};
use request::Rules;
use triggers_actors::model::operations::{
    ChangeSubscription, CreateSubscription, DeleteSubscription, TooManySubscriptions,
};
use triggers_actors::model::rows::SubscriptionRow;
use triggers_protocol::ErrorCode;
use triggers_protocol::api::{
    ErrorBody, NewSubscription, Subscription, SubscriptionList, SubscriptionPatch,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(create_subscription, list_subscriptions))
        .routes(routes!(get_subscription, update_subscription, delete_subscription))
        .routes(routes!(rotate::rotate_secret))
        .routes(routes!(ping::test_subscription))
        .routes(routes!(attempts::list_attempts))
}

/// Make a subscription
///
/// From now on events of its types are sent to its target instead of waiting in the inbox. The
/// response is the only place that ever shows the secret. `targetUrl` is another name of
/// `target_url`.
#[utoipa::path(
    post,
    path = "/v1/subscriptions",
    tag = "subscriptions",
    operation_id = "createSubscription",
    request_body(content = NewSubscription, content_type = "application/json"),
    responses(
        (
            status = 201,
            description = "The subscription, its secret shown this once",
            body = Subscription,
            headers(("Location" = String, description = "The subscription's path")),
        ),
        (
            status = 409,
            description = "The tenant has as many subscriptions as it may",
            body = ErrorBody,
        ),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn create_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    let asked =
        request::new_subscription(body.as_deref().unwrap_or_default(), rules(&edge, &caller))?;
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
    get,
    path = "/v1/subscriptions",
    tag = "subscriptions",
    operation_id = "listSubscriptions",
    responses((
        status = 200,
        description = "The subscriptions, without secrets",
        body = SubscriptionList,
    )),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
async fn list_subscriptions(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
) -> Result<Response, ApiError> {
    let rows = edge.router.subscriptions(&caller.tenant, edge.deadline()).await?;
    let subscriptions = rows.iter().map(subscription_json).collect();
    respond(
        StatusCode::OK,
        &SubscriptionList { subscriptions },
        SUBSCRIPTION_BYTES * rows.len() + 32,
    )
}

/// Read a subscription
#[utoipa::path(
    get,
    path = "/v1/subscriptions/{id}",
    tag = "subscriptions",
    operation_id = "getSubscription",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    responses((
        status = 200,
        description = "The subscription, without its secret",
        body = Subscription,
    )),
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
    patch,
    path = "/v1/subscriptions/{id}",
    tag = "subscriptions",
    operation_id = "updateSubscription",
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
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    let patch = request::patch(body.as_deref().unwrap_or_default(), rules(&edge, &caller))?;
    let change = ChangeSubscription { id, change: request::change(patch), by: by(&caller) };
    let changed = edge.router.execute(&caller.tenant, change, edge.deadline()).await?;
    respond(StatusCode::OK, &subscription_json(&changed.ok_or_else(not_found)?), SUBSCRIPTION_BYTES)
}

/// Remove a subscription
///
/// What waits for it is given up.
#[utoipa::path(
    delete,
    path = "/v1/subscriptions/{id}",
    tag = "subscriptions",
    operation_id = "deleteSubscription",
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
