//! Moves events between statuses, and removes them.
//!
//! - `LIFECYCLE-1`: an event has exactly one queue row, that of its status; one in a lease row has
//!   that of a received event.
//! - `LIFECYCLE-2`: an acknowledged event stays delivered; acknowledging it again changes nothing.
//! - `LIFECYCLE-3`: a deleted event leaves a tombstone with the nonce of the command, by which a
//!   repeated command recognizes its own deletion.
//! - `LIFECYCLE-4`: an event's own row has the state of its acceptance, or of a replay to
//!   consumers. Later states are in its delivery's row, so payloads are written once.

use super::Batch;
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::inbox::{self, Missing, Reading};
use crate::tables::rows::{Delivery, EventRow, QueueRow, Row, Tombstone};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, Timestamp};

impl Batch<'_> {
    /// Reads an event with its present state and its delivery; see [`inbox::read_row`].
    pub(in crate::tables) async fn read_row(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
    ) -> Result<Option<(EventRow, Delivery)>, TableError> {
        let keys = self.keys;
        let leases = self.lease_rows(tx).await?;
        inbox::read_row(tx, keys, leases, id, Reading::Checked).await
    }

    /// Reads an event with webhooks, or one that had some: it is in no lease row (`PUSH-3`).
    pub(in crate::tables) async fn read_pushed(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
    ) -> Result<Option<(EventRow, Delivery)>, TableError> {
        inbox::read_stored_row(tx, self.keys, id, Reading::Checked).await
    }

    /// Reads the tombstone of an event, if it is still kept.
    pub(in crate::tables) async fn tombstone(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
    ) -> Result<Option<Tombstone>, TableError> {
        inbox::read_tombstone(tx, self.keys, id, at, Reading::Checked).await
    }

    /// Tells why an event has no row.
    pub(in crate::tables) async fn missing(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
    ) -> Result<Missing, TableError> {
        let tombstone = self.tombstone(tx, id, at).await?;
        Ok(tombstone.map_or(Missing::NotFound, |_| Missing::Gone))
    }

    /// Changes the count of a status.
    pub(in crate::tables) fn count(&mut self, status: EventStatus, delta: i64) {
        self.delta.add(status, delta);
    }

    /// Stores a changed state with its delivery (`LIFECYCLE-4`), and moves the event's queue row.
    pub(in crate::tables) fn move_row(
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
        if after == EventStatus::Received {
            // The delivery row has its webhooks, if it has any.
            let bytes = EventRow::encode(event, row.payload_bytes, Vec::new());
            tx.set_owned(self.keys.event(event.id), bytes);
        }
        let queued_as = self.end_place_in_lease_row(event.id, before);
        if queued_as != after {
            tx.clear(&self.keys.queue(queued_as, event.id));
            tx.set_owned(self.keys.queue(after, event.id), QueueRow::encode(event));
        }
        if before == after {
            return;
        }
        if after == EventStatus::Received && !is_planted(Bug::MarkNotMovedByReplay) {
            let first = self.searches.received.get_or_insert(event.id);
            *first = event.id.min(*first);
        }
        self.count(before, -1);
        self.count(after, 1);
    }

    /// Takes an event out of its lease row, if it is in one. Returns the status of its queue row.
    fn end_place_in_lease_row(&mut self, id: EventId, status: EventStatus) -> EventStatus {
        let is_there = self.lease_rows.as_mut().is_some_and(|rows| rows.take(id));
        if is_there { EventStatus::Received } else { status }
    }

    /// Removes an event with all its rows.
    pub(in crate::tables) fn remove(
        &mut self,
        tx: &mut dyn Transaction,
        row: &EventRow,
        mut delivery: Delivery,
        at: Timestamp,
    ) {
        let (id, status) = (row.event.id, row.event.state.status);
        tx.clear(&self.keys.event(id));
        if row.is_chunked() {
            tx.clear_range(self.keys.chunks(id));
        }
        self.release(tx, id, &mut delivery);
        let reason = "the event was removed before the attempt ended";
        self.drop_pushes(tx, row, &mut delivery, at, reason);
        if delivery.has_older_attempts {
            tx.clear_range(self.keys.all_older_attempts(id));
        }
        tx.clear(&self.keys.delivery(id));
        let queued_as = self.end_place_in_lease_row(id, status);
        tx.clear(&self.keys.queue(queued_as, id));
        self.count(status, -1);
    }
}
