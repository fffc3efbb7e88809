//! Webhooks of an event: their target subscriptions, their due times, and the event's status.
//!
//! - `PUSH-1`: an unfinished webhook has exactly one row in its subscription's index by due time,
//!   at the time in its state.
//! - `PUSH-2`: an event with webhooks is `queued` while one of them is unfinished, then `delivered`
//!   if an endpoint accepted it, else `failed`.
//! - `PUSH-3`: an event with webhooks is never leased.
//! - `PUSH-4`: a running attempt reaches its end even if its subscription is disabled or deleted.
//! - `PUSH-5`: every attempt that began is listed with its end, in whatever way it ends.

use super::{Batch, TableError};
use crate::kv::Transaction;
use crate::tables::rows::{
    Attempt, AttemptOutcome, Delivery, EventRow, LoggedAttempt, Push, PushState, Row,
    SubscriptionRow,
};
use crate::tables::subscriptions;
use crate::tables::webhook_marks::{self, DuePosition, WebhookMark};
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, EventType, SubscriptionId, Timestamp};

/// Bytes of an attempt's reason that are stored.
const REASON_BYTES_MAX: usize = 512;
/// Reason of an attempt whose node stopped before the result was stored.
pub(in crate::tables) const INTERRUPTED: &str =
    "the node stopped during the attempt: the event may have arrived";
/// Size in bytes at which a transaction of many steps takes no further step.
pub(in crate::tables) const TRANSACTION_BYTES_AIMED: usize = 4 << 20;

