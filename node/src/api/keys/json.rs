//! The JSON form of a key.
//!
//! Invariant: `KEY-JSON-1` the plain key is there only if the caller hands it over, which the handlers that make one do;
//! a stored row could not give it. It borrows from the row.

use crate::api::openapi::schemas::ScopeSchema;
use serde::Serialize;
use triggers_protocol::{ApiKey, EventId, Scope, Timestamp};
use triggers_store::tables::rows::KeyRow;
use utoipa::ToSchema;

/// Bytes of one key's JSON, about.
pub(super) const KEY_BYTES: usize = 512;

/// An API key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyJson<'a> {
    /// The key's id.
    #[schema(format = "uuid")]
    id: String,
    /// A name for people.
    name: &'a str,
    /// The tenant that it belongs to.
    tenant_id: &'a str,
    /// The key itself; only in the response that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<&'a str>,
    /// Its first characters.
    #[schema(example = "trg_live_4fQx")]
    prefix: &'a str,
    /// What it may do.
    #[schema(value_type = Vec<ScopeSchema>, example = json!(["events:write"]))]
    scopes: Vec<&'static str>,
    /// Requests a minute; null if the tenant's tier decides.
    #[schema(required = true)]
    rate_limit_per_minute: Option<u32>,
    /// When it was made.
    #[schema(value_type = String, format = "date-time")]
    created_at: Timestamp,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = "date-time", required = true)]
    expires_at: Option<Timestamp>,
}

/// A tenant's keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyList)]
pub(super) struct KeyList<'a> {
    /// Oldest first.
    #[schema(value_type = Vec<KeyJson<'static>>)]
    pub(super) keys: Vec<KeyJson<'a>>,
}

impl<'a> KeyJson<'a> {
    /// The key's JSON, with the plain key in the response that makes it.
    pub(super) fn of(row: &'a KeyRow, key: Option<&'a ApiKey>) -> Self {
        Self {
            id: EventId::from_bytes(row.id).to_string(),
            name: &row.name,
            tenant_id: row.tenant.as_str(),
            key: key.map(ApiKey::reveal),
            prefix: &row.hint,
            scopes: row.scopes.iter().map(Scope::as_str).collect(),
            rate_limit_per_minute: row.rate_limit_per_minute,
            created_at: row.created_at,
            expires_at: row.ends_at(),
        }
    }
}
