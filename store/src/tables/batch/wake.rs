//! The wake-up pointer of a tenant: the time at which the partition must start the tenant's inbox.
//!
//! - `WAKE-1`: a tenant with a lease or an unfinished webhook has exactly one pointer, at or before
//!   the second of the earliest of their times. A pointer that is too early costs one check.
//! - `WAKE-2`: the pointer and the head's copy of it change together.

use super::{Batch, TableError};
use crate::kv::{RangeRead, Transaction};
use crate::tables::keys::{self, time_of_due_key};
use crate::tables::rows::Head;
use crate::tables::subscriptions;
use triggers_protocol::Timestamp;
use triggers_protocol::planted::{Bug, is_planted};

impl Batch<'_> {
    /// Moves the pointer if necessary. Returns the end of the first lease if this batch read it.
    pub(super) async fn point(
        &mut self,
        tx: &mut dyn Transaction,
        head: &mut Head,
    ) -> Result<Option<Option<Timestamp>>, TableError> {
        let mut first_lease_end = None;
        if self.lease_ends_changed || self.leases_expired {
            let page = tx.range_snapshot(RangeRead::first(self.keys.lease_ends(), 1)).await?;
            let first = page.pairs.first().and_then(|(key, _)| time_of_due_key(key));
            let in_rows = self.lease_rows(tx).await?.first_end();
            first_lease_end = Some([first, in_rows].into_iter().flatten().min());
        }
        let added = self.due.values().min().copied();
        let first = first_lease_end.flatten().into_iter().chain(added);
        if self.leases_expired {
            // All due times are read, so the pointer may also move to a later time.
            let webhooks = self.first_webhook(tx).await?;
            self.set_pointer(tx, head, first.chain(webhooks).min());
        } else if let Some(first) = first.min()
            && head
                .wake_second
                .is_none_or(|pointed| pointed > second(first) && !is_planted(Bug::PointerNotMoved))
        {
            self.set_pointer(tx, head, Some(first));
        }
        Ok(first_lease_end)
    }

    async fn first_webhook(
        &mut self,
        tx: &mut dyn Transaction,
    ) -> Result<Option<Timestamp>, TableError> {
        let mut first = None;
        if self.stored_subscriptions > 0 {
            let rows = subscriptions::read_all(tx, self.keys).await?;
            let marks = rows.iter().map(|row| (row.id, self.webhook_mark(row.id)));
            subscriptions::prefetch_first_due(tx, self.keys, marks).await?;
            for row in rows {
                let due = self.first_due(tx, row.id).await?;
                // Webhooks of an inactive subscription must be given up at once.
                let due = if row.is_active() { due } else { due.map(|_| Timestamp::EPOCH) };
                first = [first, due].into_iter().flatten().min();
            }
        }
        Ok(first)
    }

    fn set_pointer(&self, tx: &mut dyn Transaction, head: &mut Head, first: Option<Timestamp>) {
        let (partition, tenant) = (self.keys.partition(), self.keys.tenant());
        let new = first.map(second);
        if new != head.wake_second {
            if let Some(old) = head.wake_second {
                tx.clear(&keys::wake(partition, old, tenant));
            }
            if let Some(new) = new {
                tx.set(&keys::wake(partition, new, tenant), &[]);
            }
            head.wake_second = new;
        }
    }
}

fn second(time: Timestamp) -> u64 {
    u64::try_from(time.as_seconds()).unwrap_or(0)
}
