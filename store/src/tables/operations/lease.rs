//! Leases events to a consumer for a time.
//!
//! - `LEASE-1`: an event is leased to at most one consumer, because its rows are read serializably.
//! - `LEASE-2`: a token is valid only until its lease ends, and not in the next lease.
//! - `LEASE-3`: every lease is an attempt, numbered without gaps.
//! - `LEASE-4`: due retries are leased before events that were never attempted.
//! - `LEASE-5`: a second run finds the events of the first run: in lease rows if all of them are
//!   there, else in the row of the last batch by the command's nonce.
//! - `LEASE-6`: a search scans a bounded number of rows and says where it stopped. No row up to a
//!   position that the batch reports is one that its filter selects. The next lease with the same
//!   filter begins there, so it does not walk over the keys of events that were leased before.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{Prefetch, RangeRead, Transaction};
use crate::tables::batch::{Batch, EVERY_TYPE, FilterId, LeasePosition, OperationLimits};
use crate::tables::keys::{TenantKeys, id_of_key, time_of_due_key};
use crate::tables::lease_rows::LeaseRows;
use crate::tables::rows::{
    Claim, Delivery, EventRow, LeaseId, LeaseMembers, LeaseRow, LeaseToken, QueueRow, Row,
    lease_token,
};
use crate::tables::{TableError, inbox};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::time::Duration;
use triggers_protocol::event::EventState;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventTypePattern, Timestamp};

/// Rows of one range read.
const SCAN_PAGE: usize = 250;
/// Payload bytes at which a lease takes no more events.
const LEASE_BYTES_MAX: usize = 4 << 20;

/// Leases events to a consumer; the reply has none if none is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Maximum number of events.
    pub limit: usize,
    /// Patterns of the wanted types; empty selects every type.
    pub event_types: Vec<EventTypePattern>,
    /// Time for which the consumer holds the events.
    pub visibility: Duration,
    /// Where an earlier step of the same search stopped; none in the first step.
    pub after: Option<LeasePosition>,
}

/// Reply to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseReply {
    /// The lease, by which all of its events can be acknowledged, nacked or extended.
    pub lease: LeaseId,
    /// End of the lease.
    pub until: Timestamp,
    /// The leased events.
    pub events: Vec<Leased>,
    /// Where the search stopped, if it found no events; otherwise where it began.
    pub position: LeasePosition,
    /// The search stopped at its bound without events, so there may be some behind `position`.
    pub has_more: bool,
}

/// An event that a consumer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The event after the lease began.
    pub event: Event,
    /// Token of the lease.
    pub token: LeaseToken,
}

impl Lease {
    /// Position at which the search begins.
    fn start(&self, stamp: &Stamp) -> LeasePosition {
        stamp.lease_after.or(self.after).unwrap_or(LeasePosition::BEGIN)
    }

    /// Queue rows that are worth reading at once: without a filter, every row is selected.
    fn rows_wanted(&self, leased: &[Leased]) -> usize {
        match self.event_types.is_empty() {
            true => self.limit.saturating_sub(leased.len()).max(1),
            false => SCAN_PAGE.max(self.limit),
        }
    }

    /// Events whose rows are worth reading at once.
    fn rows_to_fetch(&self, leased: &[Leased]) -> usize {
        self.limit.saturating_sub(leased.len()).clamp(1, inbox::ROWS_PER_FETCH)
    }

    fn is_full(&self, leased: &[Leased]) -> bool {
        let bytes: usize = leased.iter().map(|leased| leased.event.payload.len()).sum();
        leased.len() >= self.limit || bytes >= LEASE_BYTES_MAX
    }
}

