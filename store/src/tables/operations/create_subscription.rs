//! Creating a subscription.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::Transaction;
use crate::tables::batch::{Batch, Initiator, Notice, host};
use crate::tables::rows::{AuditAction, Row, SubscriptionRow};
use crate::tables::{TableError, subscriptions};

/// Stores a new subscription, unless the tenant has `subscriptions_max` of them.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSubscription {
    /// The subscription, with a new random id.
    pub row: SubscriptionRow,
    /// Origin of the request.
    pub by: Initiator,
}

/// The tenant has `subscriptions_max` subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManySubscriptions;

impl Operation for CreateSubscription {
    type Reply = Result<SubscriptionRow, TooManySubscriptions>;

    fn footprint(&self) -> Footprint {
        Footprint::new(Selection::Alone, 1)
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        let id = self.row.id;
        let row = if let Some(stored) = subscriptions::read(tx, batch.keys, id).await? {
            // Ids are random, so an earlier run of this command stored it.
            stored
        } else {
            if batch.stored_subscriptions >= batch.limits.subscriptions_max {
                return Ok(Err(TooManySubscriptions));
            }
            let row = SubscriptionRow { changed_by: stamp.nonce, ..self.row.clone() };
            batch.stored_subscriptions += 1;
            tx.set(&batch.keys.subscription(id), &row.to_bytes());
            let (action, detail) = (AuditAction::SubscriptionCreated, host(&row.target_url));
            batch.audit(tx, row.created_at, &self.by, id, action, detail).await?;
            row
        };
        batch.notify(Notice::SubscriptionChanged(Box::new(row.clone())));
        Ok(Ok(row))
    }
}
