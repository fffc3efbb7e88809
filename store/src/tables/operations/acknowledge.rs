//! Acknowledges events: they become delivered, even if they are not leased.
//!
//! - `ACKNOWLEDGE-1`: acknowledging a delivered event changes nothing, and fails only for a token
//!   other than that of its last lease.

use super::{Changed, Footprint, Operation, Selection, Stamp, Unchanged};
use crate::kv::{Prefetch, Transaction};
use crate::tables::batch::{Batch, OperationLimits, end_leased_attempt, holds};
use crate::tables::inbox::{self, Missing, ROWS_PER_FETCH};
use crate::tables::keys::TenantKeys;
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::{AttemptOutcome, Claim, Delivery, EventRow, LeaseToken, Row};
use crate::tables::{TableError, prefetch};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, Timestamp};

/// Marks one event as delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledge {
    /// Event to acknowledge.
    pub id: EventId,
    /// Token of the event's lease, if the consumer sent it.
    pub token: Option<LeaseToken>,
}

/// Marks events as delivered, even if a consumer holds them. The reply has one result per event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgeAll {
    /// Events to acknowledge.
    pub ids: Vec<EventId>,
}

impl Operation for Acknowledge {
    type Reply = Changed;

    fn footprint(&self) -> Footprint {
        // With a token it works on an event that is leased already, which no lease of its batch
        // takes, and a second run finds that the event was delivered under this token.
        let selection = if self.token.is_some() { Selection::Lease } else { Selection::Named };
        Footprint { selection, ..Footprint::naming(self.id) }
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Changed, TableError> {
        let Some((mut row, delivery)) = batch.read_row(tx, self.id).await? else {
            return Ok(Err(batch.missing(tx, self.id, stamp.at).await?.into()));
        };
        let is_valid = match self.token {
            None => true,
            Some(token) if row.event.state.status == EventStatus::Delivered => {
                delivery.token == Some(token)
            }
            Some(token) => holds(&delivery, token, stamp.at),
        };
        if !is_valid {
            return Ok(Err(Unchanged::Conflict));
        }
        batch.acknowledge(tx, &mut row, delivery, stamp.at);
        Ok(Ok(Box::new(row)))
    }
}

impl Operation for AcknowledgeAll {
    type Reply = Vec<Result<(), Missing>>;

    fn footprint(&self) -> Footprint {
        Footprint { named: self.ids.clone(), ..Footprint::new(Selection::Named, self.ids.len()) }
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        _stamp: &Stamp,
    ) {
        for &id in self.ids.iter().take(ROWS_PER_FETCH) {
            inbox::add_row(reads, keys, id);
            reads.key(keys.queue(EventStatus::Received, id));
        }
        // If the first leases are theirs, the next one becomes the first.
        reads.first(keys.lease_ends(), 1 + self.ids.len());
        LeaseRows::prefetch(reads, keys);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        let mut results = Vec::with_capacity(self.ids.len());
        for (index, &id) in self.ids.iter().enumerate() {
            if index % ROWS_PER_FETCH == 0 {
                batch.fetch(tx, self.ids[index..].iter().take(ROWS_PER_FETCH)).await?;
            }
            if batch.lease_rows(tx).await?.find(id).is_some() {
                batch.acknowledge_in_lease_row(tx, id, stamp.at).await?;
                results.push(Ok(()));
                continue;
            }
            results.push(match batch.read_row(tx, id).await? {
                Some((mut row, delivery)) => {
                    batch.acknowledge(tx, &mut row, delivery, stamp.at);
                    Ok(())
                }
                None => Err(batch.missing(tx, id, stamp.at).await?),
            });
        }
        Ok(results)
    }
}

impl Batch<'_> {
    /// Reads what the acknowledgement of these events, or another change of them, needs.
    pub(super) async fn fetch(
        &mut self,
        tx: &mut dyn Transaction,
        ids: impl Iterator<Item = &EventId> + Send,
    ) -> Result<(), TableError> {
        let keys = self.keys;
        let leases = self.lease_rows(tx).await?;
        prefetch(tx, |reads| {
            ids.for_each(|id| match leases.find(*id) {
                Some(_) => reads.key(keys.queue(EventStatus::Received, *id)),
                None => inbox::add_row(reads, keys, *id),
            });
        })
        .await?;
        Ok(())
    }

    /// Acknowledges an event in a lease row. Its own row is not read: it says that the event was
    /// never attempted (`LEASE-ROWS-1`), and the queue row has all that its next place needs.
    pub(super) async fn acknowledge_in_lease_row(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
    ) -> Result<(), TableError> {
        let keys = self.keys;
        let leases = self.lease_rows(tx).await?;
        let Some(mut delivery) = leases.find(id).map(|row| row.delivery(id)) else {
            return Ok(());
        };
        if !is_planted(Bug::AcknowledgedComesBack) {
            leases.take(id);
        }
        let place = keys.queue(EventStatus::Received, id);
        let stored = tx.get(&place).await?;
        let stored = stored
            .ok_or_else(|| inbox::corrupt(format!("the leased event {id} has no queue row")))?;
        delivery.claim = Claim::None;
        end_leased_attempt(&mut delivery, at, AttemptOutcome::Succeeded, None);
        if let Some(state) = &mut delivery.state {
            (state.status, state.delivered_at) = (EventStatus::Delivered, Some(at));
        }
        tx.set_owned(keys.delivery(id), delivery.to_bytes());
        tx.clear(&place);
        tx.set(&keys.queue(EventStatus::Delivered, id), &stored);
        self.count(EventStatus::Queued, -1);
        self.count(EventStatus::Delivered, 1);
        self.activity.delivered += 1;
        self.lease_ends_changed = true;
        Ok(())
    }

    pub(super) fn acknowledge(
        &mut self,
        tx: &mut dyn Transaction,
        row: &mut EventRow,
        mut delivery: Delivery,
        at: Timestamp,
    ) {
        self.activity.delivered += 1;
        let (id, before) = (row.event.id, row.event.state.status);
        if before == EventStatus::Delivered {
            return;
        }
        if !is_planted(Bug::AcknowledgedComesBack) {
            self.release(tx, id, &mut delivery);
        }
        let reason = "the event was acknowledged before the attempt ended";
        self.drop_pushes(tx, row, &mut delivery, at, reason);
        end_leased_attempt(&mut delivery, at, AttemptOutcome::Succeeded, None);
        let state = &mut row.event.state;
        state.status = EventStatus::Delivered;
        (state.delivered_at, state.next_retry_at, state.failed_at) = (Some(at), None, None);
        self.move_row(tx, row, delivery, before);
    }
}
