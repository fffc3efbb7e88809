//! Removes old rows of a tenant.
//!
//! - `SWEEP-1`: events older than the tenant's retention by the time of their acceptance are
//!   removed with all their rows, in any status.
//! - `SWEEP-2`: idempotency records and tombstones are removed when no request needs them any more.
//! - `SWEEP-3`: one command removes at most [`EVENTS_MAX`] events and [`KEYS_MAX`] rows of each
//!   other kind, so its transaction stays small; the next command continues.

use super::append::days_kept;
use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{KeyRange, RangeRead, Transaction};
use crate::tables::batch::Batch;
use crate::tables::fence::Guard;
use crate::tables::keys::{TenantKeys, day};
use crate::tables::rows::{Head, TOMBSTONE_DAYS};
use crate::tables::{TableError, access, inbox, subscriptions};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, EventStatus, SubscriptionId, Timestamp};

const EVENTS_MAX: usize = 200;
const KEYS_MAX: usize = 500;
/// Rows read to find expired events of a tenant whose ids were ahead of the clock.
const SCAN_ROWS_MAX: usize = 2_000;
/// Days for which events of a tenant without settings are kept.
const RETENTION_DAYS_DEFAULT: u16 = 30;
/// Time for which the attempts of a subscription are listed.
const ATTEMPTS_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// Removes old events, records, tombstones and listed attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep;

/// Result of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Number of removed rows and events.
    pub removed: usize,
    /// There may be more to remove.
    pub has_more: bool,
}

/// Ranges of the idempotency records and tombstones that are not needed any more.
fn outdated(keys: &TenantKeys, at: Timestamp, idempotency_retention: Duration) -> [KeyRange; 2] {
    let today = day(at);
    // A record may be valid for the retention after the end of its event's day.
    let records = today.saturating_sub(days_kept(idempotency_retention));
    let tombstones = today.saturating_sub(TOMBSTONE_DAYS);
    [keys.idempotency_before(records), keys.tombstones_before(tombstones)]
}

/// The first time within the tenant's retention.
async fn horizon(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    at: Timestamp,
) -> Result<Timestamp, TableError> {
    let tenant = access::get_tenant(tx, keys.tenant()).await?;
    let days = tenant.map_or(RETENTION_DAYS_DEFAULT, |tenant| tenant.retention_days);
    Ok(at.minus(Duration::from_secs(u64::from(days) * 86_400)))
}

/// The first events of a status that were accepted before `horizon`, and whether there may be more.
async fn expired(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    status: EventStatus,
    head: &Head,
    horizon: Timestamp,
    limit: usize,
) -> Result<(Vec<EventId>, bool), TableError> {
    let until = EventId::first_at(horizon.plus(head.lead()));
    let rows = if head.lead_ms == 0 { limit } else { SCAN_ROWS_MAX };
    let range = keys.queue_range(status, EventId::ZERO, Some(until));
    let page = tx.range_snapshot(RangeRead::first(range, rows)).await?;
    let mut ids = Vec::new();
    for (key, value) in &page.pairs {
        let (id, row) = inbox::queue_row(key, value)?;
        if row.received_at < horizon {
            ids.push(id);
        }
    }
    let has_more = !ids.is_empty() && (page.has_more || ids.len() > limit);
    ids.truncate(limit);
    Ok((ids, has_more))
}

/// Whether a sweep would find something to remove. It reads one row of each kind.
pub async fn is_sweep_due(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    at: Timestamp,
    idempotency_retention: Duration,
) -> Result<bool, TableError> {
    guard.check(tx).await?;
    let horizon = horizon(tx, keys, at).await?;
    let mut ranges = outdated(keys, at, idempotency_retention).to_vec();
    for row in subscriptions::read_all(tx, keys).await? {
        ranges.push(old_attempts(keys, row.id, at));
    }
    for range in ranges {
        if !tx.range_snapshot(RangeRead::first(range, 1)).await?.pairs.is_empty() {
            return Ok(true);
        }
    }
    let head = inbox::read_head(tx, keys).await?;
    for status in EventStatus::ALL {
        if !expired(tx, keys, status, &head, horizon, 1).await?.0.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn old_attempts(keys: &TenantKeys, id: SubscriptionId, at: Timestamp) -> KeyRange {
    let all = keys.logged_attempts(id);
    KeyRange::new(all.begin, keys.logged_attempt(id, at.minus(ATTEMPTS_KEPT), EventId::ZERO))
}

impl Operation for Sweep {
    type Reply = Swept;

    fn footprint(&self) -> Footprint {
        Footprint::new(Selection::Alone, 1)
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Swept, TableError> {
        // People chose the retention, so the wall clock counts.
        let at = batch.received_at();
        let Swept { mut removed, mut has_more } = sweep_events(batch, tx, stamp, at).await?;
        let retention = batch.limits.idempotency_retention;
        let mut ranges = outdated(batch.keys, at, retention).to_vec();
        if batch.stored_subscriptions > 0 {
            let rows = subscriptions::read_all(tx, batch.keys).await?;
            ranges.extend(rows.iter().map(|row| old_attempts(batch.keys, row.id, at)));
        }
        for range in ranges {
            let page = tx.range_snapshot(RangeRead::first(range, KEYS_MAX)).await?;
            has_more |= page.has_more;
            removed += page.pairs.len();
            for (key, _) in &page.pairs {
                tx.clear(key);
            }
        }
        Ok(Swept { removed, has_more })
    }
}

async fn sweep_events(
    batch: &mut Batch<'_>,
    tx: &mut dyn Transaction,
    stamp: &Stamp,
    at: Timestamp,
) -> Result<Swept, TableError> {
    let horizon = horizon(tx, batch.keys, at).await?;
    let mut removed = 0;
    for status in EventStatus::ALL {
        if status == EventStatus::Received && is_planted(Bug::WaitingKeptForever) {
            continue;
        }
        let (head, limit) = (batch.head(), EVENTS_MAX - removed);
        let (ids, has_more) = expired(tx, batch.keys, status, head, horizon, limit).await?;
        inbox::prefetch_rows(tx, batch.keys, ids.iter().copied()).await?;
        for id in ids {
            if let Some((row, delivery)) = batch.read_row(tx, id).await? {
                batch.remove(tx, &row, delivery, stamp.at);
                removed += 1;
            }
        }
        if has_more || removed >= EVENTS_MAX {
            return Ok(Swept { removed, has_more: true });
        }
    }
    Ok(Swept { removed, has_more: false })
}
