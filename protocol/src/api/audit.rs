//! The audit: the changes of a tenant's subscriptions and their authors.

use crate::Timestamp;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of the audit.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// Cursor of the next page; null if there is none.
    #[schema(required = true)]
    pub cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

/// One change of a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Time of the change.
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// Author of the change.
    pub actor: AuditActor,
    /// Kind of the change.
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

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
pub enum AuditAction {
    /// A subscription was created.
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
    /// A subscription was deleted.
    #[serde(rename = "subscription.deleted")]
    SubscriptionDeleted,
}
