//! Recovers events for a subscription: sends it what it selects and has missed.
//!
//! - `RECOVER-1`: an event that the subscription has had, that is on its way to it, that a consumer
//!   holds, or that consumers alone have handled is left as it is. So a repeated recovery sends
//!   nothing twice.
//! - `RECOVER-2`: deliveries to other subscriptions stay as they are, finished or not.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::Transaction;
use crate::tables::batch::Batch;
use crate::tables::keys::TenantKeys;
use crate::tables::rows::{
    AttemptOutcome, Claim, Delivery, EventRow, PushState, SubscriptionRow, SubscriptionStatus,
};
use crate::tables::{TableError, inbox, subscriptions};
use triggers_protocol::{EventId, EventStatus, SubscriptionId};

/// Sends missed events to a subscription. The reply is the number of events that it had missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recover {
    /// Subscription that missed the events.
    pub subscription: SubscriptionId,
    /// Events that it may have missed.
    pub ids: Vec<EventId>,
}

/// Why nothing was recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRecovered {
    /// The tenant has no such subscription.
    NotFound,
    /// The subscription is disabled.
    Disabled,
}

impl Operation for Recover {
    type Reply = Result<usize, NotRecovered>;

    fn footprint(&self) -> Footprint {
        Footprint { named: self.ids.clone(), ..Footprint::new(Selection::Named, self.ids.len()) }
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        let row = match subscriptions::read(tx, batch.keys, self.subscription).await? {
            Some(row) if row.is_active() => row,
            Some(SubscriptionRow { status: SubscriptionStatus::Disabled { .. }, .. }) => {
                return Ok(Err(NotRecovered::Disabled));
            }
            Some(_) | None => return Ok(Err(NotRecovered::NotFound)),
        };
        let mut recovered = 0;
        for &id in &self.ids {
            let Some((event, delivery)) = batch.read_row(tx, id).await? else { continue };
            if delivery.changed_by == stamp.nonce {
                batch.suppose_all_due(tx).await?;
            } else if has_missed(tx, batch.keys, &row, &event, &delivery).await? {
                self.push(batch, tx, stamp, event, delivery);
            } else {
                continue;
            }
            recovered += 1;
        }
        Ok(Ok(recovered))
    }
}

impl Recover {
    /// Gives an event a new webhook to the subscription, due now.
    fn push(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        mut row: EventRow,
        mut delivery: Delivery,
    ) {
        let id = row.event.id;
        let before = row.event.state.status;
        batch.release(tx, id, &mut delivery);
        delivery.pushes.retain(|push| push.subscription != self.subscription);
        delivery.pushes.extend(batch.begin_pushes(tx, id, vec![self.subscription], stamp.at));
        let state = &mut row.event.state;
        (state.status, state.last_error) = (EventStatus::Queued, None);
        (state.delivered_at, state.failed_at) = (None, None);
        state.next_retry_at = delivery.next_due();
        (delivery.token, delivery.changed_by) = (None, stamp.nonce);
        batch.move_row(tx, &row, delivery, before);
    }
}

/// Whether a subscription selects an event and has missed it (`RECOVER-1`).
pub(in crate::tables) async fn has_missed(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    subscription: &SubscriptionRow,
    row: &EventRow,
    delivery: &Delivery,
) -> Result<bool, TableError> {
    let was_pushed = delivery.pushes.iter().any(|push| push.state == PushState::Delivered);
    let is_handled = row.event.state.status == EventStatus::Delivered && !was_pushed;
    let is_held = matches!(delivery.claim, Claim::Leased { .. });
    if is_handled || is_held || !subscription.selects(row.event.event_type.as_str()) {
        return Ok(false);
    }
    let own = delivery.pushes.iter().find(|push| push.subscription == subscription.id);
    Ok(match own.map(|push| push.state) {
        Some(PushState::Waiting { .. } | PushState::Running { .. } | PushState::Delivered) => false,
        Some(PushState::Dropped | PushState::Skipped) => true,
        None => {
            // A replay forgets webhooks to subscriptions that are disabled.
            let attempts = inbox::all_attempts(tx, keys, row.event.id, delivery).await?;
            !attempts.iter().any(|attempt| {
                attempt.subscription == Some(subscription.id)
                    && attempt.outcome == AttemptOutcome::Succeeded
            })
        }
    })
}
