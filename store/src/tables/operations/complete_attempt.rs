//! Completes an attempt to a subscription: stores its result, and schedules the next attempt.
//!
//! - `COMPLETE-1`: only the running attempt can be completed, and only once. A repeated command
//!   finds the attempt's token and gives the same notice.
//! - `COMPLETE-2`: after a failure the next attempt is due by the retry policy or when the endpoint
//!   asks for it, within the policy's total time (at least a day). A failure does not count if the
//!   endpoint asks for an earlier retry than the policy, up to [`DEFERRALS_MAX`] times.
//! - `COMPLETE-3`: a subscription is disabled when its endpoint answers that it is gone, or when
//!   every attempt has failed for the node's `disable_after`. The audit records it.
//! - `COMPLETE-4`: an attempt that the node could not make is withdrawn: it is in no list, costs no
//!   retry and changes no subscription. The next one is due after [`POSTPONED_MIN`], doubled each
//!   time up to [`POSTPONED_MAX`], and the policy's total time is longer by the time lost.

use super::{Footprint, Operation, Stamp};
use crate::kv::{Prefetch, Transaction};
use crate::tables::batch::{
    AttemptEnd, Batch, EndpointHealth, Initiator, Notice, OperationLimits, end_attempt, jittered,
    withdraw_attempt,
};
use crate::tables::keys::{self, TenantKeys};
use crate::tables::rows::{
    AttemptOutcome, AuditAction, Delivery, DisabledReason, EventRow, Push, PushState,
    SubscriptionRow, SubscriptionStatus,
};
use crate::tables::{TableError, inbox};
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, RetryPolicy, SubscriptionId, Timestamp};

/// Retries of one webhook that the endpoint may ask for earlier than the policy makes them.
const DEFERRALS_MAX: u32 = 20;
/// Lower bound of the time in which an event is retried.
const DELIVERY_TIME_MIN: Duration = Duration::from_secs(86_400);
/// Wait after an attempt that the node could not make; it doubles up to [`POSTPONED_MAX`].
const POSTPONED_MIN: Duration = Duration::from_millis(500);
const POSTPONED_MAX: Duration = Duration::from_secs(60);

/// Stores the result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteAttempt {
    /// Event of the attempt.
    pub id: EventId,
    /// Target of the attempt.
    pub subscription: SubscriptionId,
    /// Identity of the attempt, from its claim.
    pub token: u64,
    /// Time at which the attempt ended.
    pub at: Timestamp,
    /// Result of the attempt.
    pub result: AttemptResult,
    /// What the attempt says about the endpoint, for the inbox.
    pub health: EndpointHealth,
    /// URL that was called. The result does not affect a subscription that has another one by now.
    pub target_url: String,
}

/// Result of an attempt, for the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptResult {
    /// The endpoint accepted the event.
    Delivered {
        /// HTTP status of the answer.
        http_status: u16,
    },
    /// The endpoint did not accept the event.
    Failed {
        /// HTTP status, if there was an answer.
        http_status: Option<u16>,
        /// Description of the failure.
        error: String,
        /// Delay that the endpoint asks for.
        retry_after: Option<Duration>,
    },
    /// The endpoint will never accept an event again.
    Gone {
        /// HTTP status of the answer.
        http_status: u16,
    },
    /// The node could not make the attempt: nothing reached the endpoint.
    Unsent,
}

impl AttemptResult {
    fn outcome(&self) -> AttemptOutcome {
        match self {
            Self::Delivered { .. } => AttemptOutcome::Succeeded,
            Self::Failed { .. } | Self::Gone { .. } | Self::Unsent => AttemptOutcome::Failed,
        }
    }

    fn http_status(&self) -> Option<u16> {
        match self {
            Self::Failed { http_status, .. } => *http_status,
            Self::Delivered { http_status } | Self::Gone { http_status } => Some(*http_status),
            Self::Unsent => None,
        }
    }

    fn error(&self) -> Option<&str> {
        match self {
            Self::Delivered { .. } | Self::Unsent => None,
            Self::Failed { error, .. } => Some(error),
            Self::Gone { .. } => Some("the endpoint is gone (410)"),
        }
    }
}

