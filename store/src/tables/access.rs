//! Tenants and their API keys. They belong to no partition: any node may read and write them.
//!
//! - `ACCESS-1`: a key's three rows (by hash, by id, by tenant) exist together or not at all.
//! - `ACCESS-2`: a key belongs to a tenant that exists.
//! - `ACCESS-3`: a tenant has at most [`KEYS_PER_TENANT_MAX`] keys.
//! - `ACCESS-4`: of several requests that revoke a key, one finds it; a repeated transaction knows
//!   by the nonce of its request whether that was its own.

use super::rows::{KeyRow, Revocations, Row, TenantRow};
use super::{TableError, keys};
use crate::kv::{RangeRead, Transaction};
use triggers_protocol::{KeyHash, TenantId};

/// API keys that a tenant may have at once.
pub const KEYS_PER_TENANT_MAX: usize = 1_000;
/// Revocations of a tenant that are remembered for requests whose transaction is repeated.
const REVOCATIONS_KEPT_MAX: usize = 32;

/// A key together with its tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// Row of the key.
    pub key: KeyRow,
    /// Row of the key's tenant.
    pub tenant: TenantRow,
}

/// Outcome of storing a new key or tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is stored, by this call or by an earlier one with the same row.
    Yes,
    /// Another row with that hash or id exists.
    Exists,
    /// The tenant does not exist.
    NoTenant,
    /// The tenant has [`KEYS_PER_TENANT_MAX`] keys.
    TooMany,
}

/// Finds the key with this hash and its tenant, if both exist. The key may be expired.
pub async fn find(tx: &mut dyn Transaction, hash: KeyHash) -> Result<Option<Access>, TableError> {
    let Some(key) = tx.get(&keys::api_key(hash)).await? else { return Ok(None) };
    let key = KeyRow::from_bytes(&key)?;
    Ok(get_tenant(tx, &key.tenant).await?.map(|tenant| Access { key, tenant }))
}

/// Stores a new key, unless its tenant is missing or has no room for it.
pub async fn create_key(tx: &mut dyn Transaction, row: &KeyRow) -> Result<Created, TableError> {
    if let Some(stored) = tx.get(&keys::api_key(row.hash)).await? {
        let same = KeyRow::from_bytes(&stored)?.id == row.id;
        return Ok(if same { Created::Yes } else { Created::Exists });
    }
    if get_tenant(tx, &row.tenant).await?.is_none() {
        return Ok(Created::NoTenant);
    }
    let others =
        tx.range(RangeRead::first(keys::tenant_api_keys(&row.tenant), KEYS_PER_TENANT_MAX)).await?;
    if others.pairs.len() == KEYS_PER_TENANT_MAX {
        return Ok(Created::TooMany);
    }
    tx.set(&keys::api_key(row.hash), &row.to_bytes());
    tx.set(&keys::api_key_by_id(row.id), &row.hash.0);
    tx.set(&keys::tenant_api_key(&row.tenant, row.id), &row.hash.0);
    Ok(Created::Yes)
}

/// Finds the key with this id.
pub async fn get_key(tx: &mut dyn Transaction, id: [u8; 16]) -> Result<Option<KeyRow>, TableError> {
    let Some(hash) = tx.get(&keys::api_key_by_id(id)).await? else { return Ok(None) };
    key_at(tx, &hash).await
}

/// Lists the keys of a tenant, oldest first.
pub async fn list_keys(
    tx: &mut dyn Transaction,
    tenant: &TenantId,
) -> Result<Vec<KeyRow>, TableError> {
    let page =
        tx.range(RangeRead::first(keys::tenant_api_keys(tenant), KEYS_PER_TENANT_MAX)).await?;
    let mut rows = Vec::with_capacity(page.pairs.len());
    for (_, hash) in page.pairs {
        rows.extend(key_at(tx, &hash).await?);
    }
    Ok(rows)
}

