//! `POST /v1/subscriptions/{id}/rotate`: sets a new key; the older ones sign for a while beside it.
//!
//! - `ROTATE-SECRET-1`: a key that the node makes has the scheme of the newest key, so that a
//!   receiver goes on checking signatures in the same way.
//! - `ROTATE-SECRET-2`: the older keys sign until the grace period ends, so that a receiver can
//!   change its key without rejecting a webhook.
//!
//! The store limits how many keys sign at once.

use super::json::{SUBSCRIPTION_BYTES, scheme, with_secret};
use super::lookup::{by, not_found, present, subscription_id};
use super::request;
use crate::http::authenticate::{Authorized, SubscriptionsManage};
use crate::http::body;
use crate::http::body::query::PathId;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use triggers_actors::model::operations::{ChangeSubscription, SubscriptionChange};
use triggers_protocol::api::{SecretRotation, Subscription};
use triggers_protocol::webhook::SigningKey;

/// Rotate a subscription's secret
///
/// Until the grace period is over webhooks have a signature of each key. The response is the only
/// place that ever shows the new secret.
#[utoipa::path(
    post,
    path = "/v1/subscriptions/{id}/rotate",
    tag = "subscriptions",
    operation_id = "rotateSubscriptionSecret",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    request_body(content = Option<SecretRotation>, content_type = "application/json"),
    responses((
        status = 200,
        description = "The subscription and its new secret",
        body = Subscription,
    )),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
pub(crate) async fn rotate_secret(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    let asked = request::rotation(body.as_deref())?;
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
    respond(StatusCode::OK, &with_secret(&changed.ok_or_else(not_found)?), SUBSCRIPTION_BYTES)
}