impl Operation for CompleteAttempt {
    type Reply = ();

    fn footprint(&self) -> Footprint {
        Footprint { has_notices: true, ..Footprint::naming(self.id) }
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        _stamp: &Stamp,
    ) {
        inbox::add_row(reads, keys, self.id);
        reads.key(keys.subscription(self.subscription));
        reads.key(keys::tenant(keys.tenant()));
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<(), TableError> {
        let (id, health) = (self.id, self.health);
        let subscription = self.subscription;
        let mut stored = batch.attempted(tx, subscription).await?;
        // The event was deleted or replayed without this webhook: there is no attempt to complete.
        let Some((mut row, mut delivery)) = batch.read_pushed(tx, id).await? else { return Ok(()) };
        let Some(push) = delivery.push_mut(subscription) else { return Ok(()) };
        let due = if push.completed == self.token {
            push.state.due()
        } else {
            if !matches!(push.state, PushState::Running { token, .. } if token == self.token) {
                return Ok(());
            }
            if let Some(stored) = stored.as_mut().filter(|row| row.target_url == self.target_url) {
                self.judge(batch, tx, stored).await?;
            }
            let active = stored.as_ref().filter(|row| row.is_active());
            let policy = match (&self.result, active) {
                // No retry follows.
                (AttemptResult::Delivered { .. }, _) | (_, None) => None,
                (_, Some(row)) => Some(match &row.retry_policy {
                    Some(own) => own.clone(),
                    None => batch.policy(tx).await?,
                }),
            };
            let is_gone = active.is_none_or(|row| row.target_url == self.target_url);
            let state = next_state(push, self, stamp.nonce, policy.as_ref(), is_gone);
            batch.move_push(tx, id, push, state);
            if let (Some(due), true) = (state.due(), is_planted(Bug::RetryForgotten)) {
                tx.clear(&batch.keys.push_due(subscription, due, id));
            }
            push.completed = self.token;
            if self.result == AttemptResult::Unsent {
                self.withdraw(batch, tx, &mut row, &mut delivery, state);
            } else {
                self.record_end(batch, tx, &mut row, &mut delivery);
            }
            batch.put_pushed(tx, &mut row, delivery, self.at);
            if let Some(due) = state.due() {
                batch.note_due(subscription, due);
            }
            state.due()
        };
        batch.completed.insert(id);
        batch.activity.delivered += u32::from(row.event.state.status == EventStatus::Delivered);
        batch.notify(Notice::Completed { subscription, due, row: stored, health });
        Ok(())
    }
}

impl CompleteAttempt {
    /// Records the end of the attempt in the event's list and the subscription's.
    fn record_end(
        &self,
        batch: &Batch<'_>,
        tx: &mut dyn Transaction,
        row: &mut EventRow,
        delivery: &mut Delivery,
    ) {
        let (at, outcome, http_status) =
            (self.at, self.result.outcome(), self.result.http_status());
        let end = AttemptEnd { at, outcome, http_status };
        if let Some(ended) = end_attempt(delivery, self.subscription, end, self.result.error()) {
            if let Some(error) = &ended.error {
                row.event.state.last_error = Some(error.clone());
            }
            batch.log_attempt(tx, self.id, &row.event.event_type, ended);
        }
    }

    /// Removes the attempt, and prolongs the policy's total time by the time lost (`COMPLETE-4`).
    fn withdraw(
        &self,
        batch: &Batch<'_>,
        tx: &mut dyn Transaction,
        row: &mut EventRow,
        delivery: &mut Delivery,
        state: PushState,
    ) {
        let began = withdraw_attempt(batch, tx, row, delivery, self.subscription);
        if let (Some(began), Some(push)) = (began, delivery.push_mut(self.subscription)) {
            push.since = push.since.plus(state.due().unwrap_or(self.at).since(began));
        }
    }

