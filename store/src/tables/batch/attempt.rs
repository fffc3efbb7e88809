//! Claiming: attempts to a subscription begin in a transaction, before anything is sent.
//!
//! Invariants: `ATTEMPT-1` an attempt is stored as begun before its webhook is sent, and has a time until which something
//! must be heard of it; `ATTEMPT-2` one of which nothing was heard ends as failed when that time has passed, and is followed
//! by another at once: the endpoint is not to blame, so the retry policy does not count it, but there are at most
//! [`INTERRUPTIONS_MAX`] of them; `ATTEMPT-3` attempts begin in the order in which they are due; `ATTEMPT-4` a repeated
//! command finds what it took by its nonce.

use super::push::TRANSACTION_BYTES_AIMED;
use super::{Batch, Outcome, TableError};
use crate::kv::{RangeRead, Transaction};
use crate::tables::inbox;
use crate::tables::keys::{id_of_key, time_of_due_key};
use crate::tables::rows::{
    ATTEMPTS_KEPT_MAX, Attempt, AttemptOutcome, Delivery, LoggedAttempt, PushState, Row,
    SubscriptionRow,
};
use crate::tables::subscriptions;
use triggers_protocol::{Event, EventId, EventType, SubscriptionId, Timestamp};

/// Attempts to one webhook that may end with their node.
const INTERRUPTIONS_MAX: u32 = 10;
/// Bytes of a reason that are kept with each attempt.
const REASON_BYTES_MAX: usize = 512;
/// Payload bytes of the claims of one batch, about.
const CLAIM_BYTES_MAX: usize = 4 << 20;

/// A wish for attempts to a subscription.
#[derive(Debug, Clone)]
pub struct ClaimPushes {
    /// To whom.
    pub subscription: SubscriptionId,
    /// Attempts at most.
    pub limit: usize,
    /// When they begin.
    pub at: Timestamp,
    /// Until when something is heard of them.
    pub until: Timestamp,
    /// Tells this command, and its attempts, from others.
    pub nonce: u64,
}

/// An attempt that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The event as the endpoint gets it.
    pub event: Event,
    /// The attempt's token.
    pub token: u64,
}

