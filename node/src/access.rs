//! Keys and tenants as the edge sees them: look-ups through a bounded cache, and the writes that change them.
//!
//! Invariants: `ACCESS-CACHE-1` what was read from the store is used for `key_cache_ttl_ms` and then read again, so a key
//! that was revoked anywhere stops working within that time; `ACCESS-CACHE-2` what is changed through this node is
//! forgotten here before the change is answered, and a look-up that ran meanwhile is not remembered; `ACCESS-CACHE-3`
//! good and unknown keys are remembered apart, each bounded, so that a flood of unknown ones pushes no good one out;
//! `ACCESS-CACHE-4` at most [`LOOKUPS_MAX`] look-ups run at once, and those that waited look into the cache again.
//! It decides nothing about a request: expiry, rate and scope are checked by the edge.

mod gathering;
mod keys;
mod tenants;

pub use gathering::{Gathering, Place};
pub use keys::{Rotation, Successor};
pub use triggers_store::tables::access::{Access as AccessRow, Created};

use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use triggers_cluster_config::LimitOptions;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{KeyHash, TenantId};
use triggers_store::kv::{Fault, Run, Store, StoreError};
use triggers_store::tables::{TableError, access};

/// Look-ups in the store that run at the same time.
pub const LOOKUPS_MAX: usize = 64;

/// The directory of keys and tenants; cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    store: Store,
    ttl: Duration,
    good: Cache<KeyHash, Remembered>,
    unknown: Cache<KeyHash, Duration>,
    lookups: Semaphore,
    gathering: Arc<Gathering>,
    /// Grows with everything that is forgotten.
    generation: AtomicU64,
}

/// A key as it was read at a monotonic time.
#[derive(Clone)]
struct Remembered {
    row: Arc<AccessRow>,
    read_at: Duration,
}

impl Access {
    /// A directory on a store, with the cache's limits.
    pub fn new(store: Store, limits: &LimitOptions) -> Self {
        Self(Arc::new(Inner {
            store,
            ttl: Duration::from_millis(limits.key_cache_ttl_ms),
            good: Cache::new(limits.key_cache_max),
            unknown: Cache::new(limits.key_cache_max),
            lookups: Semaphore::new(LOOKUPS_MAX),
            gathering: Arc::default(),
            generation: AtomicU64::new(0),
        }))
    }

    /// The key with this hash and its tenant. Expired keys are given as well.
    ///
    /// # Errors
    /// [`TableError::Store`], also when no look-up could begin before the deadline.
    pub async fn lookup(
        &self,
        hash: KeyHash,
        deadline: Instant,
    ) -> Result<Option<Arc<AccessRow>>, TableError> {
        match self.fresh(hash) {
            Some(known) => Ok(known),
            // Boxed, so that what is rarely needed is no part of every request.
            None => Box::pin(self.lookup_stored(hash, deadline)).await,
        }
    }

    async fn lookup_stored(
        &self,
        hash: KeyHash,
        deadline: Instant,
    ) -> Result<Option<Arc<AccessRow>>, TableError> {
        let late = || StoreError::fatal(Fault::DeadlinePassed, "before a key look-up began");
        let _permit = timeout_at(deadline, self.0.lookups.acquire())
            .await
            .map_err(|_| late())?
            .expect("the semaphore is never closed");
        if let Some(known) = self.fresh(hash) {
            return Ok(known);
        }
        self.read(hash, deadline).await
    }

    /// Whether the key was good when it was last looked up, however long ago that was.
    pub fn is_remembered(&self, hash: KeyHash) -> bool {
        self.0.good.contains_key(&hash)
    }

    /// What tenants take of the memory for bodies that are being gathered.
    pub fn gathering(&self) -> &Arc<Gathering> {
        &self.0.gathering
    }

    /// Makes the next use of a key look it up again.
    pub fn forget(&self, hash: KeyHash) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.good.remove(&hash);
        self.0.unknown.remove(&hash);
    }

    /// Makes the next use of every key of a tenant look it up again.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.good.retain(|_, known| known.row.tenant.id != *tenant);
    }

    /// What the cache may still be asked for; the outer option is none if the store has to be.
    fn fresh(&self, hash: KeyHash) -> Option<Option<Arc<AccessRow>>> {
        let now = self.0.store.environment().monotonic();
        let is_fresh = |read_at: Duration| {
            now.saturating_sub(read_at) < self.0.ttl || is_planted(Bug::RevokedKeyCached)
        };
        if let Some(known) = self.0.good.get(&hash) {
            return is_fresh(known.read_at).then_some(Some(known.row));
        }
        self.0.unknown.get(&hash).is_some_and(is_fresh).then_some(None)
    }

    async fn read(
        &self,
        hash: KeyHash,
        deadline: Instant,
    ) -> Result<Option<Arc<AccessRow>>, TableError> {
        let generation = self.0.generation.load(Ordering::SeqCst);
        let read_at = self.0.store.environment().monotonic();
        let row = self
            .0
            .store
            .run(Run::idempotent(deadline), move |tx| Box::pin(access::find(tx, hash)))
            .await?;
        let row = row.map(Arc::new);
        match &row {
            Some(row) => self.0.good.insert(hash, Remembered { row: row.clone(), read_at }),
            None => {
                self.0.good.remove(&hash);
                self.0.unknown.insert(hash, read_at);
            }
        }
        // Checked after the insertion: a change that came before it is noticed here, one that comes after it forgets.
        if self.0.generation.load(Ordering::SeqCst) != generation {
            self.0.good.remove(&hash);
            self.0.unknown.remove(&hash);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
