//! The JSON form of a subscription.
//!
//! Invariants: `SUBSCRIPTION-JSON-1` the secret is there only where the handler asks for it, which those that make one
//! do; `SUBSCRIPTION-JSON-2` of an asymmetric key only the public half is ever shown; `SUBSCRIPTION-JSON-3` every other
//! member is always there, `null` where there is nothing. It borrows from the row, and has no `Debug`, because of the
//! secret.

use crate::api::openapi::schemas::RetryPolicySchema;
use serde::Serialize;
use triggers_protocol::webhook::{SignatureScheme, SigningKey};
use triggers_protocol::{EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};
use triggers_store::tables::rows::{DisabledReason, SubscriptionRow, SubscriptionStatus};
use utoipa::ToSchema;

/// Bytes of one subscription's JSON, about.
pub(super) const SUBSCRIPTION_BYTES: usize = 1_024;

/// A subscription.
#[derive(Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(super) struct SubscriptionJson<'a> {
    /// The subscription's id.
    #[schema(value_type = String, format = "uuid")]
    id: SubscriptionId,
    /// Where webhooks go.
    #[schema(example = "https://example.com/webhooks")]
    target_url: &'a str,
    /// Event types, or prefixes such as `order.*`; empty means everything.
    #[schema(example = json!(["order.*"]))]
    event_types: Vec<String>,
    /// A note for people.
    #[schema(required = true)]
    description: Option<&'a str>,
    /// Whether events are sent to it.
    status: StatusName,
    /// Why none are.
    #[schema(required = true)]
    disabled_reason: Option<ReasonName>,
    /// Since when none are.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    disabled_at: Option<Timestamp>,
    /// Since when every attempt has failed.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    failing_since: Option<Timestamp>,
    /// Until when its endpoint has asked to be left alone (`Retry-After`), if that was the last thing it asked for.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    held_until: Option<Timestamp>,
    /// How webhooks are signed.
    signature_scheme: SchemeName,
    /// What a receiver checks signatures of `ed25519` with, `whpk_…`.
    #[schema(required = true)]
    public_key: Option<String>,
    /// What a receiver checks signatures of `hmac-sha256` with, `whsec_…`; only in the response that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
    /// Its own retry policy; null means the tenant's.
    #[schema(value_type = Option<RetryPolicySchema>, required = true)]
    retry_policy: Option<&'a RetryPolicy>,
    /// Webhooks that may be on their way to it at the same time.
    max_in_flight: u32,
    /// When it was made.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = "date-time")]
    updated_at: Timestamp,
}

/// A tenant's subscriptions.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionList)]
pub(super) struct SubscriptionList<'a> {
    /// Oldest first.
    #[schema(value_type = Vec<SubscriptionJson<'static>>)]
    pub(super) subscriptions: Vec<SubscriptionJson<'a>>,
}

/// Whether events are sent to a subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SubscriptionStatus)]
pub(crate) enum StatusName {
    /// They are.
    Active,
    /// They are not.
    Disabled,
}

/// Why a subscription is disabled.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DisabledReason)]
pub(super) enum ReasonName {
    /// Its endpoint answered 410.
    Gone,
    /// Every attempt has failed for too long.
    Failing,
    /// Somebody asked for it.
    Requested,
}

/// How webhooks are signed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SignatureScheme)]
pub(crate) enum SchemeName {
    /// With a secret that both sides have: `v1` of Standard Webhooks.
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// With a key pair of which the receiver has the public half: `v1a` of Standard Webhooks.
    #[serde(rename = "ed25519")]
    Ed25519,
}

impl<'a> SubscriptionJson<'a> {
    /// The subscription without its secret.
    pub(super) fn of(row: &'a SubscriptionRow) -> Self {
        let (status, disabled) = match row.status {
            SubscriptionStatus::Active => (StatusName::Active, None),
            SubscriptionStatus::Disabled { reason, at } => {
                (StatusName::Disabled, Some((reason, at)))
            }
            SubscriptionStatus::Deleted => (StatusName::Disabled, None),
        };
        Self {
            id: row.id,
            target_url: &row.target_url,
            event_types: row.event_types.iter().map(EventTypePattern::to_string).collect(),
            description: row.description.as_deref(),
            status,
            disabled_reason: disabled.map(|(reason, _)| reason.into()),
            disabled_at: disabled.map(|(_, at)| at),
            failing_since: row.failing_since,
            held_until: row.held_until,
            signature_scheme: scheme(row).into(),
            public_key: newest(row).and_then(SigningKey::public),
            secret: None,
            retry_policy: row.retry_policy.as_ref(),
            max_in_flight: row.max_in_flight,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }

    /// The subscription with the secret of its newest key, if that is one that a receiver needs.
    pub(super) fn with_secret(row: &'a SubscriptionRow) -> Self {
        let shared = newest(row).filter(|key| key.scheme() == SignatureScheme::HmacSha256);
        Self { secret: shared.map(SigningKey::reveal), ..Self::of(row) }
    }
}

/// The scheme of the newest key.
pub(super) fn scheme(row: &SubscriptionRow) -> SignatureScheme {
    newest(row).map_or(SignatureScheme::HmacSha256, SigningKey::scheme)
}

fn newest(row: &SubscriptionRow) -> Option<&SigningKey> {
    row.keys.first().map(|key| &key.key)
}

impl From<DisabledReason> for ReasonName {
    fn from(reason: DisabledReason) -> Self {
        match reason {
            DisabledReason::Gone => Self::Gone,
            DisabledReason::Failing => Self::Failing,
            DisabledReason::Requested => Self::Requested,
        }
    }
}

impl From<SignatureScheme> for SchemeName {
    fn from(scheme: SignatureScheme) -> Self {
        match scheme {
            SignatureScheme::HmacSha256 => Self::HmacSha256,
            SignatureScheme::Ed25519 => Self::Ed25519,
        }
    }
}
