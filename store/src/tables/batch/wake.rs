//! The wake-up pointer of a tenant: by it a partition knows which inboxes have a lease to end, without looking into them.
//!
//! Invariants: `WAKE-1` a tenant with a lease has exactly one pointer, at the second of its first lease's end or earlier;
//! `WAKE-2` the pointer and the head's copy of it change together. A pointer that is too early costs one look.

use super::{Batch, TableError};
use crate::kv::{RangeRead, Transaction};
use crate::tables::keys::{self, time_of_due_key};
use crate::tables::rows::Head;
use triggers_protocol::Timestamp;

impl Batch<'_> {
    /// Moves the pointer if it must be; the end of the first lease if it was looked at.
    pub(super) async fn point(
        &self,
        tx: &mut dyn Transaction,
        head: &mut Head,
    ) -> Result<Option<Option<Timestamp>>, TableError> {
        if !self.lease_ends_changed && !self.leases_expired {
            return Ok(None);
        }
        let page = tx.range_snapshot(RangeRead::first(self.keys.lease_ends(), 1)).await?;
        let first = page.pairs.first().and_then(|(key, _)| time_of_due_key(key));
        let second = first.map(|time| u64::try_from(time.as_seconds()).unwrap_or(0));
        let is_early_enough = match (head.wake_second, second) {
            (Some(pointed), Some(second)) => pointed <= second && !self.leases_expired || pointed == second,
            (None, None) => true,
            (Some(_), None) => !self.leases_expired,
            (None, Some(_)) => false,
        };
        if !is_early_enough {
            let (partition, tenant) = (self.keys.partition(), self.keys.tenant());
            if let Some(old) = head.wake_second {
                tx.clear(&keys::wake(partition, old, tenant));
            }
            if let Some(new) = second {
                tx.set(&keys::wake(partition, new, tenant), &[]);
            }
            head.wake_second = second;
        }
        Ok(Some(first))
    }
}
