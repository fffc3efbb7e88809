//! The webhooks of an event: to which subscriptions it goes, and what it becomes when they have it or are given up.
//!
//! Invariants: `PUSH-1` a webhook that is not done has exactly one place in the order of its subscription, at the time in its
//! state; `PUSH-2` an event with webhooks is `queued` while one of them is not done, then `delivered` if any endpoint has
//! it, else `failed`; `PUSH-3` an event with webhooks is never leased; `PUSH-4` an attempt that is on its way comes to its end,
//! also when its subscription is disabled or deleted meanwhile. What an attempt is, is in [`super::attempt`].

use super::{Batch, Outcome, TableError, attempt};
use crate::kv::{RangeRead, Transaction};
use crate::tables::keys::{id_of_key, time_of_due_key};
use crate::tables::rows::{
    AttemptOutcome, Delivery, DisabledReason, EventRow, Push, PushState, SubscriptionRow,
    SubscriptionStatus,
};
use crate::tables::subscriptions;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, SubscriptionId, Timestamp};

/// Webhooks given up in one transaction.
const GIVEN_UP_MAX: usize = 200;
/// Listed attempts removed in one transaction.
const ATTEMPTS_MAX: usize = 500;
/// Bytes that a transaction of many steps aims at.
pub(super) const TRANSACTION_BYTES_AIMED: usize = 4 << 20;

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
    pub(super) async fn suppose_all_due(
        &mut self,
        tx: &mut dyn Transaction,
    ) -> Result<(), TableError> {
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
            self.note_due(subscription, due);
            let state = PushState::Waiting { due };
            pushes.push(Push {
                subscription,
                state,
                since: due,
                failures: 0,
                interruptions: 0,
                deferrals: 0,
                settled: 0,
            });
        }
        pushes
    }

    /// Notes that there is something to do for a subscription, for the wake-up pointer and for the inbox.
    pub(super) fn note_due(&mut self, subscription: SubscriptionId, due: Timestamp) {
        let earliest = self.due.entry(subscription).or_insert(due);
        *earliest = due.min(*earliest);
    }

    /// Moves a webhook to another state, and its place in the order with it.
    pub(super) fn move_push(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        push: &mut Push,
        state: PushState,
    ) {
        if let Some(due) = push.state.due() {
            tx.clear(&self.keys.push_due(push.subscription, due, id));
        }
        if let Some(due) = state.due() {
            tx.set(&self.keys.push_due(push.subscription, due, id), &[]);
        }
        push.state = state;
    }

    /// Ends what is left of an event's webhooks at `at`: it is acknowledged, or is removed.
    pub(super) fn drop_pushes(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        delivery: &mut Delivery,
        at: Timestamp,
    ) {
        let mut dropped = Vec::new();
        for push in &mut delivery.pushes {
            if push.state.due().is_some() {
                self.move_push(tx, id, push, PushState::Dropped);
                dropped.push(push.subscription);
            }
        }
        for subscription in dropped {
            let reason = "the event was acknowledged before the attempt had ended";
            attempt::end(delivery, subscription, at, AttemptOutcome::Failed, None, Some(reason));
        }
    }

    /// Stores an event and its delivery after its webhooks have changed (`PUSH-2`).
    pub(super) fn put_pushed(
        &mut self,
        tx: &mut dyn Transaction,
        row: &mut EventRow,
        delivery: Delivery,
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
        let is_ended = is_done || is_planted(Bug::DeliveredByTheFirst);
        if is_ended && delivery.pushes.iter().any(|push| push.state == PushState::Delivered) {
            (state.status, state.delivered_at) = (EventStatus::Delivered, Some(at));
        } else if is_done {
            (state.status, state.failed_at) = (EventStatus::Failed, Some(at));
        }
        self.move_row(tx, row, delivery, before);
    }

    /// Gives up webhooks of a subscription that is not active; one that is deleted goes after the last of them.
    pub(super) async fn give_up(
        &mut self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
        at: Timestamp,
    ) -> Result<Outcome, TableError> {
        let Some(stored) = subscriptions::read(tx, self.keys, subscription).await? else {
            return Ok(Outcome::GaveUp { next: None, removed: true });
        };
        let reason = match stored.status {
            SubscriptionStatus::Active => {
                let next = subscriptions::first_due(tx, self.keys, subscription).await?;
                return Ok(Outcome::GaveUp { next, removed: false });
            }
            SubscriptionStatus::Deleted => "the subscription was deleted",
            SubscriptionStatus::Disabled { reason: DisabledReason::Gone, .. } => {
                "the endpoint is gone for good (410)"
            }
            SubscriptionStatus::Disabled { .. } => "the subscription is disabled",
        };
        let mut next = self.give_up_page(tx, subscription, at, reason).await?;
        if next.is_none() && stored.status == SubscriptionStatus::Deleted {
            next = self.forget_attempts(tx, subscription).await?;
            if next.is_none() {
                tx.clear(&self.keys.subscription(subscription));
                self.stored_subscriptions = self.stored_subscriptions.saturating_sub(1);
                return Ok(Outcome::GaveUp { next: None, removed: true });
            }
        }
        Ok(Outcome::GaveUp { next, removed: false })
    }

    /// Gives up a page of webhooks, but for those that are on their way; when there is more to do.
    async fn give_up_page(
        &mut self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
        at: Timestamp,
        reason: &str,
    ) -> Result<Option<Timestamp>, TableError> {
        let page = tx
            .range_snapshot(RangeRead::first(self.keys.pushes(subscription), GIVEN_UP_MAX))
            .await?;
        let (mut next, mut given_up) = (None, 0);
        for (key, _) in &page.pairs {
            if tx.approximate_size() > TRANSACTION_BYTES_AIMED {
                return Ok(Some(Timestamp::EPOCH));
            }
            let (Some(id), Some(due)) = (id_of_key(key), time_of_due_key(key)) else { continue };
            if self.give_up_one(tx, (id, due), subscription, at, reason).await? {
                given_up += 1;
            } else {
                next = next.or(Some(due));
            }
        }
        Ok(if page.has_more && given_up > 0 { Some(Timestamp::EPOCH) } else { next })
    }

    /// Removes a page of a subscription's attempts; when there is more to do.
    async fn forget_attempts(
        &self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
    ) -> Result<Option<Timestamp>, TableError> {
        let page = tx
            .range_snapshot(RangeRead::first(self.keys.logged_attempts(subscription), ATTEMPTS_MAX))
            .await?;
        for (key, _) in &page.pairs {
            tx.clear(key);
        }
        Ok(page.has_more.then_some(Timestamp::EPOCH))
    }

    /// Gives up one webhook; false if it is on its way, so that its end is waited for.
    async fn give_up_one(
        &mut self,
        tx: &mut dyn Transaction,
        (id, due): (EventId, Timestamp),
        subscription: SubscriptionId,
        at: Timestamp,
        reason: &str,
    ) -> Result<bool, TableError> {
        if let Some((mut row, mut delivery)) = self.read_row(tx, id).await?
            && let Some(push) =
                delivery.push_mut(subscription).filter(|push| push.state.due() == Some(due))
        {
            if matches!(push.state, PushState::Running { until, .. } if until > at) {
                return Ok(false);
            }
            self.move_push(tx, id, push, PushState::Dropped);
            attempt::end(
                &mut delivery,
                subscription,
                at,
                AttemptOutcome::Failed,
                None,
                Some(reason),
            );
            row.event.state.last_error = Some(reason.to_owned());
            self.put_pushed(tx, &mut row, delivery, at);
        } else {
            // A place without its webhook.
            tx.clear(&self.keys.push_due(subscription, due, id));
        }
        Ok(true)
    }
}

impl Delivery {
    /// The delivery to one subscription.
    pub(super) fn push_mut(&mut self, subscription: SubscriptionId) -> Option<&mut Push> {
        self.pushes.iter_mut().find(|push| push.subscription == subscription)
    }
}
