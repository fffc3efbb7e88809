//! Extends the lease of an event.

use super::{Changed, Footprint, Operation, Stamp, Unchanged};
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::batch::{Batch, holds};
use crate::tables::rows::{Claim, Delivery, EventRow, LeaseId, LeaseMembers, LeaseToken, Row};
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
            batch.extend(tx, &row, delivery, stamp, stamp.at.plus(self.visibility)).await?;
        }
        // Needed in a second run too, because the inbox got no reply of the first one.
        batch.lease_ends_changed = true;
        Ok(Ok(Box::new(row)))
    }
}

impl Batch<'_> {
    /// Lets the lease of one event end at `until`. It stays a part of its lease until that ends.
    pub(super) async fn extend(
        &mut self,
        tx: &mut dyn Transaction,
        row: &EventRow,
        mut delivery: Delivery,
        stamp: &Stamp,
        until: Timestamp,
    ) -> Result<(), TableError> {
        let id = row.event.id;
        let lease = self.lease_rows(tx).await?.find(id).map(|row| (row.lease, row.until));
        if let Some((lease, lease_end)) = lease {
            self.add_lease_member(tx, lease, lease_end, id).await?;
        }
        self.release(tx, id, &mut delivery);
        tx.set(&self.keys.lease_end(until, id), &[]);
        (delivery.claim, delivery.changed_by) = (Claim::Leased { until }, stamp.nonce);
        self.move_row(tx, row, delivery, row.event.state.status);
        Ok(())
    }

    /// The events of a lease that are not in lease rows.
    pub(super) async fn lease_members(
        &self,
        tx: &mut dyn Transaction,
        lease: LeaseId,
    ) -> Result<Option<LeaseMembers>, TableError> {
        let stored = tx.get(&self.keys.lease_members(lease)).await?;
        Ok(stored.map(|bytes| LeaseMembers::from_bytes(&bytes)).transpose()?)
    }

    /// Adds an event to those of its lease that are not in lease rows; `until` is the lease's end.
    async fn add_lease_member(
        &self,
        tx: &mut dyn Transaction,
        lease: LeaseId,
        until: Timestamp,
        id: EventId,
    ) -> Result<(), TableError> {
        let mut members = match self.lease_members(tx, lease).await? {
            Some(members) => members,
            None => {
                tx.set(&self.keys.members_end(until, lease), &[]);
                LeaseMembers { until, events: Vec::new() }
            }
        };
        members.events.push(id);
        tx.set_owned(self.keys.lease_members(lease), members.to_bytes());
        Ok(())
    }
}
