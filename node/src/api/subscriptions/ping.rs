//! `POST /v1/subscriptions/{id}/test`: sends a webhook that belongs to no event.
//!
//! - `TEST-SUBSCRIPTION-1`: a failure of the endpoint is no error of the request: the response is
//!   200 and describes the failure.
//! - `TEST-SUBSCRIPTION-2`: a disabled subscription is tested like any other, so that an endpoint
//!   can be repaired before the subscription is enabled.
//!
//! Nothing is stored, and the subscription's attempts do not list the test.

use super::lookup::present;
use crate::http::authenticate::{Authorized, SubscriptionsManage};
use crate::http::body::query::PathId;
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::json::respond;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use triggers_actors::{Ping, SendOutcome};
use triggers_protocol::api::{ErrorBody, SubscriptionTest};

/// Approximate bytes of the response.
const TEST_BYTES: usize = 256;

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
    post,
    path = "/v1/subscriptions/{id}/test",
    tag = "subscriptions",
    operation_id = "testSubscription",
    params(("id" = String, Path, description = "The subscription's id", format = "uuid")),
    responses(
        (
            status = 200,
            description = "What the endpoint did, also if it refused",
            body = SubscriptionTest,
        ),
        (
            status = 429,
            description = "The tenant has a `ping` on its way already",
            body = ErrorBody,
        ),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
pub(crate) async fn test_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
) -> Result<Response, ApiError> {
    let row = present(&edge, &caller, &id).await?;
    let ping = edge.router.ping(&caller.tenant, &row, edge.deadline()).await?;
    respond(StatusCode::OK, &test_json(ping), TEST_BYTES)
}
