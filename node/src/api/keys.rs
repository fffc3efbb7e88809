//! API keys: create, list, rotate, revoke.
//!
//! - `KEYS-EDGE-1`: a key cannot give more than it has, whether it makes a key or rotates one:
//!   neither scopes, nor tenant, nor rate, nor time. An admin's key can.
//! - `KEYS-EDGE-2`: the plain key is only in the response that makes it.
//! - `KEYS-EDGE-3`: another tenant's key is 404, except to an admin.

pub(super) mod request;
#[cfg(test)]
mod tests;

use super::tenants;
use crate::access::{Created, Rotation, Successor};
use crate::api::prelude::*;
use crate::http::rate_limit::Rate;
use std::time::Duration;
use triggers_actors::model::access::KEYS_PER_TENANT_MAX;
use triggers_actors::model::rows::KeyRow;
use triggers_protocol::api::{Key, KeyList, KeyRotation, NewKey};
use triggers_protocol::{ApiKey, ErrorCode, EventId, Scope, Scopes, TenantId, Timestamp};

/// Approximate bytes of one key's JSON.
const KEY_BYTES: usize = 512;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(create_key, list_keys))
        .routes(routes!(revoke_key))
        .routes(routes!(rotate_key))
}

/// The key's JSON form, with the plain key in the response that makes it: `KEY-JSON-1`.
fn key_json(row: &KeyRow, plain: Option<&ApiKey>) -> Key {
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

/// Make a key
///
/// The response is the only place that ever shows the key. Without `scopes` it gets those of the
/// key that makes it, but never `admin`. A key of another tenant can be made by an admin.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", operation_id = "createKey",
    request_body(content = NewKey, content_type = "application/json"),
    responses(
        (status = 201, description = "The key, shown this once", body = Key),
        (status = 404, description = "There is no such tenant"),
        (status = 409, description = "The tenant has as many keys as it may"),
    ),
    security(("api_key" = ["keys:manage"]), ("bearer" = ["keys:manage"])),
)]
async fn create_key(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<KeysManage>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let now = edge.environment.now();
    let asked = request::new_key(body.required(), now)?;
    let tenant = tenant_of(&caller, asked.tenant_id)?;
    let scopes = asked.scopes.map(Scopes::from_iter).unwrap_or_else(|| default_scopes(&caller));
    allow_scopes(&caller, scopes)?;
    let own = (!caller.is_admin()).then_some(&caller.key.key);
    let rate_limit_per_minute =
        asked.rate_limit_per_minute.or(own.and_then(|own| own.rate_limit_per_minute));
    allow_rate(&caller, rate_limit_per_minute, edge.options.limits.rate_limit_per_minute)?;
    let own_end = own.and_then(KeyRow::ends_at);
    let key = ApiKey::generate(caller.key.key.kind, &edge.environment);
    let row = KeyRow {
        id: new_id(&edge),
        hash: key.hash(),
        tenant,
        name: asked.name,
        kind: caller.key.key.kind,
        hint: key.hint(),
        scopes,
        rate_limit_per_minute,
        created_at: now,
        expires_at: [asked.expires_at, own_end].into_iter().flatten().min(),
        replaced_at: None,
    };
    match edge.access.create_key(row.clone(), edge.deadline()).await? {
        Created::Yes => respond(StatusCode::CREATED, &key_json(&row, Some(&key)), KEY_BYTES),
        Created::NoTenant => Err(ApiError::not_found("tenant")),
        Created::TooMany => Err(too_many()),
        Created::Exists => Err(ApiError::internal("a key's hash was made twice")),
    }
}

fn too_many() -> ApiError {
    let message = format!(
        "the tenant has {KEYS_PER_TENANT_MAX} keys, which is as many as it may; revoke one first"
    );
    ApiError::new(ErrorCode::Conflict, message)
}

/// A new UUIDv7.
fn new_id(edge: &EdgeState) -> [u8; 16] {
    EventId::mint(EventId::ZERO, edge.environment.now(), edge.environment.bytes()).to_bytes()
}

/// The tenant of a new key: the caller's own, or the one that an admin names.
fn tenant_of(caller: &Caller, named: Option<TenantId>) -> Result<TenantId, ApiError> {
    match named {
        Some(named) if named != caller.tenant && !caller.is_admin() => {
            Err(ApiError::not_found("tenant"))
        }
        Some(named) => Ok(named),
        None => Ok(caller.tenant.clone()),
    }
}

/// The scopes of the caller's key, without `admin`.
fn default_scopes(caller: &Caller) -> Scopes {
    let own = caller.key.key.scopes;
    Scopes::tenant_default().iter().filter(|scope| own.allows(*scope)).collect()
}

fn allow(is_allowed: bool, message: impl Into<String>) -> Result<(), ApiError> {
    if is_allowed { Ok(()) } else { Err(ApiError::new(ErrorCode::Forbidden, message)) }
}

fn allow_scopes(caller: &Caller, scopes: Scopes) -> Result<(), ApiError> {
    let is_allowed = caller.key.key.scopes.covers(scopes);
    allow(is_allowed, "a key cannot give scopes that it does not have")
}

