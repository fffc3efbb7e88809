//! Leases: handing events to a consumer for a time, holding them longer, taking them back.
//!
//! Invariants: `LEASE-1` an event is leased to at most one consumer: the rows that say so are read serializably;
//! `LEASE-2` a token is of use only while its lease holds: not after its end, not after the next lease; `LEASE-3` every
//! lease is an attempt, numbered on without gaps; `LEASE-4` an event whose next attempt is due comes before those that
//! were never attempted; `LEASE-5` a repeated command finds what it did by its nonce and gives the same outcome.

use super::{Batch, Outcome, Refuse, TableError, attempt};
use crate::kv::{RangeRead, Transaction};
use crate::tables::access;
use crate::tables::inbox;
use crate::tables::keys::{id_of_key, time_of_due_key};
use crate::tables::rows::{
    Attempt, AttemptOutcome, Claim, Delivery, EventRow, LeaseToken, RecentLeases, Row,
};
use sha2::{Digest, Sha256};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventTypePattern, RetryPolicy, Timestamp};

/// Rows that are looked at to find events of the wanted types.
const SCAN_ROWS_MAX: usize = 2_000;
const SCAN_PAGE: usize = 250;
/// Payload bytes of one lease, about.
const LEASE_BYTES_MAX: usize = 4 << 20;

/// A consumer's wish for events.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Tells this command from others.
    pub nonce: u64,
    /// Secret that the tokens come from.
    pub seed: [u8; 16],
    /// Events at most.
    pub limit: usize,
    /// Any of these; empty selects everything.
    pub event_types: Vec<EventTypePattern>,
    /// When the lease begins.
    pub at: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

/// An event that a consumer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The event as it is now.
    pub event: Event,
    /// The proof.
    pub token: LeaseToken,
}

impl Lease {
    fn token(&self, id: EventId) -> LeaseToken {
        let digest = Sha256::new().chain_update(self.seed).chain_update(id.to_bytes()).finalize();
        let mut token = [0; 16];
        token.copy_from_slice(&digest[..16]);
        token
    }

    fn selects(&self, event_type: &str) -> bool {
        self.event_types.is_empty()
            || self.event_types.iter().any(|pattern| pattern.matches(event_type))
    }
}

