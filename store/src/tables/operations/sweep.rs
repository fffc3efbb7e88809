//! Removes old rows of a tenant.
//!
//! - `SWEEP-1`: events older than the tenant's retention by the time of their acceptance are
//!   removed with all their rows, in any status.
//! - `SWEEP-2`: idempotency records and tombstones are removed when no request needs them any more.
//! - `SWEEP-3`: one command removes at most [`EVENTS_MAX`] events and [`KEYS_MAX`] rows of each
//!   other kind, so its transaction stays small; the next command continues behind them, so that a
//!   sweep of many rows does not walk over the keys that it has removed.

use super::append::days_kept;
use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{KeyRange, RangeRead, Transaction};
use crate::tables::batch::Batch;
use crate::tables::fence::Guard;
use crate::tables::keys::{TenantKeys, day};
use crate::tables::rows::{Head, TOMBSTONE_DAYS};
use crate::tables::{TableError, access, inbox, subscriptions};
use bytes::Bytes;
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// [`Swept::removed_to`] of the command before; empty for the first one.
    pub after: Vec<Bytes>,
}

/// Result of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Number of removed rows and events.
    pub removed: usize,
    /// There may be more to remove.
    pub has_more: bool,
    /// Last removed key of each range, or its end: no old row is left up to there.
    pub removed_to: Vec<Bytes>,
}

impl Sweep {
    /// The part of a range that earlier commands have not searched.
    fn rest(&self, mut range: KeyRange) -> KeyRange {
        if let Some(last) = self.removed_to(&range) {
            range.begin = [&last[..], &[0]].concat().into();
        }
        range
    }

    /// Up to where earlier commands have searched a range: its end if nothing was left.
    fn removed_to(&self, range: &KeyRange) -> Option<&Bytes> {
        self.after.iter().filter(|key| range.contains(key) || **key == range.end).max()
    }
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

/// Range of the queue rows that may be of events accepted before `horizon`.
fn old_rows(keys: &TenantKeys, status: EventStatus, head: &Head, horizon: Timestamp) -> KeyRange {
    let until = EventId::first_at(horizon.plus(head.lead()));
    keys.queue_range(status, EventId::ZERO, Some(until))
}

/// The first events of a range that were accepted before `horizon`, and whether there may be more.
async fn expired(
    tx: &mut dyn Transaction,
    range: KeyRange,
    head: &Head,
    horizon: Timestamp,
    limit: usize,
) -> Result<(Vec<EventId>, bool), TableError> {
    let rows = if head.lead_ms == 0 { limit } else { SCAN_ROWS_MAX };
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
        let range = old_rows(keys, status, &head, horizon);
        if !expired(tx, range, &head, horizon, 1).await?.0.is_empty() {
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
        let events = self.sweep_events(batch, tx, stamp, at).await?;
        let Swept { mut removed, mut has_more, mut removed_to } = events;
        let retention = batch.limits.idempotency_retention;
        let mut ranges = outdated(batch.keys, at, retention).to_vec();
        if batch.stored_subscriptions > 0 {
            let rows = subscriptions::read_all(tx, batch.keys).await?;
            ranges.extend(rows.iter().map(|row| old_attempts(batch.keys, row.id, at)));
        }
        for range in ranges {
            let rest = RangeRead::first(self.rest(range.clone()), KEYS_MAX);
            let page = tx.range_snapshot(rest).await?;
            has_more |= page.has_more;
            let last = page.pairs.last().filter(|_| page.has_more);
            removed_to.push(last.map_or_else(|| range.end.clone(), |(key, _)| key.clone()));
            removed += page.pairs.len();
            for (key, _) in &page.pairs {
                tx.clear(key);
            }
        }
        Ok(Swept { removed, has_more, removed_to })
    }
}

impl Sweep {
    async fn sweep_events(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        at: Timestamp,
    ) -> Result<Swept, TableError> {
        let horizon = horizon(tx, batch.keys, at).await?;
        let (mut removed, mut removed_to) = (0, Vec::new());
        let mut is_full = false;
        for status in EventStatus::ALL {
            if status == EventStatus::Received && is_planted(Bug::WaitingKeptForever) {
                continue;
            }
            let range = old_rows(batch.keys, status, batch.head(), horizon);
            let mut last = None;
            if !is_full {
                let (head, limit) = (batch.head(), EVENTS_MAX - removed);
                let rest = self.rest(range.clone());
                let (ids, has_more) = expired(tx, rest, head, horizon, limit).await?;
                inbox::prefetch_rows(tx, batch.keys, ids.iter().copied()).await?;
                last = match ids.last().filter(|_| has_more) {
                    Some(id) => Some(batch.keys.queue(status, *id).into()),
                    None => Some(range.end.clone()),
                };
                for id in ids {
                    if let Some((row, delivery)) = batch.read_row(tx, id).await? {
                        batch.remove(tx, &row, delivery, stamp.at);
                        removed += 1;
                    }
                }
                is_full = has_more || removed >= EVENTS_MAX;
            }
            removed_to.extend(last.or_else(|| self.removed_to(&range).cloned()));
        }
        Ok(Swept { removed, has_more: is_full, removed_to })
    }
}
