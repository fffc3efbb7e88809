//! How much of the node's memory each tenant takes for bodies that are still being gathered.
//!
//! Asked by the edge for every further part of a body that comes in pieces, before the node's own door, so that the many
//! slow requests of one tenant leave room for everybody else's.
//! Invariants: `GATHERING-1` the places that a tenant has out are never larger together than the limit it is asked with;
//! `GATHERING-2` only tenants with places are remembered, so that the table is as bounded as what is gathered.
//! It is not the bound of the node, and it does not know whose key it was: many keys of a tenant share its part.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use triggers_protocol::TenantId;

/// Bytes that are out, by tenant.
#[derive(Debug, Default)]
pub struct Gathering(Mutex<BTreeMap<TenantId, usize>>);

/// Room for a part of a body; dropping it gives the room back.
#[derive(Debug)]
pub struct Place {
    gathering: Arc<Gathering>,
    tenant: TenantId,
    bytes: usize,
}

impl Gathering {
    /// A place of `bytes` for a tenant; none if it would then have more than `bytes_max`.
    pub fn enter(
        self: &Arc<Self>,
        tenant: &TenantId,
        bytes: usize,
        bytes_max: usize,
    ) -> Option<Place> {
        let mut tenants = self.lock();
        let out = tenants.get(tenant).copied().unwrap_or(0).saturating_add(bytes);
        if out > bytes_max {
            return None;
        }
        tenants.insert(tenant.clone(), out);
        Some(Place { gathering: self.clone(), tenant: tenant.clone(), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TenantId, usize>> {
        // Nothing panics while holding the lock, so that a poisoned one still guards whole numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tenants = self.gathering.lock();
        if let Some(out) = tenants.get_mut(&self.tenant) {
            *out = out.saturating_sub(self.bytes);
            if *out == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_part_and_leaves_nothing_behind() {
        let gathering = Arc::new(Gathering::default());
        let [one, two] = ["one", "two"].map(|id| TenantId::parse(id).unwrap());
        let first = gathering.enter(&one, 6, 10).unwrap();
        let second = gathering.enter(&one, 4, 10).unwrap();
        assert!(gathering.enter(&one, 1, 10).is_none(), "GATHERING-1");
        assert!(gathering.enter(&two, 10, 10).is_some(), "another tenant's part is its own");
        drop(first);
        assert!(gathering.enter(&one, 7, 10).is_none(), "GATHERING-1");
        assert!(gathering.enter(&one, 6, 10).is_some());
        drop(second);
        assert!(gathering.lock().is_empty(), "GATHERING-2");
    }
}
