//! Finds a stored subscription, makes its JSON form, and says who changes it.

use crate::api::prelude::*;
use triggers_actors::model::Initiator;
use triggers_actors::model::rows::{Actor, SubscriptionRow, SubscriptionStatus};
use triggers_protocol::SubscriptionId;
use triggers_protocol::api::{Subscription, SubscriptionState};
use triggers_protocol::webhook::{SignatureScheme, SigningKey};

/// Approximate bytes of one subscription's JSON.
pub(super) const SUBSCRIPTION_BYTES: usize = 1_024;

/// The subscription without its secret.
pub(super) fn subscription_json(row: &SubscriptionRow) -> Subscription {
    let (status, disabled) = match row.status {
        SubscriptionStatus::Active => (SubscriptionState::Active, None),
        SubscriptionStatus::Disabled { reason, at } => {
            (SubscriptionState::Disabled, Some((reason, at)))
        }
        SubscriptionStatus::Deleted => (SubscriptionState::Disabled, None),
    };
    Subscription {
        id: row.id,
        target_url: row.target_url.clone(),
        event_types: row.event_types.clone(),
        description: row.description.clone(),
        status,
        disabled_reason: disabled.map(|(reason, _)| reason),
        disabled_at: disabled.map(|(_, at)| at),
        failing_since: row.failing_since,
        held_until: row.held_until,
        signature_scheme: scheme(row),
        public_key: newest(row).and_then(SigningKey::public),
        secret: None,
        retry_policy: row.retry_policy.clone(),
        max_in_flight: row.max_in_flight,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// The subscription with the secret of its newest key, if receivers need it.
pub(super) fn with_secret(row: &SubscriptionRow) -> Subscription {
    let shared = newest(row).filter(|key| key.scheme() == SignatureScheme::HmacSha256);
    Subscription { secret: shared.map(SigningKey::reveal), ..subscription_json(row) }
}

/// The scheme of the newest key.
pub(super) fn scheme(row: &SubscriptionRow) -> SignatureScheme {
    newest(row).map_or(SignatureScheme::HmacSha256, SigningKey::scheme)
}

fn newest(row: &SubscriptionRow) -> Option<&SigningKey> {
    row.keys.first().map(|key| &key.key)
}

/// Who makes a change, as the audit records it.
pub(super) fn by(caller: &Caller) -> Initiator {
    Initiator {
        actor: Actor::Key(caller.key.key.id),
        source_ip: caller.context.address.to_string(),
        request_id: caller.context.request_id.as_str().to_owned(),
    }
}

/// Reads the subscription's id of a path. A text that is no UUID names no subscription.
///
/// # Errors
/// 404.
pub(super) fn subscription_id(PathId(text): &PathId) -> Result<SubscriptionId, ApiError> {
    SubscriptionId::parse(text).map_err(|_| not_found())
}

/// The error for a subscription that the caller's tenant does not have.
pub(super) fn not_found() -> ApiError {
    ApiError::not_found("subscription")
}

/// Reads the caller's subscription that a path names.
///
/// # Errors
/// 404 if the tenant has none with that id.
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
