//! Making, listing, rotating and revoking keys.
//!
//! Invariants: `KEY-LOOKUP-1` every transaction can run again after an unknown outcome and gives the same answer; `KEY-LOOKUP-2` an
//! answered change is in effect on this node; `KEY-LOOKUP-3` expired keys make room when a tenant has as many keys as it may.
//! Whoever calls decides who may do it; a `tenant` of `Some` limits a call to that tenant's keys, so that another
//! tenant's key is as unknown as one that never was.

use super::Access;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::{KeyHash, TenantId, Timestamp};
use triggers_store::kv::{Run, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::access::{self, Created};
use triggers_store::tables::rows::KeyRow;

/// What is new about the key that replaces another.
#[derive(Debug, Clone)]
pub struct Successor {
    /// Its id.
    pub id: [u8; 16],
    /// Its hash.
    pub hash: KeyHash,
    /// Its first characters.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What became of a rotation.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotation {
    /// The new key, in everything but [`Successor`]'s fields like the old one.
    Rotated(Box<KeyRow>),
    /// There is no such key, or it has expired.
    NotFound,
    /// The tenant has as many keys as it may.
    TooMany,
}

impl Access {
    /// Stores a new key.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn create_key(&self, row: KeyRow, deadline: Instant) -> Result<Created, TableError> {
        let hash = row.hash;
        let row = Arc::new(row);
        let created = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let row = row.clone();
            Box::pin(async move { create(tx, &row).await })
        });
        let created = created.await;
        self.forget(hash);
        created
    }

    /// The key with this id.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn get_key(
        &self,
        id: [u8; 16],
        deadline: Instant,
    ) -> Result<Option<KeyRow>, TableError> {
        self.0
            .store
            .run(Run::idempotent(deadline), move |tx| Box::pin(access::get_key(tx, id)))
            .await
    }

    /// The keys of a tenant, oldest first.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn list_keys(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<Vec<KeyRow>, TableError> {
        let tenant = tenant.clone();
        let list = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let tenant = tenant.clone();
            Box::pin(async move { access::list_keys(tx, &tenant).await })
        });
        list.await
    }

    /// Makes a successor of a key; the old one is refused after `grace`, at once if that is zero.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn rotate_key(
        &self,
        id: [u8; 16],
        tenant: Option<&TenantId>,
        successor: Successor,
        grace: Duration,
        deadline: Instant,
    ) -> Result<Rotation, TableError> {
        let turn = Arc::new(Turn {
            id,
            tenant: tenant.cloned(),
            grace,
            old_hash: Mutex::new(None),
            successor,
        });
        let shared = turn.clone();
        let rotation = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let turn = shared.clone();
            Box::pin(async move { rotate(tx, &turn).await })
        });
        let rotation = rotation.await;
        let old_hash = *turn.old_hash.lock().unwrap_or_else(PoisonError::into_inner);
        old_hash.into_iter().chain([turn.successor.hash]).for_each(|hash| self.forget(hash));
        rotation
    }

    /// Removes a key; it is refused at once on this node.
    ///
    /// # Errors
    /// [`TableError::Store`].
    pub async fn revoke_key(
        &self,
        id: [u8; 16],
        tenant: Option<&TenantId>,
        deadline: Instant,
    ) -> Result<Option<KeyRow>, TableError> {
        let tenant = tenant.cloned();
        // Kept over the attempts: after an unknown outcome the key may be gone, and it was this call that removed it.
        let seen = Arc::new(Mutex::new(None));
        let shared = seen.clone();
        let outcome = self.0.store.run(Run::idempotent(deadline), move |tx| {
            let (tenant, seen) = (tenant.clone(), shared.clone());
            Box::pin(async move { revoke(tx, id, tenant.as_ref(), &seen).await })
        });
        let outcome: Result<(), TableError> = outcome.await;
        let seen: Option<KeyRow> = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(row) = &seen {
            self.forget(row.hash);
        }
        outcome.map(|()| seen)
    }
}

/// One rotation, over all its attempts.
struct Turn {
    id: [u8; 16],
    tenant: Option<TenantId>,
    successor: Successor,
    grace: Duration,
    old_hash: Mutex<Option<KeyHash>>,
}

/// Stores a key; if the tenant is full, its expired keys go first.
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

/// The key with this id, if it is of that tenant or any will do.
async fn find(
    tx: &mut dyn Transaction,
    id: [u8; 16],
    tenant: Option<&TenantId>,
) -> Result<Option<KeyRow>, TableError> {
    let row = access::get_key(tx, id).await?;
    Ok(row.filter(|row| tenant.is_none_or(|tenant| row.tenant == *tenant)))
}

async fn rotate(tx: &mut dyn Transaction, turn: &Turn) -> Result<Rotation, TableError> {
    if let Some(made) = access::get_key(tx, turn.successor.id).await? {
        return Ok(Rotation::Rotated(Box::new(made)));
    }
    let now = turn.successor.created_at;
    let old = find(tx, turn.id, turn.tenant.as_ref()).await?.filter(|old| !old.is_expired(now));
    let Some(old) = old else { return Ok(Rotation::NotFound) };
    *turn.old_hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(old.hash);
    let Successor { id, hash, hint, created_at } = turn.successor.clone();
    let new = KeyRow { id, hash, hint, created_at, replaced_at: None, ..old.clone() };
    if turn.grace.is_zero() {
        // First, so that its place is free for the new one.
        access::delete_key(tx, &old);
    }
    match create(tx, &new).await? {
        Created::Yes => {}
        Created::TooMany => return Ok(Rotation::TooMany),
        Created::Exists | Created::NoTenant => return Ok(Rotation::NotFound),
    }
    if !turn.grace.is_zero() {
        // Replaced twice, it ends when it was to end first.
        let end = now.plus(turn.grace);
        let replaced_at = Some(old.replaced_at.map_or(end, |earlier| earlier.min(end)));
        access::update_key(tx, &KeyRow { replaced_at, ..old });
    }
    Ok(Rotation::Rotated(Box::new(new)))
}

async fn revoke(
    tx: &mut dyn Transaction,
    id: [u8; 16],
    tenant: Option<&TenantId>,
    seen: &Mutex<Option<KeyRow>>,
) -> Result<(), TableError> {
    if let Some(row) = find(tx, id, tenant).await? {
        access::delete_key(tx, &row);
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(row);
    }
    Ok(())
}