impl Batch<'_> {
    /// Ids of the active subscriptions that select events of this type.
    pub(in crate::tables) async fn targets(
        &mut self,
        tx: &mut dyn Transaction,
        event_type: &EventType,
    ) -> Result<Vec<SubscriptionId>, TableError> {
        if let Some(known) = self.targets.get(event_type) {
            return Ok(known.clone());
        }
        let active = self.active(tx).await?.iter();
        let selected = active.filter(|row| row.selects(event_type.as_str()));
        let targets: Vec<_> = selected.map(|row| row.id).collect();
        self.targets.insert(event_type.clone(), targets.clone());
        Ok(targets)
    }

    /// The row of a subscription whose attempts begin or end, read once for the whole batch.
    pub(in crate::tables) async fn attempted(
        &mut self,
        tx: &mut dyn Transaction,
        id: SubscriptionId,
    ) -> Result<Option<Arc<SubscriptionRow>>, TableError> {
        if let Some(known) = self.attempted.get(&id) {
            return Ok(known.clone());
        }
        let row = subscriptions::read(tx, self.keys, id).await?.map(Arc::new);
        self.attempted.insert(id, row.clone());
        Ok(row)
    }

    /// Stores the row of a subscription that the result of an attempt has changed.
    pub(in crate::tables) fn put_attempted(
        &mut self,
        tx: &mut dyn Transaction,
        row: &Arc<SubscriptionRow>,
    ) {
        tx.set_owned(self.keys.subscription(row.id), row.to_bytes());
        self.attempted.insert(row.id, Some(row.clone()));
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

    /// Makes later appends of this batch read the subscriptions again.
    pub(in crate::tables) fn forget_subscriptions(&mut self) {
        self.subscriptions = None;
        self.targets.clear();
    }

    /// Reports every active subscription as due: a second run cannot tell which webhooks the first
    /// run added.
    pub(in crate::tables) async fn suppose_all_due(
        &mut self,
        tx: &mut dyn Transaction,
    ) -> Result<(), TableError> {
        let ids: Vec<_> = self.active(tx).await?.iter().map(|row| row.id).collect();
        self.due.extend(ids.into_iter().map(|id| (id, Timestamp::EPOCH)));
        Ok(())
    }

    /// Gives an event its webhooks, all due at `due`.
    pub(in crate::tables) fn begin_pushes(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        targets: Vec<SubscriptionId>,
        due: Timestamp,
    ) -> Vec<Push> {
        let begin = |subscription| {
            self.begin_push(tx, subscription, id, due);
            Push::new(subscription, due)
        };
        targets.into_iter().map(begin).collect()
    }

    /// Makes a webhook of an event due at `due`.
    pub(in crate::tables) fn begin_push(
        &mut self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
        id: EventId,
        due: Timestamp,
    ) {
        self.add_push_due(tx, subscription, due, id);
        self.note_due(subscription, due);
    }

    /// Records that a subscription has something due, for the wake-up pointer and the inbox.
    pub(in crate::tables) fn note_due(&mut self, subscription: SubscriptionId, due: Timestamp) {
        let earliest = self.due.entry(subscription).or_insert(due);
        *earliest = due.min(*earliest);
    }

    /// Changes the state of a webhook, and moves its row in the index by due time.
    pub(in crate::tables) fn move_push(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        push: &mut Push,
        state: PushState,
    ) {
        if let Some(due) = push.state.due() {
            tx.clear(&self.keys.push_due(push.subscription, due, id));
        }
        if let Some(due) = state.due() {
            let mark = self.webhook_mark(push.subscription);
            self.add_push_due(tx, push.subscription, due, id);
            let is_retry = matches!(state, PushState::Waiting { .. });
            if is_retry && is_planted(Bug::MarkNotMovedByRetry) {
                self.set_webhook_mark(push.subscription, mark);
            }
        }
        push.state = state;
    }

    /// Adds a row to the index by due time. The subscription's mark lets it be found.
    fn add_push_due(
        &mut self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
        due: Timestamp,
        id: EventId,
    ) {
        tx.set_owned(self.keys.push_due(subscription, due, id), Vec::new());
        let known = self.webhook_mark(subscription);
        let mut mark = known;
        mark.add(DuePosition::new(due, id));
        if mark != known {
            self.set_webhook_mark(subscription, mark);
        }
    }

    /// The part of a subscription's index by due time that is known to be empty.
    pub(in crate::tables) fn webhook_mark(&self, subscription: SubscriptionId) -> WebhookMark {
        let changed = self.changed_marks.get(&subscription);
        let known = changed.or_else(|| self.known_marks.get(&subscription));
        known.copied().unwrap_or(WebhookMark::UNKNOWN)
    }

    pub(in crate::tables) fn set_webhook_mark(
        &mut self,
        subscription: SubscriptionId,
        mark: WebhookMark,
    ) {
        self.changed_marks.insert(subscription, mark);
    }

    /// Due time of a subscription's first unfinished webhook.
    pub(in crate::tables) async fn first_due(
        &mut self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
    ) -> Result<Option<Timestamp>, TableError> {
        let mut mark = self.webhook_mark(subscription);
        let first = webhook_marks::first_due(tx, self.keys, subscription, &mut mark).await?;
        self.set_webhook_mark(subscription, mark);
        Ok(first)
    }

    /// Ends all unfinished webhooks of an event at `at`; their running attempts end for `reason`.
    pub(in crate::tables) fn drop_pushes(
        &mut self,
        tx: &mut dyn Transaction,
        row: &EventRow,
        delivery: &mut Delivery,
        at: Timestamp,
        reason: &str,
    ) {
        let id = row.event.id;
        let mut dropped = Vec::new();
        for push in &mut delivery.pushes {
            if push.state.due().is_some() {
                self.move_push(tx, id, push, PushState::Dropped);
                dropped.push(push.subscription);
            }
        }
        for subscription in dropped {
            let end = AttemptEnd { at, outcome: AttemptOutcome::Failed, http_status: None };
            if let Some(ended) = end_attempt(delivery, subscription, end, Some(reason)) {
                self.log_attempt(tx, id, &row.event.event_type, ended);
            }
        }
    }

    /// Stores an event and its delivery after its webhooks have changed (`PUSH-2`).
    pub(in crate::tables) fn put_pushed(
        &mut self,
        tx: &mut dyn Transaction,
        row: &mut EventRow,
        delivery: Delivery,
        at: Timestamp,
    ) {
        let state = &mut row.event.state;
        let before = state.status;
        state.next_retry_at = delivery.next_due();
        let is_done = delivery.pushes.iter().all(|push| push.state.due().is_none());
        let is_ended = is_done || is_planted(Bug::DeliveredByTheFirst);
        if is_ended && delivery.pushes.iter().any(|push| push.state == PushState::Delivered) {
            (state.status, state.delivered_at) = (EventStatus::Delivered, Some(at));
        } else if is_done {
            (state.status, state.failed_at) = (EventStatus::Failed, Some(at));
        }
        self.move_row(tx, row, delivery, before);
    }

    /// Adds an attempt that has ended to the list of its subscription.
    pub(in crate::tables) fn log_attempt(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        event_type: &EventType,
        attempt: Attempt,
    ) {
        if let Some(subscription) = attempt.subscription {
            let key = self.keys.logged_attempt(subscription, attempt.started_at, id);
            let row = LoggedAttempt { event_type: event_type.clone(), attempt };
            tx.set_owned(key, row.to_bytes());
        }
    }
}

