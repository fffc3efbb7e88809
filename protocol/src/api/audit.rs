//! The audit: who did what to a tenant's subscriptions.

use crate::Timestamp;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of the audit.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// Where the next page begins; null if there is none.
    #[schema(required = true)]
    pub cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

/// One change of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When it was done.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Who did it.
    pub actor: AuditActor,
    /// What was done.
    pub action: AuditAction,
    /// The id of the subscription.
    pub target: String,
    /// The reason, or the settings that were changed, in words.
    pub detail: String,
    /// The sender's address; null if the broker made the change.
    #[schema(required = true)]
    pub source_ip: Option<String>,
    /// The request's id; null if the broker made the change.
    #[schema(required = true)]
    pub request_id: Option<String>,
}

/// The author of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum AuditActor {
    /// The holder of a key.
    Key {
        /// The key's id.
        #[schema(format = "uuid")]
        id: String,
    },
    /// The broker itself.
    Broker,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
pub enum AuditAction {
    /// A subscription was made.
    #[serde(rename = "subscription.created")]
    SubscriptionCreated,
    /// A subscription was changed.
    #[serde(rename = "subscription.updated")]
    SubscriptionUpdated,
    /// A subscription got a new secret.
    #[serde(rename = "subscription.rotated")]
    SubscriptionRotated,
    /// A subscription was disabled.
    #[serde(rename = "subscription.disabled")]
    SubscriptionDisabled,
    /// A subscription was removed.
    #[serde(rename = "subscription.deleted")]
    SubscriptionDeleted,
}
