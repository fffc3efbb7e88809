//! Settling: what an attempt to a subscription came to, and what follows from it.
//!
//! Invariants: `SETTLE-1` only the attempt that is under way can be settled, and only once; a repeated command finds its
//! token and tells the same; `SETTLE-2` after a failure the next attempt is due by the retry policy of the subscription, or
//! else of the tenant, or when the endpoint asks for it, until when the whole subscription is held, but not later than the
//! policy's whole time (at least a day) after the first one; one that it asks for earlier than the policy would make it is not
//! charged to the policy, up to [`DEFERRALS_MAX`] times; `SETTLE-3` a subscription is disabled by an answer that says that it is gone, and when every
//! attempt has failed for longer than is put up with; either is in the audit.

use super::lease::jittered;
use super::{Batch, Outcome, TableError, attempt};
use crate::kv::Transaction;
use crate::tables::rows::Attempt;
use crate::tables::rows::{
    Actor, AttemptOutcome, AuditAction, AuditRow, Delivery, DisabledReason, Push, PushState, Row,
    SubscriptionRow, SubscriptionStatus,
};
use crate::tables::subscriptions;
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, RetryPolicy, SubscriptionId, Timestamp};

/// Attempts that an endpoint may ask for earlier than the policy would make them.
const DEFERRALS_MAX: u32 = 20;
/// A delivery may always take this long in all.
const WHOLE_TIME_MIN: Duration = Duration::from_secs(86_400);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushResult {
    /// The endpoint has the event.
    Delivered {
        /// Its HTTP status.
        http_status: u16,
    },
    /// It has not.
    Failed {
        /// Its HTTP status, if it answered.
        http_status: Option<u16>,
        /// What went wrong.
        error: String,
        /// When it wants the next attempt.
        retry_after: Option<Duration>,
    },
    /// It will never again take one.
    Gone {
        /// Its HTTP status.
        http_status: u16,
    },
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The event.
    pub id: EventId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The attempt's token.
    pub token: u64,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub result: PushResult,
    /// Draws the jitter of the next attempt.
    pub draw: u64,
    /// How long every attempt to a subscription may fail before it is disabled.
    pub disable_after: Duration,
    /// The endpoint: if the subscription has another one by now, it tells nothing of that.
    pub target_url: String,
}

/// What followed from the end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// When the next attempt is due; none if there is none.
    pub due: Option<Timestamp>,
    /// Whether the event is delivered with this.
    pub is_delivered: bool,
    /// The subscription as it is now; none if it is gone.
    pub subscription: Option<SubscriptionRow>,
}

