//! Tenants and their settings.

use super::Patch;
use crate::{RetryPolicy, TenantId, Timestamp};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A tenant to create.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "acme",
    "name": "Acme Ltd",
    "tier": "beta",
    "retention_days": 90,
}))]
pub struct NewTenant {
    /// 1 to 63 characters; generated if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9_-]{0,62}$")]
    pub id: Option<TenantId>,
    /// A name for people.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// The tier, which sets the request rate of its keys; the default rate if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// How long events are kept, in days; 30 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 365)]
    pub retention_days: Option<u16>,
    /// Maximum number of waiting events; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_inbox_events: Option<u64>,
    /// When a failed delivery is retried; after 1 min, 5 min, 30 min and 2 h if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Feature flags by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<BTreeMap<String, bool>>,
}

/// A change of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(example = json!({"max_inbox_events": 5_000_000}))]
pub struct TenantPatch {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    pub name: Option<String>,
    /// The tier, which sets the request rate of its keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Tier>)]
    pub tier: Patch<Tier>,
    /// How long events are kept, in days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 365)]
    pub retention_days: Patch<u16>,
    /// Maximum number of waiting events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub max_inbox_events: Patch<u64>,
    /// When a failed delivery is retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RetryPolicy>)]
    pub retry_policy: Patch<RetryPolicy>,
    /// Feature flags; all of them are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, bool>>)]
    pub flags: Patch<BTreeMap<String, bool>>,
}

/// `standard`: 10 requests a second; `beta`: 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// 10 requests a second.
    Standard,
    /// 100 requests a second.
    Beta,
}

/// A tenant and its settings.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// The tenant's id.
    #[schema(value_type = String, example = "acme")]
    pub id: TenantId,
    /// A name for people.
    pub name: String,
    /// The tier, which sets the request rate of its keys; null means the default.
    #[schema(required = true)]
    pub tier: Option<Tier>,
    /// How long events are kept, in days.
    pub retention_days: u16,
    /// Maximum number of waiting events; null means no limit.
    #[schema(required = true)]
    pub max_inbox_events: Option<u64>,
    /// The tenant's own retry policy; null means the default.
    #[schema(required = true)]
    pub retry_policy: Option<RetryPolicy>,
    /// Feature flags by name.
    pub flags: BTreeMap<String, bool>,
    /// Time at which it was created.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// Time of the last change.
    #[schema(value_type = String, format = "date-time")]
    pub updated_at: Timestamp,
}

/// A page of tenants.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TenantList {
    /// The tenants, in the order of their ids.
    pub tenants: Vec<Tenant>,
    /// Cursor of the next page; null if there is none.
    #[schema(required = true)]
    pub cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}
