//! Finds the subscription that a path names, and says who changes it.

use crate::http::authenticate::Caller;
use crate::http::body::query::PathId;
use crate::http::edge::Edge;
use crate::http::error::ApiError;
use triggers_actors::model::Initiator;
use triggers_actors::model::rows::{Actor, SubscriptionRow};
use triggers_protocol::SubscriptionId;

/// Who makes a change, as the audit records it.
pub(super) fn by(caller: &Caller) -> Initiator {
    Initiator {
        actor: Actor::Key(caller.key.key.id),
        source_ip: caller.context.address.to_string(),
        request_id: caller.context.request_id.as_str().to_owned(),
    }
}

/// Reads the subscription's id of a path. A text that is no UUID names no subscription.
pub(super) fn subscription_id(PathId(text): &PathId) -> Result<SubscriptionId, ApiError> {
    SubscriptionId::parse(text).map_err(|_| not_found())
}

pub(super) fn not_found() -> ApiError {
    ApiError::not_found("subscription")
}

/// Reads the caller's subscription that a path names.
pub(super) async fn present(
    edge: &Edge,
    caller: &Caller,
    id: &PathId,
) -> Result<SubscriptionRow, ApiError> {
    let found = edge
        .router
        .find_subscription(&caller.tenant, subscription_id(id)?, edge.deadline())
        .await?;
    found.ok_or_else(not_found)
}
