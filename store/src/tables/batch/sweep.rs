//! Sweeping: what has reached its age is removed, a little at a time.
//!
//! Invariants: `SWEEP-1` events go when they are older than the tenant keeps them, whatever their status, with everything
//! that belongs to them; `SWEEP-2` idempotency records and the traces of deletions go when no request can need them any more;
//! `SWEEP-3` one command removes at most [`EVENTS_MAX`] events and [`KEYS_MAX`] other rows of a kind, so that its transaction
//! stays small; run again it removes the next ones.

use super::append::days_kept;
use super::{Batch, Outcome, TableError};
use crate::kv::{KeyRange, RangeRead, Transaction};
use crate::tables::fence::Guard;
use crate::tables::keys::{TenantKeys, day, id_of_key};
use crate::tables::rows::{Delivery, EventRow, TOMBSTONE_DAYS};
use crate::tables::{access, subscriptions};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, Timestamp};

const EVENTS_MAX: usize = 200;
const KEYS_MAX: usize = 500;
/// How long events are kept of a tenant without settings, in days.
const RETENTION_DAYS_DEFAULT: u16 = 30;
/// How long the attempts of a subscription are listed.
const ATTEMPTS_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// A look for what has reached its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// The present time.
    pub at: Timestamp,
    /// How long idempotency keys are kept.
    pub idempotency_retention: Duration,
}

impl Sweep {
    /// The ranges of rows that are of no use any more.
    fn outdated(&self, keys: &TenantKeys) -> [KeyRange; 2] {
        let today = day(self.at);
        // A record of a day may hold until the end of that day and its time behind it.
        let records = today.saturating_sub(days_kept(self.idempotency_retention));
        let tombstones = today.saturating_sub(TOMBSTONE_DAYS);
        [keys.idempotency_before(records), keys.tombstones_before(tombstones)]
    }

    /// The first id that is not too old.
    async fn horizon(
        &self,
        tx: &mut dyn Transaction,
        keys: &TenantKeys,
    ) -> Result<EventId, TableError> {
        let tenant = access::get_tenant(tx, keys.tenant()).await?;
        let days = tenant.map_or(RETENTION_DAYS_DEFAULT, |tenant| tenant.retention_days);
        Ok(EventId::first_at(self.at.minus(Duration::from_secs(u64::from(days) * 86_400))))
    }
}

/// Whether a sweep would find something to remove. It reads one row of each kind.
///
/// # Errors
/// [`TableError::NotOwner`]; [`TableError::Store`].
pub async fn is_sweep_due(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    sweep: Sweep,
) -> Result<bool, TableError> {
    guard.check(tx).await?;
    let horizon = sweep.horizon(tx, keys).await?;
    let mut ranges = sweep.outdated(keys).to_vec();
    ranges.extend(
        EventStatus::ALL.map(|status| keys.queue_range(status, EventId::ZERO, Some(horizon))),
    );
    for row in subscriptions::read_all(tx, keys).await? {
        ranges.push(old_attempts(keys, &row.id, sweep.at));
    }
    for range in ranges {
        if !tx.range_snapshot(RangeRead::first(range, 1)).await?.pairs.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn old_attempts(
    keys: &TenantKeys,
    id: &triggers_protocol::SubscriptionId,
    at: Timestamp,
) -> KeyRange {
    let all = keys.logged_attempts(*id);
    KeyRange::new(all.begin, keys.logged_attempt(*id, at.minus(ATTEMPTS_KEPT), EventId::ZERO))
}

impl Batch<'_> {
    pub(super) async fn sweep(
        &mut self,
        tx: &mut dyn Transaction,
        sweep: &Sweep,
    ) -> Result<Outcome, TableError> {
        let (mut removed, mut more) = self.sweep_events(tx, sweep).await?;
        let mut ranges = sweep.outdated(self.keys).to_vec();
        if self.stored_subscriptions > 0 {
            let rows = subscriptions::read_all(tx, self.keys).await?;
            ranges.extend(rows.iter().map(|row| old_attempts(self.keys, &row.id, sweep.at)));
        }
        for range in ranges {
            let page = tx.range_snapshot(RangeRead::first(range, KEYS_MAX)).await?;
            more |= page.has_more;
            removed += page.pairs.len();
            for (key, _) in &page.pairs {
                tx.clear(key);
            }
        }
        Ok(Outcome::Swept { removed, more })
    }

    async fn sweep_events(
        &mut self,
        tx: &mut dyn Transaction,
        sweep: &Sweep,
    ) -> Result<(usize, bool), TableError> {
        let horizon = sweep.horizon(tx, self.keys).await?;
        let mut removed = 0;
        for status in EventStatus::ALL {
            if status == EventStatus::Received && is_planted(Bug::WaitingKeptForever) {
                continue;
            }
            let old = self.keys.queue_range(status, EventId::ZERO, Some(horizon));
            let page = tx.range_snapshot(RangeRead::first(old, EVENTS_MAX - removed)).await?;
            for (key, _) in &page.pairs {
                let Some(id) = id_of_key(key) else { continue };
                if let Some((row, delivery)) = self.read_row(tx, id).await? {
                    self.remove(tx, &row, delivery, sweep.at);
                    removed += 1;
                }
            }
            if page.has_more || removed >= EVENTS_MAX {
                return Ok((removed, true));
            }
        }
        Ok((removed, false))
    }

    /// Removes an event with everything that belongs to it.
    pub(super) fn remove(
        &mut self,
        tx: &mut dyn Transaction,
        row: &EventRow,
        mut delivery: Delivery,
        at: Timestamp,
    ) {
        let (id, status) = (row.event.id, row.event.state.status);
        tx.clear(&self.keys.event(id));
        if row.is_chunked() {
            tx.clear_range(self.keys.chunks(id));
        }
        self.release(tx, id, &mut delivery);
        self.drop_pushes(tx, id, &mut delivery, at);
        tx.clear(&self.keys.delivery(id));
        tx.clear(&self.keys.queue(status, id));
        self.delta.add(status, -1);
    }
}
