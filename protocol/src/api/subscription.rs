//! Subscriptions: where a tenant's events are pushed to, and what became of the webhooks.
//!
//! - `SUBSCRIPTION-JSON-1`: the secret is only in the response that makes it.
//! - `SUBSCRIPTION-JSON-2`: of an asymmetric key only the public half is shown.
//! - `SUBSCRIPTION-JSON-3`: every other member is always there, `null` where there is nothing.

use super::Patch;
use super::event::AttemptOutcome;
use crate::webhook::{SignatureScheme, SigningKey};
use crate::{EventId, EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// A subscription to make.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({
    "target_url": "https://example.com/webhooks",
    "event_types": ["order.*"],
    "description": "the warehouse",
}))]
pub struct NewSubscription {
    /// Where webhooks go: an absolute URL, `https` unless the node allows others, without user and
    /// fragment. Addresses that are not public are rejected unless the node allows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    pub target_url: Option<String>,
    /// The same, as REST hooks spell it; one of the two is required.
    #[serde(rename = "targetUrl", skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    pub target_url_of_rest_hooks: Option<String>,
    /// Event types, or prefixes such as `order.*`; everything if absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    pub event_types: Option<Vec<EventTypePattern>>,
    /// A note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub description: Option<String>,
    /// The key to sign with: `whsec_` and 24 to 64 bytes in base64, or `whsk_` and an ed25519 key;
    /// made if absent.
    #[serde(serialize_with = "revealed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub secret: Option<SigningKey>,
    /// How webhooks are signed; as the secret says, or `hmac-sha256`, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_scheme: Option<SignatureScheme>,
    /// When a failed delivery is tried again; as the tenant's policy says if absent. More than 24
    /// hours in all are for admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Webhooks that may be on their way to it at the same time; 32 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000)]
    pub max_in_flight: Option<u32>,
}

/// A change of a subscription.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"event_types": ["order.*", "invoice.paid"], "status": "active"}))]
pub struct SubscriptionPatch {
    /// The URL that webhooks are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    pub target_url: Option<String>,
    /// The same, as REST hooks spell it.
    #[serde(rename = "targetUrl", skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    pub target_url_of_rest_hooks: Option<String>,
    /// Event types, or prefixes such as `order.*`; all of them are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    pub event_types: Patch<Vec<EventTypePattern>>,
    /// A note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 200)]
    pub description: Patch<String>,
    /// When a failed delivery is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RetryPolicy>)]
    pub retry_policy: Patch<RetryPolicy>,
    /// Webhooks that may be on their way to it at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
    pub max_in_flight: Patch<u32>,
    /// Whether events are sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status: Option<SubscriptionState>,
}

/// How a subscription's key is rotated.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({"grace_seconds": 3600}))]
pub struct SecretRotation {
    /// The new key, `whsec_…` or `whsk_…`; made, of the same kind as the old one, if absent.
    #[serde(serialize_with = "revealed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub secret: Option<SigningKey>,
    /// How long the old key signs as well, in seconds; 86,400 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800)]
    pub grace_seconds: Option<u32>,
}

/// Writes a key in plain text: only for requests, which a client sends to its node.
fn revealed<S: Serializer>(key: &Option<SigningKey>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(SigningKey::reveal).serialize(serializer)
}

/// A subscription. It has no `Debug` form because of the secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[schema(description = "A subscription.")]
pub struct Subscription {
    /// The subscription's id.
    #[schema(value_type = String, format = "uuid")]
    pub id: SubscriptionId,
    /// The URL that webhooks are sent to.
    #[schema(example = "https://example.com/webhooks")]
    pub target_url: String,
    /// Event types, or prefixes such as `order.*`; empty means everything.
    #[schema(value_type = Vec<String>, example = json!(["order.*"]))]
    pub event_types: Vec<EventTypePattern>,
    /// A note for people.
    #[schema(required = true)]
    pub description: Option<String>,
    /// Whether events are sent to it.
    pub status: SubscriptionState,
    /// Why it is disabled; null if it is active.
    #[schema(required = true)]
    pub disabled_reason: Option<DisabledReason>,
    /// Since when it is disabled.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub disabled_at: Option<Timestamp>,
    /// Since when every attempt has failed.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub failing_since: Option<Timestamp>,
    /// Until when its endpoint has asked to be left alone (`Retry-After`), if that was the last
    /// thing it asked for.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub held_until: Option<Timestamp>,
    /// How webhooks are signed.
    pub signature_scheme: SignatureScheme,
    /// What a receiver checks signatures of `ed25519` with, `whpk_…`.
    #[schema(required = true)]
    pub public_key: Option<String>,
    /// What a receiver checks signatures of `hmac-sha256` with, `whsec_…`; only in the response
    /// that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub secret: Option<String>,
    /// Its own retry policy; null means the tenant's.
    #[schema(required = true)]
    pub retry_policy: Option<RetryPolicy>,
    /// Webhooks that may be on their way to it at the same time.
    pub max_in_flight: u32,
    /// When it was made.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = "date-time")]
    pub updated_at: Timestamp,
}

/// The subscriptions of a tenant.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionList {
    /// The subscriptions, oldest first.
    pub subscriptions: Vec<Subscription>,
}

/// Whether events are sent to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SubscriptionStatus)]
pub enum SubscriptionState {
    /// Events of its types are sent to it.
    Active,
    /// No events are sent to it.
    Disabled,
}

/// Why a subscription is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DisabledReason {
    /// Its endpoint answered 410.
    Gone,
    /// Every attempt has failed for too long.
    Failing,
    /// A client asked for it.
    Requested,
}

/// The outcome of a webhook that was sent to test a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionTest {
    /// Whether the endpoint took it.
    pub delivered: bool,
    /// The endpoint's HTTP status; null if no answer came.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// What went wrong.
    #[schema(required = true)]
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A page of a subscription's attempts.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionAttemptList {
    /// The attempts, newest first.
    pub attempts: Vec<SubscriptionAttempt>,
    /// Where the next page begins; null if there is none.
    #[schema(required = true)]
    pub cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

/// One attempt to send an event to a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionAttempt {
    /// The id of the event.
    #[schema(value_type = String, format = "uuid")]
    pub event_id: EventId,
    /// The type of the event.
    pub event_type: String,
    /// Counted from 1, over all attempts of the event.
    pub number: u32,
    /// When it began.
    #[schema(value_type = String, format = "date-time")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The endpoint's HTTP status; null if no answer came.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// What went wrong.
    #[schema(required = true)]
    pub error: Option<String>,
}
