//! Subscriptions: the endpoints that a tenant's events are pushed to, and their attempts.
//!
//! - `SUBSCRIPTION-JSON-1`: the secret is only in the response that creates it.
//! - `SUBSCRIPTION-JSON-2`: only the public half of an asymmetric key is shown.
//! - `SUBSCRIPTION-JSON-3`: every other member is present, `null` if it has no value.

use super::Patch;
use super::event::AttemptOutcome;
use crate::webhook::{SignatureScheme, SigningKey};
use crate::{EventId, EventTypePattern, RetryPolicy, SubscriptionId, Timestamp};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// A subscription to create.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({
    "target_url": "https://example.com/webhooks",
    "event_types": ["order.*"],
    "description": "the warehouse",
}))]
pub struct NewSubscription {
    /// The URL that webhooks are sent to: absolute, `https` unless the node allows others, without
    /// user and fragment. Addresses that are not public are rejected unless the node allows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    pub target_url: Option<String>,
    /// The name of `target_url` in REST hooks; one of the two is required.
    #[serde(rename = "targetUrl", skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    pub target_url_of_rest_hooks: Option<String>,
    /// Event types, or prefixes such as `order.*`; every type if absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    pub event_types: Option<Vec<EventTypePattern>>,
    /// A note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub description: Option<String>,
    /// The signing key: `whsec_` and 24 to 64 bytes in base64, or `whsk_` and an ed25519 key;
    /// generated if absent.
    #[serde(serialize_with = "revealed", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub secret: Option<SigningKey>,
    /// How webhooks are signed; if absent, as the secret's kind requires, or `hmac-sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature_scheme: Option<SignatureScheme>,
    /// When a failed delivery is retried; the tenant's policy if absent. Only admins may set more
    /// than 24 hours in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Maximum number of its webhooks in flight; 32 if absent.
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
    /// The name of `target_url` in REST hooks.
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
    /// When a failed delivery is retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RetryPolicy>)]
    pub retry_policy: Patch<RetryPolicy>,
    /// Maximum number of its webhooks in flight.
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
    /// The new key, `whsec_…` or `whsk_…`; generated, of the same kind as the old one, if absent.
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
    /// Event types, or prefixes such as `order.*`; empty means every type.
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
    /// Time since which every attempt has failed.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub failing_since: Option<Timestamp>,
    /// Time before which no attempt begins, as its endpoint asked with `Retry-After`.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub held_until: Option<Timestamp>,
    /// How webhooks are signed.
    pub signature_scheme: SignatureScheme,
    /// The public key that checks signatures of `ed25519`, `whpk_…`.
    #[schema(required = true)]
    pub public_key: Option<String>,
    /// The secret that checks signatures of `hmac-sha256`, `whsec_…`; only in the response that
    /// creates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub secret: Option<String>,
    /// Its own retry policy; null means the tenant's.
    #[schema(required = true)]
    pub retry_policy: Option<RetryPolicy>,
    /// Maximum number of its webhooks in flight.
    pub max_in_flight: u32,
    /// Time at which it was created.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Time of the last change.
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
    /// A client requested it.
    Requested,
}

/// The outcome of a webhook that was sent to test a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionTest {
    /// Whether the endpoint accepted it.
    pub delivered: bool,
    /// The endpoint's HTTP status; null if no answer came.
    #[schema(required = true)]
    pub http_status: Option<u16>,
    /// The error, if it failed.
    #[schema(required = true)]
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// Which events a subscription gets that it has missed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({"since": "2026-01-01T00:00:00Z"}))]
pub struct SubscriptionRecovery {
    /// Events accepted at this time or later.
    #[schema(value_type = String, format = "date-time")]
    pub since: Timestamp,
    /// Where to begin, from the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The outcome of a recovery.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RecoveryAnswer {
    /// Whether the events were only counted.
    pub dry_run: bool,
    /// Number of events that are on their way to the subscription now, or would be.
    pub recovered: u64,
    /// Whether there may be more events: repeat the request with `cursor`.
    pub has_more: bool,
    /// Cursor for the next request; null if there are no more events.
    #[schema(required = true)]
    pub cursor: Option<String>,
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
    /// The error, if it failed.
    #[schema(required = true)]
    pub error: Option<String>,
}
