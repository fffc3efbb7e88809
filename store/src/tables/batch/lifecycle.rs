//! Moving an event through its statuses, and deleting it.
//!
//! Invariants: `LIFECYCLE-1` an event has exactly one queue row, that of its status; `LIFECYCLE-2` an acknowledged event
//! stays delivered: acknowledging again gives the same event; `LIFECYCLE-3` a deleted event leaves a tombstone, by which a
//! second deletion is told from the first one run again; `LIFECYCLE-4` an event's own row has the state that it
//! was accepted with, or was replayed with to be pulled; what becomes of it after that is in the row of its delivery. So a payload
//! is written once, and a page of received events needs no other rows. A row of an earlier version has every state of its event
//! (`DELIVERY-1`); it is written anew with the first change.

use super::{Batch, Outcome, TableError, lease};
use crate::kv::Transaction;
use crate::tables::inbox;
use crate::tables::keys::day;
use crate::tables::rows::{AttemptOutcome, Delivery, EventRow, LeaseToken, Row, Tombstone};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, Timestamp};

impl Batch<'_> {
    pub(super) async fn acknowledge(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
        token: Option<LeaseToken>,
    ) -> Result<Outcome, TableError> {
        let Some((mut row, mut delivery)) = self.read_row(tx, id).await? else {
            return self.missing(tx, id, at, false).await;
        };
        let before = row.event.state.status;
        let is_valid = match token {
            None => true,
            Some(token) if before == EventStatus::Delivered => delivery.token == Some(token),
            Some(token) => lease::holds(&delivery, token, at),
        };
        if !is_valid {
            return Ok(Outcome::Conflict);
        }
        if before != EventStatus::Delivered {
            if !is_planted(Bug::AcknowledgedComesBack) {
                self.release(tx, id, &mut delivery);
            }
            self.drop_pushes(tx, id, &mut delivery, at);
            lease::end_attempt(&mut delivery, at, AttemptOutcome::Succeeded, None);
            let state = &mut row.event.state;
            state.status = EventStatus::Delivered;
            (state.delivered_at, state.next_retry_at, state.failed_at) = (Some(at), None, None);
            self.move_row(tx, &row, delivery, before);
        }
        Ok(Outcome::Acknowledged(Box::new(row)))
    }

    pub(super) async fn delete(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
    ) -> Result<Outcome, TableError> {
        let Some((row, delivery)) = self.read_row(tx, id).await? else {
            return self.missing(tx, id, at, true).await;
        };
        self.remove(tx, &row, delivery, at);
        if !is_planted(Bug::TombstoneNotWritten) {
            tx.set(&self.keys.tombstone(day(at), id), &Tombstone { deleted_at: at }.to_bytes());
        }
        Ok(Outcome::Deleted)
    }

    /// Why an event is not there at `at`. A deletion may be finding its own tombstone.
    pub(super) async fn missing(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
        is_deletion: bool,
    ) -> Result<Outcome, TableError> {
        let tombstone =
            inbox::read_tombstone(tx, self.keys, id, at, inbox::Reading::Checked).await?;
        let Some(tombstone) = tombstone else { return Ok(Outcome::NotFound) };
        Ok(if is_deletion && at == tombstone.deleted_at { Outcome::Deleted } else { Outcome::Gone })
    }

    /// An event's row as it stands, without the chunks of a large payload, and its delivery.
    pub(super) async fn read_row(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
    ) -> Result<Option<(EventRow, Delivery)>, TableError> {
        inbox::read_row(tx, self.keys, id, inbox::Reading::Checked).await
    }

    /// Stores a changed state with the delivery that it comes from (`LIFECYCLE-4`), and moves the event's place in the inbox.
    pub(super) fn move_row(
        &mut self,
        tx: &mut dyn Transaction,
        row: &EventRow,
        mut delivery: Delivery,
        before: EventStatus,
    ) {
        let event = &row.event;
        let after = event.state.status;
        delivery.state = (after != EventStatus::Received).then(|| event.state.clone());
        tx.set_owned(self.keys.delivery(event.id), delivery.to_bytes());
        if after == EventStatus::Received || row.is_of_version_1 {
            tx.set_owned(self.keys.event(event.id), EventRow::encode(event, row.payload_bytes));
        }
        if before == after {
            return;
        }
        tx.clear(&self.keys.queue(before, event.id));
        tx.set_owned(self.keys.queue(after, event.id), event.event_type.as_str().into());
        self.delta.add(before, -1);
        self.delta.add(after, 1);
    }
}
