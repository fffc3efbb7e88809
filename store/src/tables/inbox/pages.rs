//! Pages of a tenant's events in one status.
//!
//! - `INBOX-READ-1`: a page is one snapshot: its events, its total and its end belong together.
//! - `INBOX-READ-2`: a page skips no event after its start that the filter selects.
//! - `INBOX-READ-3`: a page scans at most [`PageQuery::scan_rows_max`] rows, and the next page
//!   starts after the last scanned one, in either order.

use super::{
    ROWS_PER_FETCH, Reading, corrupt, load_payload, prefetch_rows, queue_row, read_head,
    read_own_row, read_row,
};
use crate::kv::{Page, RangeRead, Transaction, covered_by, decode_counter};
use crate::tables::fence::Guard;
use crate::tables::keys::TenantKeys;
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::Head;
use crate::tables::{TableError, prefetch};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventTypePattern, Timestamp};

/// Queue rows of one range read when a filter may drop most of them.
const FILTERED_PAGE: usize = 500;

/// A page of the inbox to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// Status of the listed events.
    pub status: EventStatus,
    /// The page lists the newest events first.
    pub is_newest_first: bool,
    /// Id after which the page starts, in the order of the page; [`EventId::ZERO`] for its
    /// beginning.
    pub after: EventId,
    /// Maximum number of events, at least one.
    pub limit: usize,
    /// Patterns of the selected types; empty selects every type.
    pub event_types: Vec<EventTypePattern>,
    /// Earliest time of acceptance.
    pub from: Option<Timestamp>,
    /// Latest time of acceptance.
    pub to: Option<Timestamp>,
    /// Maximum number of rows to scan.
    pub scan_rows_max: usize,
    /// Payload bytes at which the page ends; it includes the event that reaches them.
    pub page_bytes_max: usize,
}

/// One page of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Events, oldest first unless the query asks for the newest.
    pub events: Vec<Event>,
    /// [`PageQuery::after`] of the next page, if there may be more.
    pub next: Option<EventId>,
    /// Number of the tenant's events in that status.
    pub total: i64,
}

/// Reads one page of the inbox.
pub async fn list(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    query: &PageQuery,
) -> Result<EventPage, TableError> {
    let head = if query.to.is_some() { read_head(tx, keys).await? } else { Head::NEW };
    let mut first = first_scan(keys, query, &head);
    prefetch(tx, |reads| {
        reads.key(guard.key());
        reads.key(keys.counter(query.status));
        reads.page(first.clone());
        LeaseRows::prefetch(reads, keys);
    })
    .await?;
    guard.check(tx).await?;
    let leases = LeaseRows::read(tx, keys, Reading::Snapshot).await?;
    if query.status == EventStatus::Received {
        // Leased events have their places in this list; the page passes over them at once.
        first.limit = first.limit.max((first.limit + leases.len()).min(FILTERED_PAGE));
    }
    let (ids, mut next) = scan(tx, keys, &leases, query, first).await?;
    let mut events = Vec::with_capacity(ids.len());
    let mut bytes = 0;
    for (index, id) in ids.iter().enumerate() {
        if index % ROWS_PER_FETCH == 0 {
            let coming = ids[index..].iter().take(ROWS_PER_FETCH).copied();
            prefetch_rows(tx, keys, coming).await?;
        }
        let row = match query.status {
            EventStatus::Received => read_own_row(tx, keys, *id, Reading::Snapshot).await?,
            _ => {
                let row = read_row(tx, keys, &leases, *id, Reading::Snapshot).await?;
                row.map(|(row, _)| row)
            }
        };
        let row =
            row.ok_or_else(|| corrupt(format!("event {id} has a queue row but no event row")))?;
        let event = load_payload(tx, keys, row).await?;
        bytes += event.payload.len();
        events.push(event);
        if bytes >= query.page_bytes_max && index + 1 < ids.len() {
            next = Some(*id);
            break;
        }
    }
    let total = tx.get_snapshot(&keys.counter(query.status)).await?;
    Ok(EventPage { events, next, total: decode_counter(total.as_deref())? })
}

