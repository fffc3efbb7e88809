//! Accounts the memory of incomplete request bodies by tenant.
//!
//! The body reader acquires a permit for every further part of a body, before the limit of the
//! node, so that many slow requests of one tenant leave room for the others.
//!
//! - `GATHERING-1`: the permits of a tenant never exceed the given limit in total.
//! - `GATHERING-2`: only tenants with permits have an entry.
//!
//! All keys of a tenant share its limit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use triggers_protocol::TenantId;

/// Bytes of incomplete request bodies by tenant.
#[derive(Debug, Default)]
pub struct Gathering(Mutex<BTreeMap<TenantId, usize>>);

/// Permit for the bytes of a part of a body; dropping it frees them.
#[derive(Debug)]
pub struct BodyPermit {
    gathering: Arc<Gathering>,
    tenant: TenantId,
    bytes: usize,
}

impl Gathering {
    /// A permit for `bytes` more bytes; `None` if the tenant would exceed `bytes_max`.
    pub fn acquire(
        self: &Arc<Self>,
        tenant: &TenantId,
        bytes: usize,
        bytes_max: usize,
    ) -> Option<BodyPermit> {
        let mut tenants = self.lock();
        let held = tenants.get(tenant).copied().unwrap_or(0).saturating_add(bytes);
        if held > bytes_max {
            return None;
        }
        tenants.insert(tenant.clone(), held);
        Some(BodyPermit { gathering: self.clone(), tenant: tenant.clone(), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TenantId, usize>> {
        // Nothing panics while holding the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        let mut tenants = self.gathering.lock();
        if let Some(held) = tenants.get_mut(&self.tenant) {
            *held = held.saturating_sub(self.bytes);
            if *held == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tenant_has_its_own_limit() {
        let gathering = Arc::new(Gathering::default());
        let [one, two] = ["one", "two"].map(|id| TenantId::parse(id).unwrap());
        let first = gathering.acquire(&one, 6, 10).unwrap();
        let second = gathering.acquire(&one, 4, 10).unwrap();
        assert!(gathering.acquire(&one, 1, 10).is_none(), "GATHERING-1");
        assert!(gathering.acquire(&two, 10, 10).is_some(), "the limit of another tenant");
        drop(first);
        assert!(gathering.acquire(&one, 7, 10).is_none(), "GATHERING-1");
        assert!(gathering.acquire(&one, 6, 10).is_some());
        drop(second);
        assert!(gathering.lock().is_empty(), "GATHERING-2");
    }
}