impl Batch<'_> {
    pub(super) async fn settle(
        &mut self,
        tx: &mut dyn Transaction,
        settle: &Settle,
    ) -> Result<Outcome, TableError> {
        let id = settle.id;
        let mut subscription = subscriptions::read(tx, self.keys, settle.subscription).await?;
        let Some((mut row, mut delivery)) = self.read_row(tx, id).await? else {
            return self.missing(tx, id, settle.at, false).await;
        };
        let Some(push) = delivery.push_mut(settle.subscription) else {
            return Ok(Outcome::Conflict);
        };
        if push.settled == settle.token {
            let due = push.state.due();
            self.settled.insert(id);
            let is_delivered = row.event.state.status == EventStatus::Delivered;
            return Ok(Outcome::Settled(Box::new(Settled { due, is_delivered, subscription })));
        }
        if !matches!(push.state, PushState::Running { token, .. } if token == settle.token) {
            return Ok(Outcome::Conflict);
        }
        if let Some(stored) =
            subscription.as_mut().filter(|row| row.target_url == settle.target_url)
        {
            self.judge(tx, stored, settle).await?;
        }
        let active = subscription.as_ref().filter(|row| row.is_active());
        let policy = match active.and_then(|row| row.retry_policy.clone()) {
            Some(own) => own,
            None => self.policy(tx).await?,
        };
        let is_gone = active.is_none_or(|row| row.target_url == settle.target_url);
        let state = next_state(push, settle, active.map(|_| &policy), is_gone);
        self.move_push(tx, id, push, state);
        if let (Some(due), true) = (state.due(), is_planted(Bug::RetryForgotten)) {
            tx.clear(&self.keys.push_due(settle.subscription, due, id));
        }
        push.settled = settle.token;
        let ended = end_attempt(&mut delivery, settle);
        self.log(tx, settle.subscription, id, &row.event.event_type, ended.clone());
        if let Some(error) = ended.and_then(|attempt| attempt.error) {
            row.event.state.last_error = Some(error);
        }
        self.put_pushed(tx, &mut row, delivery, settle.at);
        self.settled.insert(id);
        if let Some(due) = state.due() {
            self.note_due(settle.subscription, due);
        }
        let is_delivered = row.event.state.status == EventStatus::Delivered;
        Ok(Outcome::Settled(Box::new(Settled { due: state.due(), is_delivered, subscription })))
    }

    /// Notes on the subscription what the attempt tells of its endpoint (`SETTLE-3`).
    async fn judge(
        &mut self,
        tx: &mut dyn Transaction,
        row: &mut SubscriptionRow,
        settle: &Settle,
    ) -> Result<(), TableError> {
        let before = (row.failing_since, row.held_until, row.status);
        let reason = match &settle.result {
            PushResult::Delivered { .. } => {
                row.failing_since = None;
                None
            }
            PushResult::Failed { retry_after, .. } => {
                row.held_until = row.held_until.max(retry_after.map(|wait| settle.at.plus(wait)));
                let since = *row.failing_since.get_or_insert(settle.at);
                (settle.at.since(since) >= settle.disable_after).then_some(DisabledReason::Failing)
            }
            PushResult::Gone { .. } => Some(DisabledReason::Gone),
        };
        if let Some(reason) = reason.filter(|_| row.is_active()) {
            row.status = SubscriptionStatus::Disabled { reason, at: settle.at };
            // Events of this batch that are still to be accepted do not go to it.
            self.subscriptions = None;
            self.note_due(row.id, Timestamp::EPOCH);
            let detail = match reason {
                DisabledReason::Gone => "the endpoint answered 410".to_owned(),
                _ => format!("every attempt has failed for {} s", settle.disable_after.as_secs()),
            };
            let audit = AuditRow {
                actor: Actor::Broker,
                action: AuditAction::SubscriptionDisabled,
                target: row.id.to_string(),
                detail,
                source_ip: String::new(),
                request_id: String::new(),
            };
            self.audit(tx, settle.at, &audit).await?;
        }
        if before != (row.failing_since, row.held_until, row.status) {
            tx.set(&self.keys.subscription(row.id), &row.to_bytes());
        }
        Ok(())
    }
}

/// What follows for the webhook; there is no policy if nothing more may be tried, and an endpoint that is gone is believed
/// only if it is still the subscription's.
fn next_state(
    push: &mut Push,
    settle: &Settle,
    policy: Option<&RetryPolicy>,
    is_gone: bool,
) -> PushState {
    let asked = match settle.result {
        PushResult::Delivered { .. } => return PushState::Delivered,
        PushResult::Gone { .. } if is_gone => return PushState::Dropped,
        PushResult::Gone { .. } => None,
        PushResult::Failed { retry_after, .. } => retry_after,
    };
    let Some(policy) = policy else { return PushState::Dropped };
    // A fifth more than the policy's own time, which is what its jitter may add.
    let latest = push.since.plus((policy.total() * 6 / 5).max(WHOLE_TIME_MIN));
    if settle.at >= latest {
        return PushState::Dropped;
    }
    let failures =
        if is_planted(Bug::OneAttemptTooMany) { push.failures.max(1) } else { push.failures + 1 };
    let by_policy = policy.delay_after(failures).map(|delay| jittered(delay, settle.draw));
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
    PushState::Waiting { due: settle.at.plus(delay).min(latest) }
}

fn end_attempt(delivery: &mut Delivery, settle: &Settle) -> Option<Attempt> {
    let (outcome, http_status, error) = match &settle.result {
        PushResult::Delivered { http_status } => {
            (AttemptOutcome::Succeeded, Some(*http_status), None)
        }
        PushResult::Failed { http_status, error, .. } => {
            (AttemptOutcome::Failed, *http_status, Some(error.as_str()))
        }
        PushResult::Gone { http_status } => (
            AttemptOutcome::Failed,
            Some(*http_status),
            Some("the endpoint is gone for good (410)"),
        ),
    };
    attempt::end(delivery, settle.subscription, settle.at, outcome, http_status, error)
}