/// The identity of a list of patterns.
fn filter_id(event_types: &[EventTypePattern]) -> FilterId {
    if event_types.is_empty() {
        return EVERY_TYPE;
    }
    let mut digest = Sha256::new();
    for pattern in event_types {
        digest.update(pattern.to_string());
        digest.update([0]);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    id
}

impl Operation for Lease {
    type Reply = LeaseReply;

    fn footprint(&self) -> Footprint {
        let filter = Some(filter_id(&self.event_types));
        Footprint { filter, ..Footprint::new(Selection::Lease, self.limit.max(1)) }
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        stamp: &Stamp,
    ) {
        reads.key(keys.recent_leases());
        let start = self.start(stamp);
        let rows = self.rows_wanted(&[]);
        reads.first(keys.waiting_until(start.due, stamp.at), rows);
        reads.first(keys.queue_range(EventStatus::Received, start.received, None), rows);
        reads.first(keys.lease_ends(), 1);
        LeaseRows::prefetch(reads, keys);
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<LeaseReply, TableError> {
        let start = self.start(stamp);
        let (lease, until) = (stamp.secret, stamp.at.plus(self.visibility));
        if let Some(events) = self.repeat(batch, tx, stamp).await? {
            return Ok(LeaseReply { lease, until, events, position: start, has_more: false });
        }
        let filter = filter_id(&self.event_types);
        let rows_left = batch.limits.lease_scan_rows_max.max(self.limit);
        let begin = match batch.ignores_positions {
            true => self.after.unwrap_or(LeasePosition::BEGIN),
            false => start,
        };
        let position = batch.searches.position(filter).unwrap_or(begin);
        let room = batch.lease_rows(tx).await?.room();
        let mut search = Search {
            position,
            rows_left,
            has_more: false,
            leased: Vec::new(),
            room,
            in_lease_rows: Vec::new(),
        };
        self.lease_due(batch, tx, stamp, &mut search).await?;
        if !search.has_more {
            self.lease_new(batch, tx, stamp, &mut search).await?;
        }
        if search.has_more && is_planted(Bug::FilteredReadGivesUp) {
            (search.position, search.has_more) = (LeasePosition::BEGIN, false);
        }
        let Search { position, has_more, leased: events, in_lease_rows, .. } = search;
        self.store_lease(batch, tx, stamp, &events, in_lease_rows).await?;
        // What a search began behind a place of its caller may have become available before it.
        let is_from_begin = stamp.lease_after.is_some() || self.after.is_none();
        if is_from_begin {
            batch.searches.note(filter, position);
        }
        match events.is_empty() {
            true => Ok(LeaseReply { lease, until, events, position, has_more }),
            // As a second run replies, which does not search.
            false => Ok(LeaseReply { lease, until, events, position: start, has_more: false }),
        }
    }
}

/// The state of a search.
struct Search {
    position: LeasePosition,
    rows_left: usize,
    has_more: bool,
    leased: Vec<Leased>,
    /// Events for which the lease rows have room.
    room: usize,
    /// Those of the leased events that go into lease rows.
    in_lease_rows: Vec<EventId>,
}

impl Search {
    /// Rows of the next range read; at least one, so that every step makes progress.
    fn page_rows(&self, wanted: usize) -> usize {
        wanted.min(self.rows_left).max(1)
    }

    /// Counts the rows of a page; whether another page is read.
    fn goes_on(&mut self, rows: usize, has_more_rows: bool) -> bool {
        self.rows_left = self.rows_left.saturating_sub(rows);
        self.has_more = has_more_rows && self.rows_left == 0;
        has_more_rows && !self.has_more
    }
}

impl Lease {
    fn selects(&self, event_type: &[u8]) -> bool {
        std::str::from_utf8(event_type)
            .is_ok_and(|text| EventTypePattern::selects(&self.event_types, text))
    }

    /// Leases events whose next attempt is due, the longest due first.
    async fn lease_due(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        search: &mut Search,
    ) -> Result<(), TableError> {
        while !self.is_full(&search.leased) {
            let due = batch.keys.waiting_until(search.position.due, stamp.at);
            let page_rows = search.page_rows(self.rows_wanted(&search.leased));
            let page = tx.range_snapshot(RangeRead::first(due, page_rows)).await?;
            let selected = page.pairs.iter().filter(|(_, event_type)| self.selects(event_type));
            let ids = selected.take(self.rows_to_fetch(&search.leased));
            inbox::prefetch_rows(tx, batch.keys, ids.filter_map(|(key, _)| id_of_key(key))).await?;
            for (key, event_type) in &page.pairs {
                if self.is_full(&search.leased) {
                    return Ok(());
                }
                let (Some(id), Some(due)) = (id_of_key(key), time_of_due_key(key)) else {
                    continue;
                };
                if self.selects(event_type)
                    && let Some((row, mut delivery)) = batch.read_row(tx, id).await?
                    && delivery.claim == (Claim::Waiting { due })
                {
                    tx.clear(key);
                    delivery.claim = Claim::None;
                    self.hand_out(batch, tx, stamp, row, delivery, search).await?;
                }
                search.position.due = (due, id);
            }
            if !search.goes_on(page.pairs.len(), page.has_more) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Leases events that were never attempted, or were replayed, oldest first.
    async fn lease_new(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        search: &mut Search,
    ) -> Result<(), TableError> {
        while !self.is_full(&search.leased) {
            let after = search.position.received;
            let range = batch.keys.queue_range(EventStatus::Received, after, None);
            let leases = batch.lease_rows(tx).await?;
            // Leased events have their place in this list; a long row of them is passed at once.
            let page_rows = match leases.last_event() > Some(after) {
                true => SCAN_PAGE,
                false => search.page_rows(self.rows_wanted(&search.leased)),
            };
            let page = tx.range_snapshot(RangeRead::first(range, page_rows)).await?;
            let is_leased = |id| leases.find(id).is_some() && !is_planted(Bug::LeasedTwice);
            let selected = |(key, value): &(Bytes, Bytes)| {
                let id = id_of_key(key)?;
                let row = QueueRow::decode(id, value).ok()?;
                (self.selects(row.event_type.as_bytes()) && !is_leased(id)).then_some(id)
            };
            let is_held = |(key, _): &&(Bytes, Bytes)| id_of_key(key).is_some_and(is_leased);
            let held = page.pairs.iter().filter(is_held).count();
            let available: Vec<EventId> = page.pairs.iter().filter_map(selected).collect();
            let ids = available.iter().take(self.rows_to_fetch(&search.leased)).copied();
            inbox::prefetch_rows(tx, batch.keys, ids).await?;
            for id in available {
                if self.is_full(&search.leased) {
                    return Ok(());
                }
                if let Some((row, delivery)) = batch.read_pushed(tx, id).await? {
                    self.hand_out(batch, tx, stamp, row, delivery, search).await?;
                }
                search.position.received = id;
            }
            if let Some((last, _)) = page.pairs.last() {
                search.position.received = id_of_key(last).unwrap_or(search.position.received);
            }
            // The bound is for rows of other types; the lease rows bound those of leased events.
            if !search.goes_on(page.pairs.len() - held, page.has_more) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Leases one event: a new attempt begins. If it is the first one, it goes into a lease row.
    async fn hand_out(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        mut row: EventRow,
        mut delivery: Delivery,
        search: &mut Search,
    ) -> Result<(), TableError> {
        let (id, state) = (row.event.id, &mut row.event.state);
        let is_new = *state == EventState::ACCEPTED && delivery == Delivery::NEW;
        let before = std::mem::replace(&mut state.status, EventStatus::Queued);
        state.attempts += 1;
        state.last_attempt_at = Some(stamp.at);
        state.next_retry_at = None;
        let (token, until) = (lease_token(stamp.secret, id), stamp.at.plus(self.visibility));
        batch.lease_ends_changed = true;
        if is_new && search.in_lease_rows.len() < search.room {
            search.in_lease_rows.push(id);
            batch.count(before, -1);
            batch.count(EventStatus::Queued, 1);
        } else {
            delivery.claim = Claim::Leased { until };
            delivery.token = Some(token);
            delivery.changed_by = stamp.nonce;
            batch.begin_attempt(tx, id, &mut delivery, state.attempts, stamp.at, None).await?;
            tx.set(&batch.keys.lease_end(until, id), &[]);
            batch.move_row(tx, &row, delivery, before);
        }
        let event = inbox::load_payload(tx, batch.keys, row).await?;
        search.leased.push(Leased { event, token });
        Ok(())
    }

    /// Stores which events the lease has.
    async fn store_lease(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
        leased: &[Leased],
        in_lease_rows: Vec<EventId>,
    ) -> Result<(), TableError> {
        let until = stamp.at.plus(self.visibility);
        if in_lease_rows.len() < leased.len() {
            let all: Vec<EventId> = leased.iter().map(|leased| leased.event.id).collect();
            let others = all.iter().filter(|id| in_lease_rows.binary_search(id).is_err());
            let members = LeaseMembers { until, events: others.copied().collect() };
            tx.set_owned(batch.keys.lease_members(stamp.secret), members.to_bytes());
            tx.set(&batch.keys.members_end(until, stamp.secret), &[]);
            batch.leased.push((stamp.nonce, all));
        }
        if !in_lease_rows.is_empty() {
            let (lease, leased_at, changed_by) = (stamp.secret, stamp.at, stamp.nonce);
            let row = LeaseRow { lease, until, leased_at, changed_by, events: in_lease_rows };
            batch.lease_rows(tx).await?.add(&row);
        }
        Ok(())
    }

    /// The events of an earlier run of this command (`LEASE-5`).
    async fn repeat(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Option<Vec<Leased>>, TableError> {
        let ids = match batch.leased_before(tx, stamp.nonce).await? {
            Some(ids) => {
                // A third run needs them if this run leases more for another command.
                batch.leased.push((stamp.nonce, ids.clone()));
                ids
            }
            None => batch.lease_rows(tx).await?.events_of(|row| row.lease == stamp.secret),
        };
        if ids.is_empty() {
            return Ok(None);
        }
        // The inbox got no reply of the first run, so it does not know when the leases end.
        batch.lease_ends_changed = true;
        let mut leased = Vec::with_capacity(ids.len());
        inbox::prefetch_rows(tx, batch.keys, ids.iter().copied()).await?;
        for id in ids {
            if let Some((row, _)) = batch.read_row(tx, id).await? {
                let event = inbox::load_payload(tx, batch.keys, row).await?;
                leased.push(Leased { event, token: lease_token(stamp.secret, id) });
            }
        }
        Ok(Some(leased))
    }
}
