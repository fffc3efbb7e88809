//! How many streams each tenant has open.
//!
//! Invariants: `SLOTS-1` a tenant has at most [`STREAMS_MAX`] slots at the same time; `SLOTS-2` a slot is free again when it
//! is dropped, however its stream ended; `SLOTS-3` tenants without streams take no memory. They are of one node alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use triggers_actors::admission::count_rejection;
use triggers_protocol::TenantId;

/// Streams of one tenant on this node.
pub(crate) const STREAMS_MAX: usize = 100;

/// The open streams of all tenants; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StreamSlots(Arc<Mutex<HashMap<TenantId, usize>>>);

/// One open stream.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    slots: StreamSlots,
    tenant: TenantId,
}

impl StreamSlots {
    /// A slot for a tenant's stream; none if it has as many as it may.
    pub(crate) fn enter(&self, tenant: &TenantId) -> Option<StreamSlot> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(tenant.clone()).or_default();
        if *count >= STREAMS_MAX {
            count_rejection("streams");
            return None;
        }
        *count += 1;
        Some(StreamSlot { slots: self.clone(), tenant: tenant.clone() })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = open.get_mut(&self.tenant) else { return };
        *count -= 1;
        if *count == 0 {
            open.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_by_tenant_and_given_back() {
        let slots = StreamSlots::default();
        let [one, other] = ["one", "other"].map(|name| TenantId::parse(name).unwrap());
        let mut held: Vec<_> = (0..STREAMS_MAX).map(|_| slots.enter(&one).unwrap()).collect();
        assert!(slots.enter(&one).is_none(), "SLOTS-1");
        assert!(slots.enter(&other).is_some(), "SLOTS-1: of each tenant");
        held.pop();
        held.push(slots.enter(&one).expect("SLOTS-2"));
        drop(held);
        assert!(slots.0.lock().unwrap().is_empty(), "SLOTS-3");
    }
}