impl Delivery {
    /// Finds the delivery to a subscription.
    pub(in crate::tables) fn push_mut(
        &mut self,
        subscription: SubscriptionId,
    ) -> Option<&mut Push> {
        self.pushes.iter_mut().find(|push| push.subscription == subscription)
    }
}

/// The end of an attempt to a subscription.
#[derive(Debug, Clone, Copy)]
pub(in crate::tables) struct AttemptEnd {
    pub(in crate::tables) at: Timestamp,
    pub(in crate::tables) outcome: AttemptOutcome,
    pub(in crate::tables) http_status: Option<u16>,
}

/// Records the end of the running attempt to a subscription, and returns it if there is one.
pub(in crate::tables) fn end_attempt(
    delivery: &mut Delivery,
    subscription: SubscriptionId,
    end: AttemptEnd,
    error: Option<&str>,
) -> Option<Attempt> {
    let is_running = |attempt: &&mut Attempt| {
        attempt.subscription == Some(subscription) && attempt.outcome == AttemptOutcome::InProgress
    };
    let attempt = delivery.attempts.iter_mut().rev().find(is_running)?;
    attempt.finished_at = Some(end.at);
    (attempt.outcome, attempt.http_status) = (end.outcome, end.http_status);
    attempt.error = error.map(kept);
    Some(attempt.clone())
}

/// Removes the running attempt to a subscription as if it had never begun; returns the time at
/// which it began. The later attempts move up, because attempts are numbered without gaps.
pub(in crate::tables) fn withdraw_attempt(
    batch: &Batch<'_>,
    tx: &mut dyn Transaction,
    row: &mut EventRow,
    delivery: &mut Delivery,
    subscription: SubscriptionId,
) -> Option<Timestamp> {
    let position = delivery.attempts.iter().rposition(|attempt| {
        attempt.subscription == Some(subscription) && attempt.outcome == AttemptOutcome::InProgress
    })?;
    let withdrawn = delivery.attempts.remove(position);
    let state = &mut row.event.state;
    state.attempts = state.attempts.saturating_sub(1);
    state.last_attempt_at = delivery.attempts.last().map(|attempt| attempt.started_at);
    for later in &mut delivery.attempts[position..] {
        later.number -= 1;
        if later.finished_at.is_some() {
            batch.log_attempt(tx, row.event.id, &row.event.event_type, later.clone());
        }
    }
    Some(withdrawn.started_at)
}

/// Cuts a reason to the length that is stored, because a delivery with all its attempts is one row.
pub(in crate::tables) fn kept(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

/// Changes a delay by up to a fifth, so that events which failed together are not retried together.
pub(in crate::tables) fn jittered(delay: Duration, draw: u64) -> Duration {
    let per_mille = 800 + u32::try_from(draw % 401).expect("a remainder below 401 fits");
    delay * per_mille / 1_000
}
