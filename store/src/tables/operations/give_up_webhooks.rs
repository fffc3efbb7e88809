//! Gives up the webhooks of a subscription that is disabled or deleted.
//!
//! - `GIVE-UP-1`: one command handles a bounded number of rows, and its notice says when there is
//!   more to do. A deleted subscription's row is removed after its webhooks and attempts.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{Prefetch, RangeRead, Transaction};
use crate::tables::batch::{
    AttemptEnd, Batch, INTERRUPTED, Notice, OperationLimits, TRANSACTION_BYTES_AIMED, end_attempt,
};
use crate::tables::keys::{TenantKeys, id_of_key, time_of_due_key};
use crate::tables::rows::{AttemptOutcome, DisabledReason, PushState, SubscriptionStatus};
use crate::tables::webhook_marks::{DuePosition, WebhookMark, read_due};
use crate::tables::{TableError, inbox, subscriptions};
use triggers_protocol::{EventId, SubscriptionId, Timestamp};

/// Webhooks given up in one transaction.
const GIVEN_UP_MAX: usize = 200;
/// Listed attempts removed in one transaction.
const ATTEMPTS_MAX: usize = 500;

/// Gives up webhooks of a subscription that is not active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveUpWebhooks {
    /// Target of the webhooks.
    pub subscription: SubscriptionId,
}

impl Operation for GiveUpWebhooks {
    type Reply = ();

    fn footprint(&self) -> Footprint {
        Footprint::new(Selection::Alone, 1)
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        stamp: &Stamp,
    ) {
        reads.key(keys.subscription(self.subscription));
        let mark = stamp.webhook_mark.unwrap_or(WebhookMark::UNKNOWN);
        mark.prefetch(reads, keys, self.subscription, GIVEN_UP_MAX);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<(), TableError> {
        let subscription = self.subscription;
        let stored = subscriptions::read(tx, batch.keys, subscription).await?;
        let status = stored.map(|row| row.status);
        let (mut next, mut is_removed) = (None, status.is_none());
        match status {
            None => {}
            Some(SubscriptionStatus::Active) => {
                next = batch.first_due(tx, subscription).await?;
            }
            Some(SubscriptionStatus::Disabled { reason, .. }) => {
                let reason = match reason {
                    DisabledReason::Gone => "the endpoint is gone (410)",
                    DisabledReason::Failing | DisabledReason::Requested => {
                        "the subscription is disabled"
                    }
                };
                next = self.give_up_page(batch, tx, stamp.at, reason).await?;
            }
            Some(SubscriptionStatus::Deleted) => {
                let reason = "the subscription was deleted";
                next = self.give_up_page(batch, tx, stamp.at, reason).await?;
                if next.is_none() {
                    next = self.forget_attempts(batch, tx).await?;
                }
                if next.is_none() {
                    tx.clear(&batch.keys.subscription(subscription));
                    batch.stored_subscriptions = batch.stored_subscriptions.saturating_sub(1);
                    is_removed = true;
                }
            }
        }
        batch.notify(Notice::GaveUp { subscription, next, is_removed });
        Ok(())
    }
}

impl GiveUpWebhooks {
    /// Gives up a page of webhooks except running ones. Returns when there is more to do.
    async fn give_up_page(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        at: Timestamp,
        reason: &str,
    ) -> Result<Option<Timestamp>, TableError> {
        let (subscription, mark) = (self.subscription, batch.webhook_mark(self.subscription));
        let page = read_due(tx, batch.keys, subscription, &mark, None, GIVEN_UP_MAX).await?;
        let (mut next, mut given_up) = (None, 0);
        let ids = page.pairs.iter().filter_map(|(key, _)| id_of_key(key));
        inbox::prefetch_rows(tx, batch.keys, ids).await?;
        for (key, _) in &page.pairs {
            if tx.approximate_size() > TRANSACTION_BYTES_AIMED {
                return Ok(Some(Timestamp::EPOCH));
            }
            let (Some(id), Some(due)) = (id_of_key(key), time_of_due_key(key)) else { continue };
            if self.give_up(batch, tx, id, due, at, reason).await? {
                given_up += 1;
                if next.is_none() {
                    let mut mark = batch.webhook_mark(subscription);
                    mark.searched(DuePosition::new(due, id));
                    batch.set_webhook_mark(subscription, mark);
                }
            } else {
                next = next.or(Some(due));
            }
        }
        Ok(if page.has_more && given_up > 0 { Some(Timestamp::EPOCH) } else { next })
    }

    /// Gives up one webhook; false if its attempt runs and must end first.
    async fn give_up(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        id: EventId,
        due: Timestamp,
        at: Timestamp,
        reason: &str,
    ) -> Result<bool, TableError> {
        let subscription = self.subscription;
        if let Some((mut row, mut delivery)) = batch.read_pushed(tx, id).await?
            && let Some(push) =
                delivery.push_mut(subscription).filter(|push| push.state.due() == Some(due))
        {
            if matches!(push.state, PushState::Running { until, .. } if until > at) {
                return Ok(false);
            }
            batch.move_push(tx, id, push, PushState::Dropped);
            // A running attempt that is past its end has no owner any more.
            let end = AttemptEnd { at: due, outcome: AttemptOutcome::Failed, http_status: None };
            if let Some(ended) = end_attempt(&mut delivery, subscription, end, Some(INTERRUPTED)) {
                batch.log_attempt(tx, id, &row.event.event_type, ended);
            }
            row.event.state.last_error = Some(reason.to_owned());
            batch.put_pushed(tx, &mut row, delivery, at);
        } else {
            // The index row is outdated.
            tx.clear(&batch.keys.push_due(subscription, due, id));
        }
        Ok(true)
    }

    /// Removes a page of the subscription's attempts. Returns when there is more to do.
    async fn forget_attempts(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
    ) -> Result<Option<Timestamp>, TableError> {
        let page = RangeRead::first(batch.keys.logged_attempts(self.subscription), ATTEMPTS_MAX);
        let page = tx.range_snapshot(page).await?;
        for (key, _) in &page.pairs {
            tx.clear(key);
        }
        Ok(page.has_more.then_some(Timestamp::EPOCH))
    }
}
