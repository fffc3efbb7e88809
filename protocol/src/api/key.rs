//! API keys.
//!
//! - `KEY-JSON-1`: the plain key is only in the response that creates it.

use crate::{Scope, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A key to create.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(example = json!({"name": "shop backend", "scopes": ["events:write"]}))]
pub struct NewKey {
    /// A name for people.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Another tenant, for an admin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tenant_id: Option<TenantId>,
    /// The permissions of the key; if absent, those of the caller's key without `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// Requests per minute; the tenant's tier decides if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000_000)]
    pub rate_limit_per_minute: Option<u32>,
    /// The time from which it is rejected; never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<Timestamp>,
}

/// How a key is rotated.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({"grace_seconds": 3600}))]
pub struct KeyRotation {
    /// How long the old key stays valid; 0 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 604_800)]
    pub grace_seconds: Option<u32>,
}

/// An API key. It has no `Debug` form because of the plain key.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[schema(description = "An API key.")]
pub struct Key {
    /// The id of the key.
    #[schema(format = "uuid")]
    pub id: String,
    /// A name for people.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant_id: String,
    /// The plain key; only in the response that creates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key: Option<String>,
    /// The first characters of the plain key.
    #[schema(example = "trg_live_4fQx")]
    pub prefix: String,
    /// The permissions of the key.
    #[schema(example = json!(["events:write"]))]
    pub scopes: Vec<Scope>,
    /// Requests per minute; null if the tenant's tier decides.
    #[schema(required = true)]
    pub rate_limit_per_minute: Option<u32>,
    /// Time at which it was created.
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    /// The time from which it is rejected.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    pub expires_at: Option<Timestamp>,
}

/// The keys of a tenant.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The keys, oldest first.
    pub keys: Vec<Key>,
}
