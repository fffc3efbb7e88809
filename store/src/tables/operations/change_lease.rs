//! Acknowledges, nacks or extends a lease: all events that it still holds, or those that are named.
//!
//! - `CHANGE-LEASE-1`: only events that the lease holds at the time of the command are changed. A
//!   named event that was acknowledged under this lease before counts as acknowledged.
//! - `CHANGE-LEASE-2`: a second run finds the events that the first run changed by the command's
//!   nonce.

use super::{Footprint, Operation, Selection, Stamp, Unchanged};
use crate::kv::{Prefetch, Transaction};
use crate::tables::batch::{Batch, Failure, OperationLimits, holds};
use crate::tables::keys::{self, TenantKeys};
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::{LeaseId, LeaseMembers, Row, lease_token};
use crate::tables::{TableError, inbox};
use std::time::Duration;
use triggers_protocol::{EventId, EventStatus, RetryPolicy};

/// Share of a batch of a command for all events of a lease.
const WHOLE_LEASE_WEIGHT: usize = 200;

/// Changes the events of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeLease {
    /// Lease whose events are meant.
    pub lease: LeaseId,
    /// Events to change; none means all that the lease holds.
    pub ids: Option<Vec<EventId>>,
    /// What becomes of them.
    pub change: LeaseChange,
}

/// What becomes of the events of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// They are delivered.
    Acknowledge,
    /// Their attempts have failed.
    Nack {
        /// Reason in the consumer's words.
        reason: Option<String>,
        /// Delay of the next attempts; the retry policy decides if absent.
        retry_after: Option<Duration>,
    },
    /// Their lease ends later.
    Extend {
        /// Time from now until the lease ends.
        visibility: Duration,
    },
}

/// The lease holds no event: it has ended, or there never was one with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseEnded;

/// The status of each event after the change, or why it was not changed.
pub type ChangedEvents = Vec<(EventId, Result<EventStatus, Unchanged>)>;

impl Operation for ChangeLease {
    type Reply = Result<ChangedEvents, LeaseEnded>;

    fn footprint(&self) -> Footprint {
        let weight = self.ids.as_ref().map_or(WHOLE_LEASE_WEIGHT, Vec::len);
        Footprint::new(Selection::Lease, weight)
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        _stamp: &Stamp,
    ) {
        reads.key(keys.recent_leases());
        reads.key(keys.lease_members(self.lease));
        LeaseRows::prefetch(reads, keys);
        let named = self.ids.as_deref().unwrap_or_default();
        reads.first(keys.lease_ends(), 1 + named.len().max(1));
        for &id in named.iter().take(inbox::ROWS_PER_FETCH) {
            inbox::add_row(reads, keys, id);
            reads.key(keys.queue(EventStatus::Received, id));
        }
        if matches!(self.change, LeaseChange::Nack { .. }) {
            reads.key(keys::tenant(keys.tenant()));
        }
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        // Needed in a second run too, because the inbox got no reply of the first one.
        batch.lease_ends_changed = true;
        let before = batch.leased_before(tx, stamp.nonce).await?.unwrap_or_default();
        let ids = match (&self.ids, before.is_empty()) {
            (Some(ids), _) => ids.clone(),
            (None, false) => before.clone(),
            (None, true) => self.held(batch, tx, stamp).await?,
        };
        let policy = match self.change {
            LeaseChange::Nack { .. } => Some(batch.policy(tx).await?),
            LeaseChange::Acknowledge | LeaseChange::Extend { .. } => None,
        };
        let (mut changed, mut results) = (Vec::new(), Vec::with_capacity(ids.len()));
        for (index, &id) in ids.iter().enumerate() {
            if index % inbox::ROWS_PER_FETCH == 0 {
                batch.fetch(tx, ids[index..].iter().take(inbox::ROWS_PER_FETCH)).await?;
            }
            let result = match before.contains(&id) {
                true => self.repeat(batch, tx, id).await?,
                false => self.change(batch, tx, stamp, id, policy.as_ref()).await?,
            };
            if result.is_ok() {
                changed.push(id);
            }
            results.push((id, result));
        }
        if self.ids.is_none() && before.is_empty() {
            // Members that are held no more were changed one by one.
            results.retain(|(_, result)| result.is_ok());
            if results.is_empty() {
                return Ok(Err(LeaseEnded));
            }
            self.change_rows(batch, tx, stamp).await?;
        }
        if !changed.is_empty() {
            batch.leased.push((stamp.nonce, changed));
        }
        Ok(Ok(results))
    }
}

