//! Replays an event: a failed or delivered event waits for delivery again.

use super::{Changed, Footprint, Operation, Stamp, Unchanged};
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::batch::Batch;
use triggers_protocol::{EventId, EventStatus};

/// Delivers a failed or delivered event again: to the subscriptions that select it now, or else to
/// consumers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Failed or delivered event.
    pub id: EventId,
}

impl Operation for Replay {
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
        let (id, at) = (self.id, stamp.at);
        let Some((mut row, mut delivery)) = batch.read_row(tx, id).await? else {
            return Ok(Err(batch.missing(tx, id, at).await?.into()));
        };
        let before = row.event.state.status;
        let is_own = delivery.changed_by == stamp.nonce;
        if !is_own && !matches!(before, EventStatus::Failed | EventStatus::Delivered) {
            return Ok(Err(Unchanged::Conflict));
        }
        batch.activity.made_available += 1;
        if is_own {
            batch.suppose_all_due(tx).await?;
            return Ok(Ok(Box::new(row)));
        }
        let targets = batch.targets(tx, &row.event.event_type).await?;
        let is_pushed = !targets.is_empty();
        delivery.pushes = batch.begin_pushes(tx, id, targets, at);
        let state = &mut row.event.state;
        state.status = if is_pushed { EventStatus::Queued } else { EventStatus::Received };
        (state.delivered_at, state.failed_at) = (None, None);
        (state.next_retry_at, state.last_error) = (is_pushed.then_some(at), None);
        delivery.attempts_before = state.attempts;
        (delivery.token, delivery.changed_by) = (None, stamp.nonce);
        batch.move_row(tx, &row, delivery, before);
        Ok(Ok(Box::new(row)))
    }
}