/// Replaces the row of an existing key, whose id, hash and tenant must stay the same.
pub fn update_key(tx: &mut dyn Transaction, row: &KeyRow) {
    tx.set(&keys::api_key(row.hash), &row.to_bytes());
}

/// Removes the three rows of a key.
pub fn delete_key(tx: &mut dyn Transaction, row: &KeyRow) {
    tx.clear(&keys::api_key(row.hash));
    tx.clear(&keys::api_key_by_id(row.id));
    tx.clear(&keys::tenant_api_key(&row.tenant, row.id));
}

/// Removes a key, with the nonce of the request.
///
/// # Errors
/// [`TableError::Store`].
pub async fn revoke_key(
    tx: &mut dyn Transaction,
    row: &KeyRow,
    nonce: [u8; 16],
) -> Result<(), TableError> {
    let mut revocations = revocations(tx, &row.tenant).await?;
    revocations.0.truncate(REVOCATIONS_KEPT_MAX - 1);
    revocations.0.insert(0, nonce);
    tx.set(&keys::revocations(&row.tenant), &revocations.to_bytes());
    delete_key(tx, row);
    Ok(())
}

/// Tells whether [`revoke_key`] with this nonce was committed. Only the last 32 revocations of the
/// tenant are known.
///
/// # Errors
/// [`TableError::Store`].
pub async fn was_revoked_by(
    tx: &mut dyn Transaction,
    tenant: &TenantId,
    nonce: [u8; 16],
) -> Result<bool, TableError> {
    Ok(revocations(tx, tenant).await?.0.contains(&nonce))
}

async fn revocations(
    tx: &mut dyn Transaction,
    tenant: &TenantId,
) -> Result<Revocations, TableError> {
    let row = tx.get(&keys::revocations(tenant)).await?;
    Ok(row.map(|bytes| Revocations::from_bytes(&bytes)).transpose()?.unwrap_or_default())
}

async fn key_at(tx: &mut dyn Transaction, hash: &[u8]) -> Result<Option<KeyRow>, TableError> {
    let Ok(hash) = hash.try_into() else { return Ok(None) };
    let row = tx.get(&keys::api_key(KeyHash(hash))).await?;
    Ok(row.map(|bytes| KeyRow::from_bytes(&bytes)).transpose()?)
}

/// Finds the tenant with this id.
pub async fn get_tenant(
    tx: &mut dyn Transaction,
    id: &TenantId,
) -> Result<Option<TenantRow>, TableError> {
    let row = tx.get(&keys::tenant(id)).await?;
    Ok(row.map(|bytes| TenantRow::from_bytes(&bytes)).transpose()?)
}

/// Stores a new tenant. Do not repeat this after an unknown outcome: it would report `Exists`.
pub async fn create_tenant(
    tx: &mut dyn Transaction,
    row: &TenantRow,
) -> Result<Created, TableError> {
    match get_tenant(tx, &row.id).await? {
        Some(_) => Ok(Created::Exists),
        None => {
            put_tenant(tx, row);
            Ok(Created::Yes)
        }
    }
}

/// Replaces a tenant's row.
pub fn put_tenant(tx: &mut dyn Transaction, row: &TenantRow) {
    tx.set(&keys::tenant(&row.id), &row.to_bytes());
}

/// Lists up to `limit` tenants after `after`, ordered by id, and tells whether there are more.
pub async fn list_tenants(
    tx: &mut dyn Transaction,
    after: Option<&TenantId>,
    limit: usize,
) -> Result<(Vec<TenantRow>, bool), TableError> {
    let mut page = tx.range(RangeRead::first(keys::tenants_after(after), limit + 1)).await?;
    let more = page.pairs.len() > limit;
    page.pairs.truncate(limit);
    let rows: Result<Vec<_>, _> =
        page.pairs.iter().map(|(_, value)| TenantRow::from_bytes(value)).collect();
    Ok((rows?, more))
}