    /// Updates the subscription by the result, and disables it if necessary (`COMPLETE-3`).
    async fn judge(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stored: &mut Arc<SubscriptionRow>,
    ) -> Result<(), TableError> {
        let is_delivered = matches!(self.result, AttemptResult::Delivered { .. });
        if is_delivered && stored.failing_since.is_none() {
            return Ok(());
        }
        let row = Arc::make_mut(stored);
        let before = (row.failing_since, row.held_until, row.status);
        let disable_after = batch.limits.disable_after;
        let reason = match &self.result {
            AttemptResult::Delivered { .. } => {
                row.failing_since = None;
                None
            }
            AttemptResult::Failed { retry_after, .. } => {
                row.held_until = row.held_until.max(retry_after.map(|wait| self.at.plus(wait)));
                let since = *row.failing_since.get_or_insert(self.at);
                (self.at.since(since) >= disable_after).then_some(DisabledReason::Failing)
            }
            AttemptResult::Gone { .. } => Some(DisabledReason::Gone),
            AttemptResult::Unsent => None,
        };
        if let Some(reason) = reason.filter(|_| row.is_active()) {
            row.status = SubscriptionStatus::Disabled { reason, at: self.at };
            // Later appends of this batch must not send it events.
            batch.forget_subscriptions();
            batch.note_due(row.id, Timestamp::EPOCH);
            let detail = match reason {
                DisabledReason::Gone => "the endpoint answered 410".to_owned(),
                DisabledReason::Failing | DisabledReason::Requested => {
                    format!("every attempt has failed for {} s", disable_after.as_secs())
                }
            };
            let (by, action) = (Initiator::BROKER, AuditAction::SubscriptionDisabled);
            batch.audit(tx, self.at, &by, row.id, action, detail).await?;
        }
        if before != (row.failing_since, row.held_until, row.status) {
            batch.put_attempted(tx, stored);
        }
        Ok(())
    }
}

/// State of the webhook after the attempt. Without a policy there are no retries. `is_gone`: an
/// answer 410 came from the subscription's present endpoint.
fn next_state(
    push: &mut Push,
    complete: &CompleteAttempt,
    draw: u64,
    policy: Option<&RetryPolicy>,
    is_gone: bool,
) -> PushState {
    let at = complete.at;
    let asked = match complete.result {
        AttemptResult::Delivered { .. } => return PushState::Delivered,
        AttemptResult::Gone { .. } if is_gone => return PushState::Dropped,
        AttemptResult::Gone { .. } => None,
        AttemptResult::Failed { retry_after, .. } => retry_after,
        AttemptResult::Unsent => return postponed(push, at, draw, policy.is_some()),
    };
    push.postponements = 0;
    let Some(policy) = policy else { return PushState::Dropped };
    // Jitter may add a fifth to the policy's time.
    let latest = push.since.plus((policy.total() * 6 / 5).max(DELIVERY_TIME_MIN));
    if at >= latest {
        return PushState::Dropped;
    }
    let failures =
        if is_planted(Bug::OneAttemptTooMany) { push.failures.max(1) } else { push.failures + 1 };
    let by_policy = policy.delay_after(failures).map(|delay| jittered(delay, draw));
    let delay = match (asked, by_policy) {
        (Some(asked), by_policy)
            if push.deferrals < DEFERRALS_MAX
                && by_policy.is_none_or(|by_policy| asked < by_policy) =>
        {
            push.deferrals += 1;
            asked
        }
        (asked, Some(by_policy)) => {
            push.failures += 1;
            by_policy.max(asked.unwrap_or_default())
        }
        (_, None) => {
            push.failures += 1;
            return PushState::Dropped;
        }
    };
    PushState::Waiting { due: at.plus(delay).min(latest) }
}

/// State of the webhook after an attempt that the node could not make (`COMPLETE-4`).
fn postponed(push: &mut Push, at: Timestamp, draw: u64, is_active: bool) -> PushState {
    if !is_active {
        return PushState::Dropped;
    }
    let factor = 1 << push.postponements.min(16);
    let delay = jittered((POSTPONED_MIN * factor).min(POSTPONED_MAX), draw);
    push.postponements = push.postponements.saturating_add(1);
    PushState::Waiting { due: at.plus(delay) }
}
