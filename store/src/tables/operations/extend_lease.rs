//! Extends the lease of an event.

use super::{Changed, Footprint, Operation, Stamp, Unchanged};
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::batch::{Batch, holds};
use crate::tables::rows::{Claim, Delivery, EventRow, LeaseToken};
use std::time::Duration;
use triggers_protocol::{EventId, Timestamp};

/// Moves the end of a lease to `visibility` from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendLease {
    /// Event that is leased.
    pub id: EventId,
    /// Token of the lease.
    pub token: LeaseToken,
    /// Time from now until the lease ends.
    pub visibility: Duration,
}

impl Operation for ExtendLease {
    type Reply = Changed;

    fn footprint(&self) -> Footprint {
        Footprint::naming(self.id)
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Changed, TableError> {
        let id = self.id;
        let Some((row, delivery)) = batch.read_row(tx, id).await? else {
            return Ok(Err(batch.missing(tx, id, stamp.at).await?.into()));
        };
        if delivery.changed_by != stamp.nonce {
            if !holds(&delivery, self.token, stamp.at) {
                return Ok(Err(Unchanged::Conflict));
            }
            batch.extend(tx, &row, delivery, stamp, stamp.at.plus(self.visibility));
        }
        // Needed in a second run too, because the inbox got no reply of the first one.
        batch.lease_ends_changed = true;
        Ok(Ok(Box::new(row)))
    }
}

impl Batch<'_> {
    /// Lets the lease of one event end at `until`.
    pub(super) fn extend(
        &mut self,
        tx: &mut dyn Transaction,
        row: &EventRow,
        mut delivery: Delivery,
        stamp: &Stamp,
        until: Timestamp,
    ) {
        self.release(tx, row.event.id, &mut delivery);
        tx.set(&self.keys.lease_end(until, row.event.id), &[]);
        (delivery.claim, delivery.changed_by) = (Claim::Leased { until }, stamp.nonce);
        self.move_row(tx, row, delivery, row.event.state.status);
    }
}