impl Batch<'_> {
    pub(super) async fn lease(
        &mut self,
        tx: &mut dyn Transaction,
        lease: &Lease,
    ) -> Result<Outcome, TableError> {
        if let Some(ids) = self.leased_before(tx, lease.nonce).await? {
            // Whoever commits has not heard yet of when they end.
            self.lease_ends_changed = true;
            // Kept for a third run, should this one take more for another command.
            self.leased.push((lease.nonce, ids.clone()));
            let mut leased = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some((row, _)) = self.read_row(tx, id).await? {
                    let event = inbox::whole(tx, self.keys, row).await?;
                    leased.push(Leased { event, token: lease.token(id) });
                }
            }
            return Ok(Outcome::Leased(leased));
        }
        let mut leased = Vec::new();
        self.take_due(tx, lease, &mut leased).await?;
        self.take_new(tx, lease, &mut leased).await?;
        if !leased.is_empty() {
            self.leased.push((lease.nonce, leased.iter().map(|leased| leased.event.id).collect()));
        }
        Ok(Outcome::Leased(leased))
    }

    /// What an earlier run of this command took.
    pub(super) async fn leased_before(
        &self,
        tx: &mut dyn Transaction,
        nonce: u64,
    ) -> Result<Option<Vec<EventId>>, TableError> {
        let Some(stored) = tx.get(&self.keys.recent_leases()).await? else { return Ok(None) };
        let RecentLeases(recent) = RecentLeases::from_bytes(&stored)?;
        Ok(recent.into_iter().find(|(of, _)| *of == nonce).map(|(_, ids)| ids))
    }

    /// Events whose next attempt is due, the longest due first.
    async fn take_due(
        &mut self,
        tx: &mut dyn Transaction,
        lease: &Lease,
        leased: &mut Vec<Leased>,
    ) -> Result<(), TableError> {
        let due = RangeRead::first(self.keys.waiting_until(lease.at), SCAN_PAGE.max(lease.limit));
        for (key, _) in tx.range_snapshot(due).await?.pairs {
            let (Some(id), Some(due)) = (id_of_key(&key), time_of_due_key(&key)) else { continue };
            if is_full(lease, leased) {
                break;
            }
            let Some((row, mut delivery)) = self.read_row(tx, id).await? else { continue };
            if delivery.claim == (Claim::Waiting { due })
                && lease.selects(row.event.event_type.as_str())
            {
                tx.clear(&key);
                delivery.claim = Claim::None;
                leased.push(self.hand_out(tx, lease, row, delivery).await?);
            }
        }
        Ok(())
    }

    /// Events that were never attempted, or were replayed, oldest first.
    async fn take_new(
        &mut self,
        tx: &mut dyn Transaction,
        lease: &Lease,
        leased: &mut Vec<Leased>,
    ) -> Result<(), TableError> {
        let mut range = self.keys.queue_range(EventStatus::Received, EventId::ZERO, None);
        if is_planted(Bug::LeasedTwice) && self.stored_subscriptions == 0 {
            range.end = self.keys.queue_range(EventStatus::Queued, EventId::ZERO, None).end;
        }
        let mut looked_at = 0;
        while looked_at < SCAN_ROWS_MAX && !is_full(lease, leased) {
            let page = tx.range_snapshot(RangeRead::first(range.clone(), SCAN_PAGE)).await?;
            for (key, event_type) in &page.pairs {
                looked_at += 1;
                let selected =
                    std::str::from_utf8(event_type).is_ok_and(|text| lease.selects(text));
                let Some(id) = id_of_key(key).filter(|_| selected) else { continue };
                if is_full(lease, leased) {
                    return Ok(());
                }
                let Some((row, delivery)) = self.read_row(tx, id).await? else { continue };
                leased.push(self.hand_out(tx, lease, row, delivery).await?);
            }
            match page.pairs.last() {
                Some((last, _)) if page.has_more => range.begin = [&last[..], &[0]].concat().into(),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Gives one event to the consumer: a new attempt begins.
    async fn hand_out(
        &mut self,
        tx: &mut dyn Transaction,
        lease: &Lease,
        mut row: EventRow,
        mut delivery: Delivery,
    ) -> Result<Leased, TableError> {
        let (id, state) = (row.event.id, &mut row.event.state);
        let before = std::mem::replace(&mut state.status, EventStatus::Queued);
        state.attempts += 1;
        state.last_attempt_at = Some(lease.at);
        state.next_retry_at = None;
        let token = lease.token(id);
        delivery.claim = Claim::Leased { until: lease.until };
        delivery.token = Some(token);
        delivery.changed_by = lease.nonce;
        attempt::begin(&mut delivery, state.attempts, lease.at, None);
        tx.set(&self.keys.lease_end(lease.until, id), &[]);
        self.lease_ends_changed = true;
        self.move_row(tx, &row, delivery, before);
        Ok(Leased { event: inbox::whole(tx, self.keys, row).await?, token })
    }

    pub(super) async fn extend(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        token: LeaseToken,
        (at, until): (Timestamp, Timestamp),
        nonce: u64,
    ) -> Result<Outcome, TableError> {
        let Some((row, mut delivery)) = self.read_row(tx, id).await? else {
            return self.missing(tx, id, at, false).await;
        };
        if delivery.changed_by != nonce {
            let Claim::Leased { until: old } = delivery.claim else { return Ok(Outcome::Conflict) };
            if !holds(&delivery, token, at) {
                return Ok(Outcome::Conflict);
            }
            tx.clear(&self.keys.lease_end(old, id));
            tx.set(&self.keys.lease_end(until, id), &[]);
            delivery.claim = Claim::Leased { until };
            delivery.changed_by = nonce;
            tx.set(&self.keys.delivery(id), &delivery.to_bytes());
        }
        // Also when an earlier run has done it: whoever commits has not heard of it yet.
        self.lease_ends_changed = true;
        Ok(Outcome::Changed(Box::new(row)))
    }

    /// A consumer gives an event back.
    pub(super) async fn refuse(
        &mut self,
        tx: &mut dyn Transaction,
        refuse: &Refuse,
    ) -> Result<Outcome, TableError> {
        let id = refuse.id;
        let Some((row, delivery)) = self.read_row(tx, id).await? else {
            return self.missing(tx, id, refuse.at, false).await;
        };
        if delivery.changed_by == refuse.nonce {
            return Ok(Outcome::Changed(Box::new(row)));
        }
        let is_held = matches!(delivery.claim, Claim::Leased { until } if until > refuse.at);
        if !is_held || refuse.token.is_some_and(|token| !holds(&delivery, token, refuse.at)) {
            return Ok(Outcome::Conflict);
        }
        let reason = refuse.reason.clone().unwrap_or_else(|| "refused by the consumer".to_owned());
        let policy = self.policy(tx).await?;
        let failure =
            Failure { at: refuse.at, reason, retry_after: refuse.retry_after, draw: refuse.nonce };
        let row = self.fail_attempt(tx, row, delivery, &policy, failure, refuse.nonce);
        Ok(Outcome::Changed(Box::new(row)))
    }

    /// Ends the running attempt without success: the next one is due by the policy, or there is none.
    pub(super) fn fail_attempt(
        &mut self,
        tx: &mut dyn Transaction,
        mut row: EventRow,
        mut delivery: Delivery,
        policy: &RetryPolicy,
        failure: Failure,
        nonce: u64,
    ) -> EventRow {
        let (id, before, state) = (row.event.id, row.event.state.status, &mut row.event.state);
        self.release(tx, id, &mut delivery);
        end_attempt(
            &mut delivery,
            failure.at,
            AttemptOutcome::Failed,
            Some(attempt::kept(&failure.reason)),
        );
        state.last_error = Some(failure.reason);
        let number = state.attempts.saturating_sub(delivery.attempts_before);
        let by_policy = policy.delay_after(number).map(|delay| jittered(delay, failure.draw));
        match by_policy.map(|delay| failure.retry_after.unwrap_or(delay)) {
            Some(delay) => {
                let due = failure.at.plus(delay);
                delivery.claim = Claim::Waiting { due };
                state.next_retry_at = Some(due);
                tx.set(&self.keys.waiting(due, id), &[]);
            }
            None => {
                state.status = EventStatus::Failed;
                state.failed_at = Some(failure.at);
                state.next_retry_at = None;
            }
        }
        delivery.changed_by = nonce;
        self.move_row(tx, &row, delivery, before);
        row
    }

    /// Makes an event wait again: for the subscriptions that select it now, or else to be pulled.
    pub(super) async fn replay(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        at: Timestamp,
        nonce: u64,
    ) -> Result<Outcome, TableError> {
        let Some((mut row, mut delivery)) = self.read_row(tx, id).await? else {
            return self.missing(tx, id, at, false).await;
        };
        if delivery.changed_by == nonce {
            self.suppose_all_due(tx).await?;
            return Ok(Outcome::Changed(Box::new(row)));
        }
        let before = row.event.state.status;
        if !matches!(before, EventStatus::Failed | EventStatus::Delivered) {
            return Ok(Outcome::Conflict);
        }
        let targets = self.targets(tx, row.event.event_type.as_str()).await?;
        let is_pushed = !targets.is_empty();
        delivery.pushes = self.begin_pushes(tx, id, targets, at);
        let state = &mut row.event.state;
        state.status = if is_pushed { EventStatus::Queued } else { EventStatus::Received };
        (state.delivered_at, state.failed_at) = (None, None);
        (state.next_retry_at, state.last_error) = (is_pushed.then_some(at), None);
        delivery.attempts_before = state.attempts;
        (delivery.token, delivery.changed_by) = (None, nonce);
        self.move_row(tx, &row, delivery, before);
        Ok(Outcome::Changed(Box::new(row)))
    }

    /// Takes an event out of the index that it is in.
    pub(super) fn release(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        delivery: &mut Delivery,
    ) {
        match std::mem::replace(&mut delivery.claim, Claim::None) {
            Claim::None => {}
            Claim::Leased { until } => {
                tx.clear(&self.keys.lease_end(until, id));
                self.lease_ends_changed = true;
            }
            Claim::Waiting { due } => tx.clear(&self.keys.waiting(due, id)),
        }
    }

    /// The tenant's retry policy, or the default.
    pub(super) async fn policy(&self, tx: &mut dyn Transaction) -> Result<RetryPolicy, TableError> {
        let tenant = access::get_tenant(tx, self.keys.tenant()).await?;
        Ok(tenant.and_then(|tenant| tenant.retry_policy).unwrap_or_default())
    }
}

/// Why and when an attempt failed, and what its consumer asks for.
pub(super) struct Failure {
    pub(super) at: Timestamp,
    pub(super) reason: String,
    pub(super) retry_after: Option<Duration>,
    /// Where the jitter comes from.
    pub(super) draw: u64,
}

fn is_full(lease: &Lease, leased: &[Leased]) -> bool {
    let bytes: usize = leased.iter().map(|leased| leased.event.payload.len()).sum();
    leased.len() >= lease.limit || bytes >= LEASE_BYTES_MAX
}

/// Whether this is the token of a lease that holds at `at`.
pub(super) fn holds(delivery: &Delivery, token: LeaseToken, at: Timestamp) -> bool {
    let is_its = delivery.token == Some(token) || is_planted(Bug::LeaseTokenNotCompared);
    matches!(delivery.claim, Claim::Leased { until } if until > at) && is_its
}

fn is_running_lease(attempt: &Attempt) -> bool {
    attempt.finished_at.is_none() && attempt.subscription.is_none()
}

pub(super) fn end_attempt(
    delivery: &mut Delivery,
    at: Timestamp,
    outcome: AttemptOutcome,
    error: Option<String>,
) {
    if let Some(attempt) = delivery.attempts.last_mut().filter(|attempt| is_running_lease(attempt))
    {
        (attempt.finished_at, attempt.outcome, attempt.error) = (Some(at), outcome, error);
    }
}

/// A delay changed by up to a fifth in either direction, so that what failed together does not come back together.
pub(super) fn jittered(delay: Duration, draw: u64) -> Duration {
    let per_mille = 800 + u32::try_from(draw % 401).expect("a remainder below 401 fits");
    delay * per_mille / 1_000
}
