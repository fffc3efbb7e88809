//! The open inboxes of one partition. The router reads the table on every request; only the
//! partition changes it.
//!
//! Invariants: `INBOXES-1` an inbox that leaves the table has a closed admission, so a router that
//! still holds its handle is rejected and asks the partition again; `INBOXES-2` closing an inbox
//! stops its actor, which then has nothing in flight.

use crate::inbox::handle::InboxHandle;
use crate::inbox::signals::Attachment;
use ractor::ActorId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use triggers_protocol::{TenantId, Timestamp};

type Inboxes = BTreeMap<TenantId, Arc<InboxHandle>>;

/// The open inboxes by tenant.
#[derive(Default)]
pub(crate) struct InboxTable(RwLock<Inboxes>);

impl InboxTable {
    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Arc<InboxHandle>> {
        self.read().get(tenant).cloned()
    }

    /// True if any inbox has webhooks in flight.
    pub(crate) fn has_webhooks_in_flight(&self) -> bool {
        self.read().values().any(|inbox| !inbox.signals.is_below(Attachment::Busy))
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn insert(&self, tenant: TenantId, handle: Arc<InboxHandle>) {
        self.write().insert(tenant, handle);
        metrics::gauge!("triggers_inboxes_open").increment(1.0);
    }

    /// Removes the inbox whose actor has ended; returns its tenant.
    pub(super) fn remove_actor(&self, actor: ActorId) -> Option<TenantId> {
        let mut inboxes = self.write();
        let found = inboxes.iter().find(|(_, handle)| handle.actor.get_id() == actor);
        let tenant = found.map(|(tenant, _)| tenant.clone())?;
        if let Some(handle) = inboxes.remove(&tenant) {
            leave(&handle);
        }
        Some(tenant)
    }

    /// Closes inboxes that were not used since `since` and have nothing in flight. Returns the
    /// tenants that have something due, with the time.
    pub(super) fn close_idle(&self, since: Duration) -> Vec<(Timestamp, TenantId)> {
        let mut due = Vec::new();
        self.write().retain(|tenant, handle| {
            let stays = handle.used_at() >= since || !close(handle, Attachment::Attached);
            if !stays {
                due.extend(handle.signals.next().map(|next| (next, tenant.clone())));
            }
            stays
        });
        due
    }

    /// Closes the least recently used inbox that has nothing in flight, to make room for another.
    pub(super) fn close_least_recently_used(&self) -> Option<(TenantId, Arc<InboxHandle>)> {
        let mut inboxes = self.write();
        let mut by_use: Vec<_> =
            inboxes.iter().map(|(tenant, handle)| (handle.used_at(), tenant.clone())).collect();
        by_use.sort();
        for (_, tenant) in by_use {
            if inboxes.get(&tenant).is_some_and(|handle| close(handle, Attachment::Busy)) {
                return inboxes.remove_entry(&tenant);
            }
        }
        None
    }

    /// Closes all inboxes; requests that still wait get an unknown outcome.
    pub(crate) fn close_all(&self) {
        for handle in std::mem::take(&mut *self.write()).values() {
            leave(handle);
            handle.actor.stop(None);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inboxes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inboxes> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes an inbox if it is idle and closing it loses less than `attachment`.
fn close(handle: &InboxHandle, attachment: Attachment) -> bool {
    if !handle.signals.is_below(attachment) || !handle.admission.close_if_idle() {
        return false;
    }
    leave(handle);
    handle.actor.stop(None);
    true
}

fn leave(handle: &InboxHandle) {
    handle.admission.close();
    handle.arrivals.close();
    // Consumers that wait for events ask again, and learn where the tenant is served now.
    handle.signals.committed.notify_waiters();
    metrics::gauge!("triggers_inboxes_open").decrement(1.0);
}