/// The first queue rows to scan for a page.
fn first_scan(keys: &TenantKeys, query: &PageQuery, head: &Head) -> RangeRead {
    // The time in an id is that of acceptance, or later by the tenant's lead at most.
    let mut begin = query.from.map_or(EventId::ZERO, |from| EventId::first_at(from).before());
    let mut until =
        query.to.map(|to| EventId::first_at(to.plus(head.lead()).plus(Duration::from_millis(1))));
    let reverse = query.is_newest_first;
    if !reverse {
        begin = begin.max(query.after);
    } else if query.after != EventId::ZERO {
        until = Some(until.map_or(query.after, |until| until.min(query.after)));
    }
    let range = keys.queue_range(query.status, begin, until);
    let limit = if query.event_types.is_empty() { query.limit + 1 } else { FILTERED_PAGE };
    RangeRead { range, limit, is_reverse: reverse }
}

/// The ids of a page, and [`PageQuery::after`] of the next one.
async fn scan(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    leases: &LeaseRows,
    query: &PageQuery,
    first: RangeRead,
) -> Result<(Vec<EventId>, Option<EventId>), TableError> {
    let (mut ids, mut scanned) = (Vec::new(), 0);
    let RangeRead { mut range, limit: page_rows, is_reverse: reverse } = first;
    loop {
        let read = RangeRead { range: range.clone(), limit: page_rows, is_reverse: reverse };
        let mut page = tx.range_snapshot(read.clone()).await?;
        if query.status == EventStatus::Queued {
            add_leased(tx, keys, leases, &read, &mut page).await?;
        }
        for (key, value) in &page.pairs {
            let (id, row) = queue_row(key, value)?;
            if query.status == EventStatus::Received && leases.find(id).is_some() {
                continue;
            }
            if ids.len() == query.limit {
                let last =
                    if is_planted(Bug::CursorOffByOne) { Some(id) } else { ids.last().copied() };
                return Ok((ids, last));
            }
            let is_selected = query.from.is_none_or(|from| row.received_at >= from)
                && query.to.is_none_or(|to| row.received_at <= to)
                && EventTypePattern::selects(&query.event_types, row.event_type);
            if is_selected {
                ids.push(id);
            }
            scanned += 1;
            if scanned >= query.scan_rows_max {
                return Ok((ids, Some(id)));
            }
        }
        match page.pairs.last() {
            Some((last, _)) if page.has_more && reverse => range.end = last.clone(),
            Some((last, _)) if page.has_more => range.begin = [&last[..], &[0]].concat().into(),
            _ => return Ok((ids, None)),
        }
    }
}

/// Adds to a page of queue rows of queued events those of the events in lease rows, whose queue
/// rows are among the received ones.
async fn add_leased(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    leases: &LeaseRows,
    read: &RangeRead,
    page: &mut Page,
) -> Result<(), TableError> {
    let section = covered_by(page, read.range.clone(), read.is_reverse);
    let is_inside = |id: &EventId| section.contains(&keys.queue(EventStatus::Queued, *id));
    let mut ids: Vec<EventId> = leases.events_of(|_| true).into_iter().filter(is_inside).collect();
    if ids.is_empty() {
        return Ok(());
    }
    if read.is_reverse {
        ids.reverse();
    }
    let has_more = ids.len() > read.limit;
    ids.truncate(read.limit);
    let stored_at = |id: &EventId| keys.queue(EventStatus::Received, *id);
    prefetch(tx, |reads| ids.iter().for_each(|id| reads.key(stored_at(id)))).await?;
    for id in &ids {
        let stored = tx.get_snapshot(&stored_at(id)).await?;
        let row = stored.ok_or_else(|| corrupt(format!("leased event {id} has no queue row")))?;
        page.pairs.push((keys.queue(EventStatus::Queued, *id).into(), row));
    }
    page.pairs.sort_unstable_by(|one, other| match read.is_reverse {
        false => one.0.cmp(&other.0),
        true => other.0.cmp(&one.0),
    });
    if let Some(last) = ids.last().filter(|_| has_more) {
        // What comes behind the last one belongs to the next page.
        let last = keys.queue(EventStatus::Queued, *last);
        let end = page.pairs.iter().position(|(key, _)| key[..] == last[..]);
        page.pairs.truncate(end.map_or(0, |end| end + 1));
        page.has_more = true;
    }
    Ok(())
}
