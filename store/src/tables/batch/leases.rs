//! Leases of a batch: the check of a token, the end of a leased attempt, and the retry policy.

use super::webhooks::{jittered, kept};
use super::{Batch, TableError};
use crate::kv::Transaction;
use crate::tables::access;
use crate::tables::inbox::Reading;
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::{
    Attempt, AttemptOutcome, Claim, Delivery, EventRow, LeaseToken, RecentLeases, Row,
};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, RetryPolicy, Timestamp};

/// A place in the two orders in which leases look for events, behind the rows that were searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasePosition {
    /// Place among the retries: due time and id of the last one that was searched.
    pub due: (Timestamp, EventId),
    /// Place among the received events: the last one that was searched.
    pub received: EventId,
}

impl LeasePosition {
    /// Before all rows.
    pub const BEGIN: Self =
        Self { due: (Timestamp::EPOCH, EventId::ZERO), received: EventId::ZERO };
}

/// Identity of a list of patterns: a digest, or [`EVERY_TYPE`].
pub type FilterId = [u8; 16];

/// The filter of leases that take events of every type.
pub const EVERY_TYPE: FilterId = [0; 16];

/// What the leases of a batch learned about filters, and what became available for lease again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseSearches {
    /// Filters, each once, with the position up to which no row is one that they select.
    pub searched: Vec<(FilterId, LeasePosition)>,
    /// The first retry that was added, by due time.
    pub retry: Option<(Timestamp, EventId)>,
    /// The first old event that became received again.
    pub received: Option<EventId>,
    /// An earlier run of the batch may have taken effect, and what it returned is not known.
    pub is_repeated: bool,
}

impl LeaseSearches {
    /// The position that an earlier lease of the batch noted for a filter. No operation that makes
    /// events available before it shares a batch with leases (`BATCH-5`), except a nack of a lease:
    /// what a later lease of the batch then misses is found by the next one.
    pub(in crate::tables) fn position(&self, filter: FilterId) -> Option<LeasePosition> {
        self.searched.iter().find(|(known, _)| *known == filter).map(|(_, position)| *position)
    }

    /// Notes up to where a lease has searched.
    pub(in crate::tables) fn note(&mut self, filter: FilterId, position: LeasePosition) {
        match self.searched.iter_mut().find(|(known, _)| *known == filter) {
            Some((_, known)) => *known = position,
            None => self.searched.push((filter, position)),
        }
    }
}

/// A failed attempt of a consumer.
pub(in crate::tables) struct Failure {
    /// Time of the failure, from which the next attempt is due.
    pub(in crate::tables) at: Timestamp,
    /// Reason, stored as the event's last error.
    pub(in crate::tables) reason: String,
    /// Delay that the consumer asks for instead of the policy's.
    pub(in crate::tables) retry_after: Option<Duration>,
    /// Random number for the jitter.
    pub(in crate::tables) draw: u64,
    /// Nonce of the command.
    pub(in crate::tables) nonce: u64,
}

impl Batch<'_> {
    /// The lease rows of the tenant.
    pub(in crate::tables) async fn lease_rows(
        &mut self,
        tx: &mut dyn Transaction,
    ) -> Result<&mut LeaseRows, TableError> {
        if self.lease_rows.is_none() {
            self.lease_rows = Some(LeaseRows::read(tx, self.keys, Reading::Checked).await?);
        }
        Ok(self.lease_rows.get_or_insert_default())
    }

    /// Events that an earlier run of this command leased or claimed; none if it is the first run.
    pub(in crate::tables) async fn leased_before(
        &self,
        tx: &mut dyn Transaction,
        nonce: u64,
    ) -> Result<Option<Vec<EventId>>, TableError> {
        let Some(stored) = tx.get(&self.keys.recent_leases()).await? else { return Ok(None) };
        let RecentLeases(recent) = RecentLeases::from_bytes(&stored)?;
        Ok(recent.into_iter().find(|(of, _)| *of == nonce).map(|(_, ids)| ids))
    }

    /// Ends the running attempt as failed, and schedules a retry if the policy allows one.
    pub(in crate::tables) fn fail_attempt(
        &mut self,
        tx: &mut dyn Transaction,
        mut row: EventRow,
        mut delivery: Delivery,
        policy: &RetryPolicy,
        failure: Failure,
    ) -> EventRow {
        let (id, before, state) = (row.event.id, row.event.state.status, &mut row.event.state);
        self.release(tx, id, &mut delivery);
        let error = Some(kept(&failure.reason));
        end_leased_attempt(&mut delivery, failure.at, AttemptOutcome::Failed, error);
        state.last_error = Some(failure.reason);
        let number = state.attempts.saturating_sub(delivery.attempts_before);
        let by_policy = policy.delay_after(number).map(|delay| jittered(delay, failure.draw));
        match by_policy.map(|delay| failure.retry_after.unwrap_or(delay)) {
            Some(delay) => {
                let due = failure.at.plus(delay);
                delivery.claim = Claim::Waiting { due };
                state.next_retry_at = Some(due);
                tx.set(&self.keys.waiting(due, id), row.event.event_type.as_str().as_bytes());
                // In whole microseconds, as in the key and in positions.
                let added = (Timestamp::from_micros(due.as_micros()), id);
                let first = self.searches.retry.get_or_insert(added);
                *first = added.min(*first);
            }
            None => {
                state.status = EventStatus::Failed;
                state.failed_at = Some(failure.at);
                state.next_retry_at = None;
            }
        }
        delivery.changed_by = failure.nonce;
        self.activity.made_available += 1;
        self.move_row(tx, &row, delivery, before);
        row
    }

    /// Ends the lease or the wait of an event, and removes its index row.
    pub(in crate::tables) fn release(
        &mut self,
        tx: &mut dyn Transaction,
        id: EventId,
        delivery: &mut Delivery,
    ) {
        match std::mem::replace(&mut delivery.claim, Claim::None) {
            Claim::None => {}
            Claim::Leased { until } => {
                if self.lease_rows.as_ref().is_none_or(|rows| rows.find(id).is_none()) {
                    tx.clear(&self.keys.lease_end(until, id));
                }
                self.lease_ends_changed = true;
            }
            Claim::Waiting { due } => tx.clear(&self.keys.waiting(due, id)),
        }
    }

    /// The tenant's retry policy, or the default.
    pub(in crate::tables) async fn policy(
        &self,
        tx: &mut dyn Transaction,
    ) -> Result<RetryPolicy, TableError> {
        let tenant = access::get_tenant(tx, self.keys.tenant()).await?;
        Ok(tenant.and_then(|tenant| tenant.retry_policy).unwrap_or_default())
    }
}

/// Whether the token belongs to the present lease, and the lease has not ended at `at`.
pub(in crate::tables) fn holds(delivery: &Delivery, token: LeaseToken, at: Timestamp) -> bool {
    let is_same = delivery.token == Some(token) || is_planted(Bug::LeaseTokenNotCompared);
    matches!(delivery.claim, Claim::Leased { until } if until > at) && is_same
}

/// Records the end of a lease's attempt, if it runs.
pub(in crate::tables) fn end_leased_attempt(
    delivery: &mut Delivery,
    at: Timestamp,
    outcome: AttemptOutcome,
    error: Option<String>,
) {
    let is_running =
        |attempt: &&mut Attempt| attempt.finished_at.is_none() && attempt.subscription.is_none();
    if let Some(attempt) = delivery.attempts.last_mut().filter(is_running) {
        (attempt.finished_at, attempt.outcome, attempt.error) = (Some(at), outcome, error);
    }
}
