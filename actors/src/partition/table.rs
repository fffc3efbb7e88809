//! The open inboxes of one partition, read by the router on every request and changed by the partition alone.
//!
//! Invariants: `INBOXES-1` an inbox that leaves the table has a closed admission: a router that still holds its handle is
//! refused there and asks the partition again; `INBOXES-2` closing stops the actor, which has nothing in flight then.

use crate::inbox::handle::InboxHandle;
use crate::inbox::signals::Attachment;
use ractor::ActorId;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use triggers_protocol::{TenantId, Timestamp};

type Inboxes = BTreeMap<TenantId, Arc<InboxHandle>>;

/// The table.
#[derive(Default)]
pub(crate) struct InboxTable(RwLock<Inboxes>);

impl InboxTable {
    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Arc<InboxHandle>> {
        self.read().get(tenant).cloned()
    }

    pub(crate) fn any(&self, is_so: impl Fn(&InboxHandle) -> bool) -> bool {
        self.read().values().any(|inbox| is_so(inbox))
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn insert(&self, tenant: TenantId, handle: Arc<InboxHandle>) {
        self.write().insert(tenant, handle);
    }

    /// Forgets the inbox of an actor that has ended, and says whose it was.
    pub(super) fn remove_actor(&self, actor: ActorId) -> Option<TenantId> {
        let mut inboxes = self.write();
        let found = inboxes.iter().find(|(_, handle)| handle.actor.get_id() == actor);
        let tenant = found.map(|(tenant, _)| tenant.clone())?;
        if let Some(handle) = inboxes.remove(&tenant) {
            leave(&handle);
        }
        Some(tenant)
    }

    /// Closes what was not used since `since` and has nothing in flight; what of that has something to do later, and when.
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

    /// Makes room for another inbox, if that is possible: the one that was closed.
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

    /// Forgets everything; what still waits sees an unknown outcome.
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

/// Closes an inbox if it is idle, and less than this would be lost.
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
    // Who waits for news there asks again, and is told where the tenant is by now.
    handle.signals.committed.notify_waiters();
    metrics::gauge!("triggers_inboxes_open").decrement(1.0);
}
