//! Acknowledges events: they become delivered, even if they are not leased.
//!
//! - `ACKNOWLEDGE-1`: acknowledging a delivered event changes nothing, and fails only for a token
//!   other than that of its last lease.

use super::{Changed, Footprint, Operation, Selection, Stamp, Unchanged};
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::batch::{Batch, end_leased_attempt, holds};
use crate::tables::inbox::{Missing, ROWS_PER_FETCH, prefetch_rows};
use crate::tables::rows::{AttemptOutcome, Delivery, EventRow, LeaseToken};
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
        Footprint::naming(self.id)
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

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        let mut results = Vec::with_capacity(self.ids.len());
        for (index, &id) in self.ids.iter().enumerate() {
            if index % ROWS_PER_FETCH == 0 {
                let ids = self.ids[index..].iter().take(ROWS_PER_FETCH).copied();
                prefetch_rows(tx, batch.keys, ids).await?;
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
    fn acknowledge(
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
