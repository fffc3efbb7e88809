//! Deletes a subscription.
//!
//! - `SUBSCRIBE-4`: a deleted subscription is invisible at once. Its row is removed after its last
//!   webhook.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::Transaction;
use crate::tables::batch::{Batch, Initiator, Notice, host};
use crate::tables::rows::{AuditAction, Row, SubscriptionStatus};
use crate::tables::{TableError, subscriptions};
use triggers_protocol::{SubscriptionId, Timestamp};

/// Deletes a subscription. The reply is false if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteSubscription {
    /// Subscription to delete.
    pub id: SubscriptionId,
    /// Origin of the request.
    pub by: Initiator,
}

impl Operation for DeleteSubscription {
    type Reply = bool;

    fn footprint(&self) -> Footprint {
        Footprint::new(Selection::Alone, 1)
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<bool, TableError> {
        let id = self.id;
        let Some(mut row) = subscriptions::read(tx, batch.keys, id).await? else {
            return Ok(false);
        };
        if row.status != SubscriptionStatus::Deleted {
            (row.status, row.changed_by) = (SubscriptionStatus::Deleted, stamp.nonce);
            // The secrets are not needed any more.
            row.keys.clear();
            tx.set(&batch.keys.subscription(id), &row.to_bytes());
            batch.note_due(id, Timestamp::EPOCH);
            let (action, detail) = (AuditAction::SubscriptionDeleted, host(&row.target_url));
            batch.audit(tx, stamp.at, &self.by, id, action, detail).await?;
        } else if row.changed_by != stamp.nonce {
            return Ok(false);
        }
        batch.notify(Notice::SubscriptionDeleted(id));
        Ok(true)
    }
}
