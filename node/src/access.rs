//! Keys and tenants: look-ups through a bounded cache, and the writes that change them.
//!
//! - `ACCESS-CACHE-1`: an entry is used for `key_cache_ttl_ms` and then read again, so a key that
//!   was revoked on another node stops working within that time.
//! - `ACCESS-CACHE-2`: a change through this node invalidates the entry before the change is
//!   answered. A look-up that ran concurrently is not cached.
//! - `ACCESS-CACHE-3`: known and unknown keys have separate bounded caches, so that a flood of
//!   unknown keys evicts no known one.
//! - `ACCESS-CACHE-4`: at most [`LOOKUPS_MAX`] look-ups run at once. A look-up that waited checks
//!   the cache again.
//!
//! It decides nothing about a request: `http` checks expiry, rate and scope.

mod keys;
mod tenants;

pub use keys::{Rotation, Successor};
pub use triggers_actors::model::access::{Access as AccessRow, Created};

use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use triggers_actors::keyed_limit::KeyedLimit;
use triggers_actors::model::{TableError, access};
use triggers_cluster_config::LimitOptions;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{KeyHash, TenantId};
use triggers_store::kv::{Fault, Run, Store, StoreError};

/// Concurrent look-ups in the store.
pub const LOOKUPS_MAX: usize = 64;

/// Looks up and changes keys and tenants.
pub struct Access {
    store: Store,
    ttl: Duration,
    known: Cache<KeyHash, CachedKey>,
    /// Hashes that no key has, and the monotonic times at which they were looked up.
    unknown: Cache<KeyHash, Duration>,
    lookups: Semaphore,
    bodies: KeyedLimit<TenantId>,
    /// Incremented by every invalidation.
    generation: AtomicU64,
}

/// A key and the monotonic time at which it was read.
#[derive(Clone)]
struct CachedKey {
    row: Arc<AccessRow>,
    read_at: Duration,
}

impl Access {
    /// Creates the cache over a store.
    pub fn new(store: Store, limits: &LimitOptions) -> Self {
        Self {
            store,
            ttl: Duration::from_millis(limits.key_cache_ttl_ms),
            known: Cache::new(limits.key_cache_max),
            unknown: Cache::new(limits.key_cache_max),
            lookups: Semaphore::new(LOOKUPS_MAX),
            bodies: KeyedLimit::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// The key with this hash and its tenant. Expired keys are returned as well.
    ///
    /// # Errors
    /// [`TableError::Store`], also when no look-up could begin before the deadline.
    pub async fn lookup(
        &self,
        hash: KeyHash,
        deadline: Instant,
    ) -> Result<Option<Arc<AccessRow>>, TableError> {
        match self.fresh(hash) {
            Some(cached) => Ok(cached),
            // Boxed, so that the rare case does not enlarge the future of every request.
            None => Box::pin(self.lookup_stored(hash, deadline)).await,
        }
    }

    async fn lookup_stored(
        &self,
        hash: KeyHash,
        deadline: Instant,
    ) -> Result<Option<Arc<AccessRow>>, TableError> {
        let permit = timeout_at(deadline, self.lookups.acquire()).await;
        let _permit = permit
            .map_err(|_| StoreError::fatal(Fault::DeadlinePassed, "before a key look-up began"))?
            .expect("the semaphore is never closed");
        if let Some(cached) = self.fresh(hash) {
            return Ok(cached);
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let read_at = self.store.environment().monotonic();
        let find = self.store.run(Run::idempotent(deadline), |tx| Box::pin(access::find(tx, hash)));
        let row = find.await?.map(Arc::new);
        match &row {
            Some(row) => self.known.insert(hash, CachedKey { row: row.clone(), read_at }),
            None => {
                self.known.remove(&hash);
                self.unknown.insert(hash, read_at);
            }
        }
        // Checked after the insertion: an earlier invalidation is noticed here, a later one removes
        // the entry itself.
        if self.generation.load(Ordering::SeqCst) != generation {
            self.known.remove(&hash);
            self.unknown.remove(&hash);
        }
        Ok(row)
    }

    /// Whether the latest look-up found the key, however long ago.
    pub fn is_remembered(&self, hash: KeyHash) -> bool {
        self.known.contains_key(&hash)
    }

    /// The memory for request bodies, accounted by tenant.
    pub fn bodies(&self) -> &KeyedLimit<TenantId> {
        &self.bodies
    }

    /// Invalidates a key, so that its next use reads the store.
    pub fn forget(&self, hash: KeyHash) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.known.remove(&hash);
        self.unknown.remove(&hash);
    }

    /// Invalidates all keys of a tenant.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.known.retain(|_, cached| cached.row.tenant.id != *tenant);
    }

    /// The cached look-up: `None` if the store must be read, `Some(None)` for an unknown key.
    fn fresh(&self, hash: KeyHash) -> Option<Option<Arc<AccessRow>>> {
        let now = self.store.environment().monotonic();
        let is_fresh = |read_at: Duration| {
            now.saturating_sub(read_at) < self.ttl || is_planted(Bug::RevokedKeyCached)
        };
        if let Some(cached) = self.known.get(&hash) {
            return is_fresh(cached.read_at).then_some(Some(cached.row));
        }
        self.unknown.get(&hash).is_some_and(is_fresh).then_some(None)
    }
}

#[cfg(test)]
mod tests;
