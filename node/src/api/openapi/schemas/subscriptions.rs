//! What requests about subscriptions look like, for the OpenAPI document.
//!
//! Invariant: `SUBSCRIPTION-SCHEMAS-1` the example of each type is accepted by the parser of its handler, which tests check. They
//! are not used at run time; handlers read bodies member by member.

use super::RetryPolicySchema;
use crate::api::subscriptions::{SchemeName, StatusName};
use utoipa::ToSchema;

/// A subscription to make.
#[derive(ToSchema)]
#[schema(example = json!({"target_url": "https://example.com/webhooks", "event_types": ["order.*"], "description": "the warehouse"}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct NewSubscription {
    /// Where webhooks go: an absolute URL, `https` unless the node allows others, without user and fragment. Addresses
    /// that are not public are refused unless the node allows them.
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    target_url: Option<String>,
    /// The same, as REST hooks spell it; one of the two is required.
    #[schema(rename = "targetUrl", max_length = 2_048, format = "uri", nullable = false)]
    target_url_of_rest_hooks: Option<String>,
    /// Event types, or prefixes such as `order.*`; everything if absent or empty.
    #[schema(max_items = 100)]
    event_types: Option<Vec<String>>,
    /// A note for people.
    #[schema(max_length = 200)]
    description: Option<String>,
    /// The key to sign with: `whsec_` and 24 to 64 bytes in base64, or `whsk_` and an ed25519 key; made if absent.
    secret: Option<String>,
    /// How webhooks are signed; as the secret says, or `hmac-sha256`, if absent.
    signature_scheme: Option<SchemeName>,
    /// When a failed delivery is tried again; as the tenant's policy says if absent. More than 24 hours in all are for
    /// admins.
    retry_policy: Option<RetryPolicySchema>,
    /// Webhooks that may be on their way to it at the same time; 32 if absent.
    #[schema(minimum = 1, maximum = 1_000)]
    max_in_flight: Option<u32>,
}

/// A change of a subscription.
#[derive(ToSchema)]
#[schema(example = json!({"event_types": ["order.*", "invoice.paid"], "status": "active"}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct SubscriptionPatch {
    /// Where webhooks go.
    #[schema(max_length = 2_048, format = "uri", nullable = false)]
    target_url: Option<String>,
    /// The same, as REST hooks spell it.
    #[schema(rename = "targetUrl", max_length = 2_048, format = "uri", nullable = false)]
    target_url_of_rest_hooks: Option<String>,
    /// Event types, or prefixes such as `order.*`; all of them are replaced.
    #[schema(max_items = 100)]
    event_types: Option<Vec<String>>,
    /// A note for people.
    #[schema(max_length = 200)]
    description: Option<String>,
    /// When a failed delivery is tried again.
    retry_policy: Option<RetryPolicySchema>,
    /// Webhooks that may be on their way to it at the same time.
    #[schema(minimum = 1, maximum = 1_000)]
    max_in_flight: Option<u32>,
    /// Whether events are sent to it.
    #[schema(nullable = false)]
    status: Option<StatusName>,
}

/// How a subscription's key is rotated.
#[derive(ToSchema)]
#[schema(example = json!({"grace_seconds": 3600}))]
#[expect(dead_code, reason = "it describes; see the file header")]
pub(crate) struct SecretRotation {
    /// The new key, `whsec_…` or `whsk_…`; made, of the same kind as the old one, if absent.
    secret: Option<String>,
    /// How long the old key signs as well, in seconds; 86,400 if absent.
    #[schema(minimum = 0, maximum = 604_800)]
    grace_seconds: Option<u32>,
}
