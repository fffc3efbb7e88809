//! Builds the JSON form of a stored key.

use triggers_actors::model::rows::KeyRow;
use triggers_protocol::api::Key;
use triggers_protocol::{ApiKey, EventId};

/// Approximate bytes of one key's JSON.
pub(super) const KEY_BYTES: usize = 512;

/// The key's JSON form, with the plain key in the response that makes it: `KEY-JSON-1`.
pub(super) fn key_json(row: &KeyRow, plain: Option<&ApiKey>) -> Key {
    Key {
        id: EventId::from_bytes(row.id).to_string(),
        name: row.name.clone(),
        tenant_id: row.tenant.to_string(),
        key: plain.map(|key| key.reveal().to_owned()),
        prefix: row.hint.clone(),
        scopes: row.scopes.iter().collect(),
        rate_limit_per_minute: row.rate_limit_per_minute,
        created_at: row.created_at,
        expires_at: row.ends_at(),
    }
}
