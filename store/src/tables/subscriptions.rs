//! Reads of subscriptions, their attempts and the audit; [`super::operations`] writes them.
//!
//! - `SUBSCRIPTIONS-1`: [`list`] and [`find`] do not return a subscription that is being deleted.
//! - `SUBSCRIPTIONS-2`: attempts are listed newest first; pages neither skip nor repeat one.
//! - `SUBSCRIPTIONS-3`: a page of missed events skips none after its start, and examines a bounded
//!   number of events; the next page starts after the last examined one.

use super::fence::Guard;
use super::inbox::{Reading, read_row};
use super::keys::{TenantKeys, id_of_key, number_of_audit, time_of_audit, time_of_due_key};
use super::lease_rows::LeaseRows;
use super::operations::has_missed;
use super::rows::{AuditRow, LoggedAttempt, QueueRow, Row, SubscriptionRow, SubscriptionStatus};
use super::webhook_marks::WebhookMark;
use super::{TableError, prefetch, read_range};
use crate::kv::{KeyRange, RangeRead, StoreError, Transaction};
use triggers_protocol::{EventId, EventStatus, SubscriptionId, Timestamp};

/// Subscriptions of one range read.
pub(super) const PAGE_ROWS: usize = 250;

/// Events of each status that a page of missed events examines.
const EXAMINED_MAX: usize = 250;

/// A page of the events that a subscription has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedPage {
    /// The events, oldest first.
    pub ids: Vec<EventId>,
    /// Event after which the next page starts; none if there is no next page.
    pub next: Option<EventId>,
}

/// Position in the list of attempts: time at which an attempt began, and its event.
pub type AttemptPosition = (Timestamp, EventId);

/// A page to read of a list that is sorted from the newest entry to the oldest.
#[derive(Debug, Clone, Copy)]
pub struct HistoryQuery<Position> {
    /// The page starts at the first entry older than this one; none starts at the newest.
    pub before: Option<Position>,
    /// Maximum number of entries.
    pub limit: usize,
}

/// A page of a subscription's attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptPage {
    /// Attempts with their events, newest first.
    pub attempts: Vec<(EventId, LoggedAttempt)>,
    /// [`HistoryQuery::before`] of the next page, if there is one.
    pub next: Option<AttemptPosition>,
}

/// A page of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Entries with their times and numbers, newest first.
    pub entries: Vec<(Timestamp, u64, AuditRow)>,
    /// There are older entries.
    pub has_more: bool,
}

