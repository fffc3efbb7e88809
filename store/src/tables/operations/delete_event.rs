//! Deletes an event and leaves a tombstone, by which later reads know that it existed.

use super::{Footprint, Operation, Stamp};
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::batch::Batch;
use crate::tables::inbox::Missing;
use crate::tables::keys::day;
use crate::tables::rows::{Row, Tombstone};
use triggers_protocol::EventId;
use triggers_protocol::planted::{Bug, is_planted};

/// Removes an event and leaves a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteEvent {
    /// Event to delete.
    pub id: EventId,
}

impl Operation for DeleteEvent {
    type Reply = Result<(), Missing>;

    fn footprint(&self) -> Footprint {
        Footprint::naming(self.id)
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        let Some((row, delivery)) = batch.read_row(tx, self.id).await? else {
            let Some(tombstone) = batch.tombstone(tx, self.id, stamp.at).await? else {
                return Ok(Err(Missing::NotFound));
            };
            let is_own = if is_planted(Bug::DeletionKnownByTime) {
                tombstone.deleted_at == stamp.at
            } else {
                tombstone.deleted_by == stamp.nonce
            };
            return Ok(if is_own { Ok(()) } else { Err(Missing::Gone) });
        };
        batch.remove(tx, &row, delivery, stamp.at);
        if !is_planted(Bug::TombstoneNotWritten) {
            let tombstone = Tombstone { deleted_at: stamp.at, deleted_by: stamp.nonce };
            tx.set(&batch.keys.tombstone(day(stamp.at), self.id), &tombstone.to_bytes());
        }
        Ok(Ok(()))
    }
}
