//! Keys and tenants: look-ups through a bounded cache, and the writes that change them.
//!
//! - `ACCESS-CACHE-1`: an entry is used for `key_cache_ttl_ms` and then read again, so a key that
//!   was revoked on another node stops working within that time.
//! - `ACCESS-CACHE-2`: a change through this node invalidates the entry before the change is
//!   answered. A look-up that ran concurrently is not cached.
//! - `ACCESS-CACHE-3`: known and unknown keys have separate bounded caches, so that a flood of
//!   unknown keys evicts no known one.
//! - `ACCESS-CACHE-4`: at most [`LOOKUPS_MAX`] look-ups run at once. One that waited checks the
//!   cache again.
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

/// Looks up and changes keys and tenants; cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    store: Store,
    ttl: Duration,
    good: Cache<KeyHash, Remembered>,
    unknown: Cache<KeyHash, Duration>,
    lookups: Semaphore,
    bodies: KeyedLimit<TenantId>,
    /// Incremented by every invalidation.
    generation: AtomicU64,
}

/// A key and the monotonic time at which it was read.
#[derive(Clone)]
struct Remembered {
    row: Arc<AccessRow>,
    read_at: Duration,
}

impl Access {
    /// Creates the cache over a store.
    pub fn new(store: Store, limits: &LimitOptions) -> Self {
        Self(Arc::new(Inner {
            store,
            ttl: Duration::from_millis(limits.key_cache_ttl_ms),
            good: Cache::new(limits.key_cache_max),
            unknown: Cache::new(limits.key_cache_max),
            lookups: Semaphore::new(LOOKUPS_MAX),
            bodies: KeyedLimit::default(),
            generation: AtomicU64::new(0),
        }))
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
            Some(known) => Ok(known),
            // Boxed, so that the rare case does not enlarge the future of every request.
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

    /// Whether the latest look-up found the key, however long ago.
    pub fn is_remembered(&self, hash: KeyHash) -> bool {
        self.0.good.contains_key(&hash)
    }

    /// The memory for request bodies, accounted by tenant.
    pub fn bodies(&self) -> &KeyedLimit<TenantId> {
        &self.0.bodies
    }

    /// Invalidates a key, so that its next use reads the store.
    pub fn forget(&self, hash: KeyHash) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.good.remove(&hash);
        self.0.unknown.remove(&hash);
    }

    /// Invalidates all keys of a tenant.
    pub fn forget_tenant(&self, tenant: &TenantId) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.good.retain(|_, known| known.row.tenant.id != *tenant);
    }

    /// The cached look-up: `None` if the store must be read, `Some(None)` for an unknown key.
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
        // Checked after the insertion: an earlier invalidation is noticed here, a later one removes
        // the entry itself.
        if self.0.generation.load(Ordering::SeqCst) != generation {
            self.0.good.remove(&hash);
            self.0.unknown.remove(&hash);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