/// Reads a subscription, even if it is being deleted.
pub(super) async fn read(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, TableError> {
    let stored = tx.get(&keys.subscription(id)).await?;
    Ok(stored.map(|bytes| SubscriptionRow::from_bytes(&bytes)).transpose()?)
}

/// Reads all subscriptions, oldest first, including those that are being deleted.
pub(super) async fn read_all(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
) -> Result<Vec<SubscriptionRow>, TableError> {
    // A snapshot is enough: only the partition's owner changes them, and its fence is checked.
    let rows = read_range(tx, keys.subscriptions(), PAGE_ROWS).await?;
    rows.iter().map(|(_, bytes)| Ok(SubscriptionRow::from_bytes(bytes)?)).collect()
}

/// Reads the first unfinished webhook of each subscription at once, for later reads of it.
pub(super) async fn prefetch_first_due(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    marks: impl Iterator<Item = (SubscriptionId, WebhookMark)> + Send,
) -> Result<(), StoreError> {
    prefetch(tx, |reads| marks.for_each(|(id, mark)| mark.prefetch(reads, keys, id, 1))).await
}

/// Lists the subscriptions of a tenant, oldest first.
pub async fn list(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
) -> Result<Vec<SubscriptionRow>, TableError> {
    prefetch(tx, |reads| {
        reads.key(guard.key());
        reads.first(keys.subscriptions(), PAGE_ROWS);
    })
    .await?;
    guard.check(tx).await?;
    let mut rows = read_all(tx, keys).await?;
    rows.retain(|row| row.status != SubscriptionStatus::Deleted);
    Ok(rows)
}

/// Finds a subscription that is not being deleted.
pub async fn find(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, TableError> {
    prefetch(tx, |reads| {
        reads.key(guard.key());
        reads.key(keys.subscription(id));
    })
    .await?;
    guard.check(tx).await?;
    Ok(read(tx, keys, id).await?.filter(|row| row.status != SubscriptionStatus::Deleted))
}

/// Lists the finished attempts of a subscription; none if there is no such subscription.
pub async fn attempts(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: SubscriptionId,
    query: HistoryQuery<AttemptPosition>,
) -> Result<Option<AttemptPage>, TableError> {
    if find(tx, guard, keys, id).await?.is_none() {
        return Ok(None);
    }
    let all = keys.logged_attempts(id);
    let range = match query.before {
        Some((time, event)) => KeyRange::new(all.begin, keys.logged_attempt(id, time, event)),
        None => all,
    };
    let page = tx.range_snapshot(RangeRead { range, limit: query.limit, is_reverse: true }).await?;
    let mut attempts = Vec::with_capacity(page.pairs.len());
    let mut last = None;
    for (key, value) in &page.pairs {
        let (Some(time), Some(event)) = (time_of_due_key(key), id_of_key(key)) else { continue };
        attempts.push((event, LoggedAttempt::from_bytes(value)?));
        last = Some((time, event));
    }
    Ok(Some(AttemptPage { attempts, next: last.filter(|_| page.has_more) }))
}

/// Lists the audit of a tenant; a position is the time and number of an entry.
pub async fn audit(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    query: HistoryQuery<(Timestamp, u64)>,
) -> Result<AuditPage, TableError> {
    guard.check(tx).await?;
    let all = keys.audits();
    let range = match query.before {
        Some((time, number)) => KeyRange::new(all.begin, keys.audit(time, number)),
        None => all,
    };
    let page = tx.range_snapshot(RangeRead { range, limit: query.limit, is_reverse: true }).await?;
    let mut entries = Vec::with_capacity(page.pairs.len());
    for (key, value) in &page.pairs {
        let (Some(time), Some(number)) = (time_of_audit(key), number_of_audit(key)) else {
            continue;
        };
        entries.push((time, number, AuditRow::from_bytes(value)?));
    }
    Ok(AuditPage { entries, has_more: page.has_more })
}

/// Lists at most `limit` events after `after` that a subscription selects and has missed; none if
/// there is no such subscription.
pub async fn missed(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: SubscriptionId,
    after: EventId,
    limit: usize,
) -> Result<Option<MissedPage>, TableError> {
    let Some(subscription) = find(tx, guard, keys, id).await? else { return Ok(None) };
    let (mut candidates, mut end) = (Vec::new(), None);
    for status in EventStatus::ALL {
        let rows = RangeRead::first(keys.queue_range(status, after, None), EXAMINED_MAX);
        let rows = tx.range_snapshot(rows).await?;
        let last = rows.pairs.last().and_then(|(key, _)| id_of_key(key));
        let last = last.filter(|_| rows.has_more);
        candidates.extend(rows.pairs.iter().filter_map(|(key, value)| {
            let id = id_of_key(key)?;
            let row = QueueRow::decode(id, value).ok()?;
            subscription.selects(row.event_type).then_some(id)
        }));
        end = end.into_iter().chain(last).min();
    }
    // Beyond the end, events of one of the statuses were not read.
    candidates.retain(|id| end.is_none_or(|end| *id <= end));
    candidates.sort_unstable();
    let mut ids = Vec::new();
    let leases = LeaseRows::read(tx, keys, Reading::Snapshot).await?;
    for event in candidates {
        let Some((row, delivery)) = read_row(tx, keys, &leases, event, Reading::Snapshot).await?
        else {
            continue;
        };
        if has_missed(tx, keys, &subscription, &row, &delivery).await? {
            ids.push(event);
            if ids.len() >= limit {
                return Ok(Some(MissedPage { ids, next: Some(event) }));
            }
        }
    }
    Ok(Some(MissedPage { ids, next: end }))
}
