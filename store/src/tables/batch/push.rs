//! The webhooks of an event: to which subscriptions it goes, and what it becomes when they have it or are given up.
//!
//! Invariants: `PUSH-1` a webhook that is not done has exactly one place in the order of its subscription, at the time in its
//! state; `PUSH-2` an event with webhooks is `queued` while one of them is not done, then `delivered` if any endpoint has
//! it, else `failed`; `PUSH-3` an event with webhooks is never leased. What an attempt is, is in [`super::attempt`].

use super::{Batch, Outcome, TableError, attempt};
use crate::kv::{RangeRead, Transaction};
use crate::tables::keys::id_of_key;
use crate::tables::rows::{
    AttemptOutcome, Delivery, DisabledReason, EventRow, Push, PushState, Row, SubscriptionRow, SubscriptionStatus,
};
use crate::tables::subscriptions;
use triggers_protocol::{EventId, EventStatus, SubscriptionId, Timestamp};

/// Webhooks given up in one transaction.
const GIVEN_UP_MAX: usize = 200;

impl Batch<'_> {
    /// The active subscriptions that select events of this type.
    pub(super) async fn targets(
        &mut self,
        tx: &mut dyn Transaction,
        event_type: &str,
    ) -> Result<Vec<SubscriptionId>, TableError> {
        let selected = self.active(tx).await?.iter().filter(|row| row.selects(event_type));
        Ok(selected.map(|row| row.id).collect())
    }

    async fn active(&mut self, tx: &mut dyn Transaction) -> Result<&[SubscriptionRow], TableError> {
        if self.subscriptions.is_none() {
            let mut rows = match self.stored_subscriptions {
                0 => Vec::new(),
                _ => subscriptions::read_all(tx, self.keys).await?,
            };
            rows.retain(SubscriptionRow::is_active);
            self.subscriptions = Some(rows);
        }
        Ok(self.subscriptions.as_deref().unwrap_or_default())
    }

    /// After a repeated run: which webhooks the first one added is not known, so whoever waits is told to look.
    pub(super) async fn suppose_all_due(&mut self, tx: &mut dyn Transaction) -> Result<(), TableError> {
        let ids: Vec<_> = self.active(tx).await?.iter().map(|row| row.id).collect();
        self.due.extend(ids.into_iter().map(|id| (id, Timestamp::EPOCH)));
        Ok(())
    }

    /// Gives an event its webhooks, all due at `due`.
    pub(super) fn begin_pushes(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        targets: Vec<SubscriptionId>,
        due: Timestamp,
    ) -> Vec<Push> {
        let mut pushes = Vec::with_capacity(targets.len());
        for subscription in targets {
            tx.set(&self.keys.push_due(subscription, due, id), &[]);
            let earliest = self.due.entry(subscription).or_insert(due);
            *earliest = due.min(*earliest);
            let state = PushState::Waiting { due };
            pushes.push(Push { subscription, state, since: due, failures: 0, interruptions: 0, settled: 0 });
        }
        pushes
    }

    /// Moves a webhook to another state, and its place in the order with it.
    pub(super) fn move_push(&self, tx: &mut dyn Transaction, id: EventId, push: &mut Push, state: PushState) {
        if let Some(due) = push.state.due() {
            tx.clear(&self.keys.push_due(push.subscription, due, id));
        }
        if let Some(due) = state.due() {
            tx.set(&self.keys.push_due(push.subscription, due, id), &[]);
        }
        push.state = state;
    }

    /// Ends what is left of an event's webhooks: it is delivered otherwise, or is removed.
    pub(super) fn drop_pushes(&self, tx: &mut dyn Transaction, id: EventId, delivery: &mut Delivery) {
        for push in &mut delivery.pushes {
            if push.state.due().is_some() {
                self.move_push(tx, id, push, PushState::Dropped);
            }
        }
    }

    /// Stores an event and its delivery after its webhooks have changed (`PUSH-2`).
    pub(super) fn put_pushed(
        &mut self,
        tx: &mut dyn Transaction,
        row: &mut EventRow,
        delivery: &Delivery,
        at: Timestamp,
    ) {
        let state = &mut row.event.state;
        let before = state.status;
        let waiting = delivery.pushes.iter().filter_map(|push| match push.state {
            PushState::Waiting { due } => Some(due),
            _ => None,
        });
        state.next_retry_at = waiting.min();
        let is_done = delivery.pushes.iter().all(|push| push.state.due().is_none());
        if is_done && delivery.pushes.iter().any(|push| push.state == PushState::Delivered) {
            (state.status, state.delivered_at) = (EventStatus::Delivered, Some(at));
        } else if is_done {
            (state.status, state.failed_at) = (EventStatus::Failed, Some(at));
        }
        tx.set(&self.keys.delivery(row.event.id), &delivery.to_bytes());
        self.move_row(tx, row, before);
    }

    /// Gives up webhooks of a subscription that is not active; one that is deleted goes with the last of them.
    pub(super) async fn give_up(
        &mut self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
        at: Timestamp,
    ) -> Result<Outcome, TableError> {
        let Some(stored) = subscriptions::read(tx, self.keys, subscription).await? else {
            return Ok(Outcome::GaveUp { more: false, removed: true });
        };
        let reason = match stored.status {
            SubscriptionStatus::Active => return Ok(Outcome::GaveUp { more: false, removed: false }),
            SubscriptionStatus::Deleted => "the subscription was deleted",
            SubscriptionStatus::Disabled { reason: DisabledReason::Gone, .. } => "the endpoint is gone for good (410)",
            SubscriptionStatus::Disabled { .. } => "the subscription is disabled",
        };
        let page = tx.range_snapshot(RangeRead::first(self.keys.pushes(subscription), GIVEN_UP_MAX)).await?;
        for (key, _) in &page.pairs {
            tx.clear(key);
            if let Some(id) = id_of_key(key) {
                self.give_up_one(tx, id, subscription, at, reason).await?;
            }
        }
        let removed = !page.more && stored.status == SubscriptionStatus::Deleted;
        if removed {
            tx.clear(&self.keys.subscription(subscription));
            tx.clear_range(self.keys.logged_attempts(subscription));
            self.stored_subscriptions = self.stored_subscriptions.saturating_sub(1);
        }
        Ok(Outcome::GaveUp { more: page.more, removed })
    }

    async fn give_up_one(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        subscription: SubscriptionId,
        at: Timestamp,
        reason: &str,
    ) -> Result<(), TableError> {
        let Some(mut row) = self.read_row(tx, id).await? else { return Ok(()) };
        let mut delivery = self.read_delivery(tx, id).await?;
        let Some(push) = delivery.push_mut(subscription).filter(|push| push.state.due().is_some()) else {
            return Ok(());
        };
        self.move_push(tx, id, push, PushState::Dropped);
        attempt::end(&mut delivery, subscription, at, AttemptOutcome::Failed, None, Some(reason));
        row.event.state.last_error = Some(reason.to_owned());
        self.put_pushed(tx, &mut row, &delivery, at);
        Ok(())
    }
}

impl Delivery {
    /// The delivery to one subscription.
    pub(super) fn push_mut(&mut self, subscription: SubscriptionId) -> Option<&mut Push> {
        self.pushes.iter_mut().find(|push| push.subscription == subscription)
    }
}