impl Batch<'_> {
    pub(super) async fn claim(
        &mut self,
        tx: &mut dyn Transaction,
        claim: &ClaimPushes,
    ) -> Result<Outcome, TableError> {
        let subscription = subscriptions::read(tx, self.keys, claim.subscription).await?;
        let Some(subscription) = subscription.filter(SubscriptionRow::is_active) else {
            return Ok(Outcome::Claimed { attempts: Vec::new(), next: None });
        };
        let attempts = match self.leased_before(tx, claim.nonce).await? {
            Some(ids) => self.claimed_before(tx, claim, ids).await?,
            None => self.take_pushes(tx, claim, &subscription).await?,
        };
        if !attempts.is_empty() {
            self.leased
                .push((claim.nonce, attempts.iter().map(|claimed| claimed.event.id).collect()));
        }
        let first =
            tx.range_snapshot(RangeRead::first(self.keys.pushes(claim.subscription), 1)).await?;
        let next = first.pairs.first().and_then(|(key, _)| time_of_due_key(key));
        Ok(Outcome::Claimed { attempts, next })
    }

    /// What an earlier run of this command took, as far as it is still under way.
    async fn claimed_before(
        &self,
        tx: &mut dyn Transaction,
        claim: &ClaimPushes,
        ids: Vec<EventId>,
    ) -> Result<Vec<Claimed>, TableError> {
        let mut attempts = Vec::with_capacity(ids.len());
        for id in ids {
            let Some((row, mut delivery)) = self.read_row(tx, id).await? else { continue };
            let own = PushState::Running { until: claim.until, token: claim.nonce };
            if delivery.push_mut(claim.subscription).is_some_and(|push| push.state == own) {
                let event = inbox::whole(tx, self.keys, row).await?;
                attempts.push(Claimed { event, token: claim.nonce });
            }
        }
        Ok(attempts)
    }

    async fn take_pushes(
        &mut self,
        tx: &mut dyn Transaction,
        claim: &ClaimPushes,
        subscription: &SubscriptionRow,
    ) -> Result<Vec<Claimed>, TableError> {
        let due = self.keys.pushes_until(claim.subscription, claim.at);
        // Those that this batch has settled are passed over.
        let page =
            tx.range_snapshot(RangeRead::first(due, claim.limit + self.settled.len())).await?;
        let mut attempts = Vec::new();
        for (key, _) in page.pairs {
            let is_full = self.claimed_bytes >= CLAIM_BYTES_MAX
                || tx.approximate_size() > TRANSACTION_BYTES_AIMED;
            if attempts.len() >= claim.limit || is_full {
                break;
            }
            let (Some(id), Some(due)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
            if self.settled.contains(&id) {
                continue;
            }
            match self.begin(tx, claim, (id, due), subscription).await? {
                Some(event) => {
                    self.claimed_bytes += event.payload.len();
                    attempts.push(Claimed { event, token: claim.nonce });
                }
                // Nothing waits there, or it was given up: a place without its webhook is removed.
                None => tx.clear(&key),
            }
        }
        Ok(attempts)
    }

    /// Begins an attempt to a webhook that is due; none if there is none, or it has been tried often enough.
    async fn begin(
        &mut self,
        tx: &mut dyn Transaction,
        claim: &ClaimPushes,
        (id, due): (EventId, Timestamp),
        subscription: &SubscriptionRow,
    ) -> Result<Option<Event>, TableError> {
        let Some((mut row, mut delivery)) = self.read_row(tx, id).await? else { return Ok(None) };
        let is_here = |push: &&mut crate::tables::rows::Push| push.state.due() == Some(due);
        let Some(push) = delivery.push_mut(subscription.id).filter(is_here) else {
            return Ok(None);
        };
        let was_interrupted = matches!(push.state, PushState::Running { .. });
        if push.failures == 0 && push.interruptions == 0 && !was_interrupted {
            // The time that it has waited for its first attempt is not charged to it.
            push.since = claim.at;
        }
        push.interruptions += u32::from(was_interrupted);
        let is_given_up = push.interruptions > INTERRUPTIONS_MAX;
        let state = match is_given_up {
            true => PushState::Dropped,
            false => PushState::Running { until: claim.until, token: claim.nonce },
        };
        self.move_push(tx, id, push, state);
        if was_interrupted {
            let reason = "the attempt ended with its node: whether it arrived is not known";
            let ended = end(
                &mut delivery,
                subscription.id,
                due,
                AttemptOutcome::Failed,
                None,
                Some(reason),
            );
            self.log(tx, subscription.id, id, &row.event.event_type, ended);
            row.event.state.last_error = Some(reason.to_owned());
        }
        if !is_given_up {
            row.event.state.attempts += 1;
            row.event.state.last_attempt_at = Some(claim.at);
            begin(&mut delivery, row.event.state.attempts, claim.at, Some(subscription.id));
        }
        self.put_pushed(tx, &mut row, delivery, claim.at);
        if is_given_up {
            return Ok(None);
        }
        Ok(Some(inbox::whole(tx, self.keys, row).await?))
    }

    /// Puts an attempt that has ended into the list of its subscription.
    pub(super) fn log(
        &self,
        tx: &mut dyn Transaction,
        subscription: SubscriptionId,
        id: EventId,
        event_type: &EventType,
        ended: Option<Attempt>,
    ) {
        if let Some(attempt) = ended {
            let key = self.keys.logged_attempt(subscription, attempt.started_at, id);
            tx.set(&key, &LoggedAttempt { event_type: event_type.clone(), attempt }.to_bytes());
        }
    }
}

/// Notes that an attempt has begun.
pub(super) fn begin(
    delivery: &mut Delivery,
    number: u32,
    started_at: Timestamp,
    subscription: Option<SubscriptionId>,
) {
    if delivery.attempts.len() >= ATTEMPTS_KEPT_MAX {
        // The oldest that has ended: the end of one that is under way is still to be noted.
        let ended = delivery.attempts.iter().position(|attempt| attempt.finished_at.is_some());
        delivery.attempts.remove(ended.unwrap_or(0));
    }
    let outcome = AttemptOutcome::InProgress;
    let attempt = Attempt {
        number,
        started_at,
        finished_at: None,
        outcome,
        error: None,
        http_status: None,
        subscription,
    };
    delivery.attempts.push(attempt);
}

/// What is kept of a reason with each attempt: a delivery is one value, with all of its attempts in it.
pub(super) fn kept(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

/// Notes how the running attempt to a subscription has ended; the attempt, if it is remembered.
pub(super) fn end(
    delivery: &mut Delivery,
    subscription: SubscriptionId,
    at: Timestamp,
    outcome: AttemptOutcome,
    http_status: Option<u16>,
    error: Option<&str>,
) -> Option<Attempt> {
    let is_running = |attempt: &&mut Attempt| {
        attempt.subscription == Some(subscription) && attempt.outcome == AttemptOutcome::InProgress
    };
    let attempt = delivery.attempts.iter_mut().rev().find(is_running)?;
    (attempt.finished_at, attempt.outcome, attempt.http_status) = (Some(at), outcome, http_status);
    attempt.error = error.map(kept);
    Some(attempt.clone())
}