/// Only an admin can give a rate above the caller's own. A key without a rate has its tier's.
fn allow_rate(caller: &Caller, rate: Option<u32>, default: u32) -> Result<(), ApiError> {
    let per_minute = |own| Rate::of(own, caller.key.tenant.tier, default).per_minute;
    let most = per_minute(caller.key.key.rate_limit_per_minute);
    let is_allowed = caller.is_admin() || per_minute(rate) <= most;
    allow(is_allowed, format!("only an admin can set a rate above {most} requests a minute"))
}

/// Only an admin can rotate a key that lasts longer than the caller's own. So a key in its grace
/// period cannot renew itself.
fn allow_end(caller: &Caller, end: Option<Timestamp>) -> Result<(), ApiError> {
    let own = caller.key.key.ends_at();
    let is_allowed = caller.is_admin() || own.is_none_or(|own| end.is_some_and(|end| end <= own));
    allow(is_allowed, "only an admin can rotate a key that lasts longer than the caller's own")
}

/// List the keys
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "listKeys",
    params(
        ("tenant_id" = Option<String>, Query, description = "Another tenant's keys, for an admin"),
    ),
    responses(
        (status = 200, description = "The keys, without their secrets", body = KeyList),
        (status = 404, description = "There is no such tenant"),
    ),
    security(("api_key" = ["keys:manage"]), ("bearer" = ["keys:manage"])),
)]
async fn list_keys(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<KeysManage>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let [values] = query::parameters(query.as_deref(), ["tenant_id"]);
    let mut faults = Faults::default();
    let named = query::once("tenant_id", &values, &mut faults);
    faults.check()?;
    let tenant = tenants::visible(&edge, &caller, named).await?;
    let rows = edge.access.list_keys(&tenant, edge.deadline()).await?;
    let keys = rows.iter().map(|row| key_json(row, None)).collect();
    respond(StatusCode::OK, &KeyList { keys }, KEY_BYTES * rows.len() + 16)
}

/// The key id in a path.
fn key_id(PathId(text): &PathId) -> Result<[u8; 16], ApiError> {
    EventId::parse(text).map(EventId::to_bytes).map_err(|_| ApiError::not_found("key"))
}

/// The tenant whose keys the caller may change; `None` for all tenants.
fn reach(caller: &Caller) -> Option<&TenantId> {
    (!caller.is_admin()).then_some(&caller.tenant)
}

/// The key, if the caller may see it.
async fn reachable(edge: &EdgeState, caller: &Caller, id: [u8; 16]) -> Result<KeyRow, ApiError> {
    let row = edge.access.get_key(id, edge.deadline()).await?;
    let row = row.filter(|row| reach(caller).is_none_or(|tenant| row.tenant == *tenant));
    row.ok_or_else(|| ApiError::not_found("key"))
}

/// Rotate a key
///
/// Makes a successor with the same name, scopes and rate. The old key works on for the grace
/// period.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", tag = "keys", operation_id = "rotateKey",
    params(("id" = String, Path, description = "The key's id", format = "uuid")),
    request_body(content = Option<KeyRotation>, content_type = "application/json"),
    responses(
        (status = 201, description = "The new key, shown this once", body = Key),
        (status = 409, description = "The tenant has as many keys as it may"),
    ),
    security(("api_key" = ["keys:manage"]), ("bearer" = ["keys:manage"])),
)]
async fn rotate_key(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<KeysManage>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = key_id(&id)?;
    let body = JsonBody::read(request, &edge).await?;
    let asked = request::rotation(body.optional())?;
    let grace = Duration::from_secs(asked.grace_seconds.unwrap_or(0).into());
    let old = reachable(&edge, &caller, id).await?;
    allow_scopes(&caller, old.scopes)?;
    allow_rate(&caller, old.rate_limit_per_minute, edge.options.limits.rate_limit_per_minute)?;
    allow_end(&caller, old.expires_at)?;
    let key = ApiKey::generate(old.kind, &edge.environment);
    let successor = Successor {
        id: new_id(&edge),
        hash: key.hash(),
        hint: key.hint(),
        created_at: edge.environment.now(),
    };
    match edge.access.rotate_key(id, reach(&caller), successor, grace, edge.deadline()).await? {
        Rotation::Rotated(row) => {
            respond(StatusCode::CREATED, &key_json(&row, Some(&key)), KEY_BYTES)
        }
        Rotation::NotFound => Err(ApiError::not_found("key")),
        Rotation::TooMany => Err(too_many()),
    }
}

/// Revoke a key
///
/// Every node refuses it within a second.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "revokeKey",
    params(("id" = String, Path, description = "The key's id", format = "uuid")),
    responses((status = 204, description = "It is revoked")),
    security(("api_key" = ["keys:manage"]), ("bearer" = ["keys:manage"])),
)]
async fn revoke_key(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<KeysManage>,
    id: PathId,
) -> Result<StatusCode, ApiError> {
    let id = key_id(&id)?;
    let row = reachable(&edge, &caller, id).await?;
    let is_allowed = caller.is_admin() || !row.scopes.allows(Scope::Admin);
    allow(is_allowed, "only an admin can revoke an admin's key")?;
    let revoked = edge.access.revoke_key(id, reach(&caller), edge.deadline()).await?;
    revoked.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| ApiError::not_found("key"))
}
