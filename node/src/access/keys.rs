//! Creates, lists, rotates and revokes keys.
//!
//! - `KEY-LOOKUP-1`: a transaction that runs again after an unknown outcome gives the same answer.
//! - `KEY-LOOKUP-2`: an answered change is in effect on this node.
//! - `KEY-LOOKUP-3`: expired keys make room when a tenant has the maximum number of keys.
//!
//! The caller checks the rights. `tenant: Some(_)` limits a call to the keys of that tenant: keys
//! of others are reported as not found.

use super::Access;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::model::TableError;
use triggers_actors::model::access::{self, Created};
use triggers_actors::model::rows::KeyRow;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{KeyHash, TenantId, Timestamp};
use triggers_store::kv::{Run, Transaction};

/// The new properties of a key that replaces another.
#[derive(Debug, Clone)]
pub struct Successor {
    /// Id of the new key.
    pub id: [u8; 16],
    /// Hash of the new key.
    pub hash: KeyHash,
    /// First characters of the new key.
    pub hint: String,
    /// Time of creation.
    pub created_at: Timestamp,
}

/// Outcome of a rotation.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotation {
    /// The new key; all fields not in [`Successor`] are those of the old one.
    Rotated(Box<KeyRow>),
    /// The key does not exist or has expired.
    NotFound,
    /// The tenant has the maximum number of keys.
    TooMany,
}

impl Access {
    /// Stores a new key.
    pub async fn create_key(&self, row: KeyRow, deadline: Instant) -> Result<Created, TableError> {
        let created =
            self.store.run(Run::idempotent(deadline), |tx| Box::pin(create(tx, &row))).await;
        self.forget(row.hash);
        created
    }

    /// The key with this id.
    pub async fn get_key(
        &self,
        id: [u8; 16],
        deadline: Instant,
    ) -> Result<Option<KeyRow>, TableError> {
        self.store.run(Run::idempotent(deadline), |tx| Box::pin(access::get_key(tx, id))).await
    }

    /// The keys of a tenant, oldest first.
    pub async fn list_keys(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<Vec<KeyRow>, TableError> {
        self.store
            .run(Run::idempotent(deadline), |tx| Box::pin(access::list_keys(tx, tenant)))
            .await
    }

    /// Creates a successor of a key. The old key stops working after `grace`.
    pub async fn rotate_key(
        &self,
        id: [u8; 16],
        tenant: Option<&TenantId>,
        successor: Successor,
        grace: Duration,
        deadline: Instant,
    ) -> Result<Rotation, TableError> {
        let rotation =
            Rotate { id, tenant, successor: &successor, grace, old_hash: OnceLock::new() };
        let rotated =
            self.store.run(Run::idempotent(deadline), |tx| Box::pin(rotation.run(tx))).await;
        let old_hash = rotation.old_hash.get();
        old_hash.into_iter().chain([&successor.hash]).for_each(|hash| self.forget(*hash));
        rotated
    }

    /// Removes a key. On this node it stops working at once.
    pub async fn revoke_key(
        &self,
        id: [u8; 16],
        tenant: Option<&TenantId>,
        deadline: Instant,
    ) -> Result<Option<KeyRow>, TableError> {
        let nonce = self.store.environment().bytes();
        let revocation = Revoke { id, tenant, nonce, seen: OnceLock::new() };
        let revoked =
            self.store.run(Run::idempotent(deadline), |tx| Box::pin(revocation.run(tx))).await;
        let seen = revocation.seen.into_inner();
        if let Some(row) = &seen {
            self.forget(row.hash);
        }
        let is_removed: bool = revoked?;
        Ok(seen.filter(|_| is_removed))
    }
}

/// Stores a key. If the tenant has the maximum number, its expired keys are removed first.
async fn create(tx: &mut dyn Transaction, row: &KeyRow) -> Result<Created, TableError> {
    let created = access::create_key(tx, row).await?;
    if created != Created::TooMany {
        return Ok(created);
    }
    for other in access::list_keys(tx, &row.tenant).await? {
        if other.is_expired(row.created_at) {
            access::delete_key(tx, &other);
        }
    }
    access::create_key(tx, row).await
}

/// The key with this id, if it belongs to `tenant` or `tenant` is `None`.
async fn find(
    tx: &mut dyn Transaction,
    id: [u8; 16],
    tenant: Option<&TenantId>,
) -> Result<Option<KeyRow>, TableError> {
    let row = access::get_key(tx, id).await?;
    Ok(row.filter(|row| tenant.is_none_or(|tenant| row.tenant == *tenant)))
}

/// One rotation, over all attempts of its transaction.
struct Rotate<'a> {
    id: [u8; 16],
    tenant: Option<&'a TenantId>,
    successor: &'a Successor,
    grace: Duration,
    /// Set once an attempt has found the old key.
    old_hash: OnceLock<KeyHash>,
}

impl Rotate<'_> {
    async fn run(&self, tx: &mut dyn Transaction) -> Result<Rotation, TableError> {
        let Successor { id, hash, hint, created_at: now } = self.successor.clone();
        if let Some(created) = access::get_key(tx, id).await? {
            return Ok(Rotation::Rotated(Box::new(created)));
        }
        let old = find(tx, self.id, self.tenant).await?.filter(|old| !old.is_expired(now));
        let Some(old) = old else { return Ok(Rotation::NotFound) };
        self.old_hash.get_or_init(|| old.hash);
        let new = KeyRow { id, hash, hint, created_at: now, replaced_at: None, ..old.clone() };
        if self.grace.is_zero() {
            // Deleted first, so that the new key fits within the maximum.
            access::delete_key(tx, &old);
        }
        match create(tx, &new).await? {
            Created::Yes => {}
            Created::TooMany => return Ok(Rotation::TooMany),
            Created::Exists | Created::NoTenant => return Ok(Rotation::NotFound),
        }
        if !self.grace.is_zero() {
            // A key that is replaced twice ends at the earlier time.
            let end = now.plus(self.grace);
            let replaced_at = Some(old.replaced_at.map_or(end, |earlier| earlier.min(end)));
            access::update_key(tx, &KeyRow { replaced_at, ..old });
        }
        Ok(Rotation::Rotated(Box::new(new)))
    }
}

/// One revocation, over all attempts of its transaction.
pub(super) struct Revoke<'a> {
    pub(super) id: [u8; 16],
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) nonce: [u8; 16],
    /// Set once an attempt has found the key.
    pub(super) seen: OnceLock<KeyRow>,
}

impl Revoke<'_> {
    /// Returns true if this request removed the key.
    pub(super) async fn run(&self, tx: &mut dyn Transaction) -> Result<bool, TableError> {
        if let Some(row) = find(tx, self.id, self.tenant).await? {
            access::revoke_key(tx, &row, self.nonce).await?;
            self.seen.get_or_init(|| row);
            return Ok(true);
        }
        // After an unknown commit, this request or another one has removed the key.
        match self.seen.get() {
            Some(_) if is_planted(Bug::RevokedByBoth) => Ok(true),
            Some(row) => access::was_revoked_by(tx, &row.tenant, self.nonce).await,
            None => Ok(false),
        }
    }
}
