//! Extends the lease of an event.

use super::{Changed, Footprint, Operation, Stamp, Unchanged};
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::batch::{Batch, holds};
use crate::tables::rows::{Claim, LeaseToken, Row};
use std::time::Duration;
use triggers_protocol::EventId;

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
        let Some((row, mut delivery)) = batch.read_row(tx, id).await? else {
            return Ok(Err(batch.missing(tx, id, stamp.at).await?.into()));
        };
        if delivery.changed_by != stamp.nonce {
            let Claim::Leased { until: old } = delivery.claim else {
                return Ok(Err(Unchanged::Conflict));
            };
            if !holds(&delivery, self.token, stamp.at) {
                return Ok(Err(Unchanged::Conflict));
            }
            let until = stamp.at.plus(self.visibility);
            tx.clear(&batch.keys.lease_end(old, id));
            tx.set(&batch.keys.lease_end(until, id), &[]);
            delivery.claim = Claim::Leased { until };
            delivery.changed_by = stamp.nonce;
            tx.set(&batch.keys.delivery(id), &delivery.to_bytes());
        }
        // Needed in a second run too, because the inbox got no reply of the first one.
        batch.lease_ends_changed = true;
        Ok(Ok(Box::new(row)))
    }
}
