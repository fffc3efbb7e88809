//! Nacks a leased event: its attempt has failed.

use super::{Changed, Footprint, Operation, Stamp, Unchanged};
use crate::kv::{Prefetch, Transaction};
use crate::tables::batch::{Batch, Failure, OperationLimits, holds};
use crate::tables::keys::{self, TenantKeys};
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::{Claim, LeaseToken};
use crate::tables::{TableError, inbox};
use std::time::Duration;
use triggers_protocol::EventId;

/// Ends the attempt of a leased event as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Event that is leased.
    pub id: EventId,
    /// Token of the lease, if the consumer sent it.
    pub token: Option<LeaseToken>,
    /// Reason in the consumer's words.
    pub reason: Option<String>,
    /// Delay of the next attempt; the retry policy decides if absent.
    pub retry_after: Option<Duration>,
}

impl Operation for Nack {
    type Reply = Changed;

    fn footprint(&self) -> Footprint {
        Footprint::naming(self.id)
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        _stamp: &Stamp,
    ) {
        inbox::add_row(reads, keys, self.id);
        reads.key(keys::tenant(keys.tenant()));
        reads.first(keys.lease_ends(), 2);
        LeaseRows::prefetch(reads, keys);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Changed, TableError> {
        let Some((row, delivery)) = batch.read_row(tx, self.id).await? else {
            return Ok(Err(batch.missing(tx, self.id, stamp.at).await?.into()));
        };
        if delivery.changed_by == stamp.nonce {
            batch.activity.made_available += 1;
            return Ok(Ok(Box::new(row)));
        }
        let is_held = matches!(delivery.claim, Claim::Leased { until } if until > stamp.at);
        if !is_held || self.token.is_some_and(|token| !holds(&delivery, token, stamp.at)) {
            return Ok(Err(Unchanged::Conflict));
        }
        let policy = batch.policy(tx).await?;
        let failure = Failure::of_nack(self.reason.as_deref(), self.retry_after, stamp);
        let row = batch.fail_attempt(tx, row, delivery, &policy, failure);
        Ok(Ok(Box::new(row)))
    }
}

impl Failure {
    /// The failure of an attempt that a consumer nacks.
    pub(super) fn of_nack(
        reason: Option<&str>,
        retry_after: Option<Duration>,
        stamp: &Stamp,
    ) -> Self {
        let reason = reason.unwrap_or("nacked by the consumer").to_owned();
        Self { at: stamp.at, reason, retry_after, draw: stamp.nonce, nonce: stamp.nonce }
    }
}