impl ChangeLease {
    /// The events that the lease may still hold; none once it has ended, even if single ones of
    /// them are held longer.
    async fn held(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Vec<EventId>, TableError> {
        let members = batch.lease_members(tx, self.lease).await?;
        let members = members.filter(|members| members.until > stamp.at);
        let mut ids = members.map(|members| members.events).unwrap_or_default();
        let rows = batch.lease_rows(tx).await?;
        ids.extend(rows.events_of(|row| row.lease == self.lease && row.until > stamp.at));
        Ok(ids)
    }

    /// Changes one event, if the lease holds it.
    async fn change(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        id: EventId,
        policy: Option<&RetryPolicy>,
    ) -> Result<Result<EventStatus, Unchanged>, TableError> {
        let at = stamp.at;
        let lease_row = batch.lease_rows(tx).await?.find(id);
        let is_in_row = lease_row.is_some_and(|row| row.lease == self.lease && row.until > at);
        match (&self.change, is_in_row, &self.ids) {
            (LeaseChange::Acknowledge, true, _) => {
                batch.acknowledge_in_lease_row(tx, id, at).await?;
                return Ok(Ok(EventStatus::Delivered));
            }
            // Its lease row is extended as a whole.
            (LeaseChange::Extend { .. }, true, None) => return Ok(Ok(EventStatus::Queued)),
            _ => {}
        }
        let Some((mut row, delivery)) = batch.read_row(tx, id).await? else {
            return Ok(Err(batch.missing(tx, id, at).await?.into()));
        };
        let token = lease_token(self.lease, id);
        let was_acknowledged = row.event.state.status == EventStatus::Delivered
            && delivery.token == Some(token)
            && self.change == LeaseChange::Acknowledge;
        if was_acknowledged && self.ids.is_some() {
            return Ok(Ok(EventStatus::Delivered));
        }
        if !holds(&delivery, token, at) {
            return Ok(Err(Unchanged::Conflict));
        }
        match (&self.change, policy) {
            (LeaseChange::Nack { reason, retry_after }, Some(policy)) => {
                let failure = Failure::of_nack(reason.as_deref(), *retry_after, stamp);
                row = batch.fail_attempt(tx, row, delivery, policy, failure);
            }
            (LeaseChange::Extend { visibility }, _) => {
                batch.extend(tx, &row, delivery, stamp, at.plus(*visibility)).await?;
            }
            (LeaseChange::Acknowledge | LeaseChange::Nack { .. }, _) => {
                batch.acknowledge(tx, &mut row, delivery, at);
            }
        }
        Ok(Ok(row.event.state.status))
    }

    /// The result for an event that an earlier run of this command has changed.
    async fn repeat(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        id: EventId,
    ) -> Result<Result<EventStatus, Unchanged>, TableError> {
        // Later commands of the batch may have changed the event, but not what this one did.
        Ok(Ok(match self.change {
            LeaseChange::Acknowledge => {
                batch.activity.delivered += 1;
                EventStatus::Delivered
            }
            LeaseChange::Extend { .. } => EventStatus::Queued,
            LeaseChange::Nack { .. } => {
                batch.activity.made_available += 1;
                let row = batch.read_row(tx, id).await?;
                row.map_or(EventStatus::Queued, |(row, _)| row.event.state.status)
            }
        }))
    }

    /// Changes the rows of the lease itself after all of its events were changed.
    async fn change_rows(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<(), TableError> {
        let until = match self.change {
            LeaseChange::Extend { visibility } => Some(stamp.at.plus(visibility)),
            LeaseChange::Acknowledge | LeaseChange::Nack { .. } => None,
        };
        if let Some(members) = batch.lease_members(tx, self.lease).await? {
            let key = batch.keys.lease_members(self.lease);
            tx.clear(&batch.keys.members_end(members.until, self.lease));
            match until {
                Some(until) => {
                    tx.set_owned(key, LeaseMembers { until, ..members }.to_bytes());
                    tx.set(&batch.keys.members_end(until, self.lease), &[]);
                }
                None => tx.clear(&key),
            }
        }
        if let Some(until) = until {
            batch.lease_rows(tx).await?.extend(self.lease, until, stamp.nonce);
        }
        Ok(())
    }
}
