//! Reads of a tenant's inbox: pages by status, single events, counts, and the state to start from.

mod pages;

pub use pages::{EventPage, PageQuery, list};

use super::fence::Guard;
use super::keys::{self, TenantKeys, day, id_of_key, time_of_due_key};
use super::lease_rows::LeaseRows;
use super::rows::{
    Attempt, Delivery, EventRow, Head, OlderAttempts, QueueRow, Row, SubscriptionRow,
    TOMBSTONE_DAYS, Tombstone,
};
use super::webhook_marks::{self, WebhookMark, WebhookMarks};
use super::{TableError, prefetch, read_range, subscriptions};
use crate::kv::{Fault, Prefetch, RangeRead, StoreError, Transaction, decode_counter};
use bytes::Bytes;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, TenantId, Timestamp};

/// Chunks of a payload of one range read.
const CHUNKS_PER_READ: usize = 256;

/// Whether a read takes part in the conflict check of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The commit fails if the row has changed since.
    Checked,
    /// The row may change before the commit.
    Snapshot,
}

/// Why there is no event with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The event was deleted.
    Gone,
    /// The tenant never had such an event, or its tombstone is removed by now.
    NotFound,
}

/// An event, or why it is not there.
pub type Found = Result<Box<Event>, Missing>;

/// Counts of a tenant's events by status, in the order of [`EventStatus::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([i64; 4]);

impl Counts {
    /// Count of one status.
    pub fn get(&self, status: EventStatus) -> i64 {
        self.0[status as usize]
    }

    /// Changes the count of one status.
    pub fn add(&mut self, status: EventStatus, delta: i64) {
        self.0[status as usize] += delta;
    }

    /// Number of events that wait for delivery: received and queued ones.
    pub fn waiting(&self) -> u64 {
        let count = |status| u64::try_from(self.get(status)).unwrap_or(0);
        count(EventStatus::Received) + count(EventStatus::Queued)
    }
}

/// Stored state that an inbox starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxState {
    /// The greatest id ever minted.
    pub last_id: EventId,
    /// End of the first lease.
    pub first_lease_end: Option<Timestamp>,
    /// Counts of the events by status.
    pub counts: Counts,
    /// All subscriptions, even those being deleted, with the due time of the first webhook of each.
    pub subscriptions: Vec<(SubscriptionRow, Option<Timestamp>)>,
    /// Marks of the subscriptions.
    pub webhook_marks: WebhookMarks,
}

/// Events whose rows are read in one round trip, which bounds the bytes of its answer.
pub(super) const ROWS_PER_FETCH: usize = 256;

/// Adds the reads of every batch: the fence, the head and the counters.
pub(super) fn add_batch(reads: &mut Prefetch, guard: &Guard, keys: &TenantKeys) {
    reads.key(guard.key());
    reads.key(keys.head());
    EventStatus::ALL.into_iter().for_each(|status| reads.key(keys.counter(status)));
}

/// Adds the rows of an event. Its state may be in a lease row as well, unless it has webhooks.
pub(super) fn add_row(reads: &mut Prefetch, keys: &TenantKeys, id: EventId) {
    reads.key(keys.event(id));
    reads.key(keys.delivery(id));
}

/// Reads the rows of several events at once, for later [`read_row`]s.
pub(super) async fn prefetch_rows(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    ids: impl Iterator<Item = EventId> + Send,
) -> Result<(), StoreError> {
    prefetch(tx, |reads| ids.for_each(|id| add_row(reads, keys, id))).await
}

/// Loads the state that an inbox starts from.
pub async fn load(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
) -> Result<InboxState, TableError> {
    prefetch(tx, |reads| {
        add_batch(reads, guard, keys);
        reads.first(keys.lease_ends(), 1);
        LeaseRows::prefetch(reads, keys);
        reads.first(keys.subscriptions(), subscriptions::PAGE_ROWS);
    })
    .await?;
    if !is_planted(Bug::FenceNotChecked) {
        guard.check(tx).await?;
    }
    let head = read_head(tx, keys).await?;
    let first = tx.range_snapshot(RangeRead::first(keys.lease_ends(), 1)).await?;
    let (mut subscriptions, mut webhook_marks) = (Vec::new(), WebhookMarks::new());
    if head.subscriptions > 0 {
        let rows = subscriptions::read_all(tx, keys).await?;
        let unknown = rows.iter().map(|row| (row.id, WebhookMark::UNKNOWN));
        subscriptions::prefetch_first_due(tx, keys, unknown).await?;
        for row in rows {
            let mark = webhook_marks.entry(row.id).or_insert(WebhookMark::UNKNOWN);
            let due = webhook_marks::first_due(tx, keys, row.id, mark).await?;
            subscriptions.push((row, due));
        }
    }
    let first = first.pairs.first().and_then(|(key, _)| time_of_due_key(key));
    let in_rows = LeaseRows::read(tx, keys, Reading::Snapshot).await?.first_end();
    let in_rows = in_rows.filter(|_| !is_planted(Bug::TakeoverForgetsLeases));
    Ok(InboxState {
        last_id: head.last_id,
        subscriptions,
        webhook_marks,
        first_lease_end: [first, in_rows].into_iter().flatten().min(),
        counts: counts(tx, keys).await?,
    })
}

pub(super) async fn read_head(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
) -> Result<Head, TableError> {
    let stored = tx.get_snapshot(&keys.head()).await?;
    Ok(stored.map(|bytes| Head::from_bytes(&bytes)).transpose()?.unwrap_or(Head::NEW))
}

/// Lists the tenants with the earliest wake-up pointers after `after`, and the pointer of each in
/// seconds.
pub async fn wakes(
    tx: &mut dyn Transaction,
    guard: &Guard,
    after: Option<&(u64, TenantId)>,
    limit: usize,
) -> Result<Vec<(u64, TenantId)>, TableError> {
    guard.check(tx).await?;
    let pointers = keys::wakes(guard.partition, after);
    let page = tx.range_snapshot(RangeRead::first(pointers, limit)).await?;
    Ok(page.pairs.iter().filter_map(|(key, _)| keys::parse_wake(key)).collect())
}

/// Lists up to `limit` tenants of a partition after `after`, ordered by id.
pub async fn tenants(
    tx: &mut dyn Transaction,
    guard: &Guard,
    after: Option<&TenantId>,
    limit: usize,
) -> Result<Vec<TenantId>, TableError> {
    guard.check(tx).await?;
    let mut tenants: Vec<TenantId> = Vec::new();
    while tenants.len() < limit {
        // Skips the other rows of each tenant.
        let last = tenants.last().or(after);
        let page =
            tx.range_snapshot(RangeRead::first(keys::tenants_of(guard.partition, last), 1)).await?;
        let Some(tenant) = page.pairs.first().and_then(|(key, _)| keys::tenant_of_key(key)) else {
            break;
        };
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// A tenant's counts by status, and the time of acceptance of the oldest waiting event.
pub async fn statistics(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
) -> Result<(Counts, Option<Timestamp>), TableError> {
    let waiting = |status| keys.queue_range(status, EventId::ZERO, None);
    prefetch(tx, |reads| {
        add_batch(reads, guard, keys);
        reads.first(waiting(EventStatus::Received), 1);
        reads.first(waiting(EventStatus::Queued), 1);
    })
    .await?;
    guard.check(tx).await?;
    let mut oldest = None;
    for status in [EventStatus::Received, EventStatus::Queued] {
        let first = RangeRead::first(waiting(status), 1);
        let page = tx.range_snapshot(first).await?;
        if let Some((key, value)) = page.pairs.first() {
            let received_at = queue_row(key, value)?.1.received_at;
            oldest = Some(oldest.map_or(received_at, |oldest: Timestamp| oldest.min(received_at)));
        }
    }
    Ok((counts(tx, keys).await?, oldest))
}

pub(super) async fn counts(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
) -> Result<Counts, TableError> {
    let mut counts = Counts::default();
    for status in EventStatus::ALL {
        let value = tx.get_snapshot(&keys.counter(status)).await?;
        counts.add(status, decode_counter(value.as_deref())?);
    }
    Ok(counts)
}

/// Finds an event by its id; tombstones are those that are kept at `now`.
pub async fn find(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: EventId,
    now: Timestamp,
) -> Result<Found, TableError> {
    Ok(read_found(tx, guard, keys, id, now).await?.0)
}

/// Finds an event with its delivery and all its attempts, like [`find`].
pub async fn find_with_delivery(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: EventId,
    now: Timestamp,
) -> Result<(Found, Delivery), TableError> {
    let (found, mut delivery) = read_found(tx, guard, keys, id, now).await?;
    delivery.attempts = all_attempts(tx, keys, id, &delivery).await?;
    Ok((found, delivery))
}

/// All stored attempts of an event, oldest first.
pub(super) async fn all_attempts(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: EventId,
    delivery: &Delivery,
) -> Result<Vec<Attempt>, TableError> {
    let mut attempts = delivery.attempts.clone();
    if delivery.has_older_attempts {
        for (_, older) in read_range(tx, keys.all_older_attempts(id), CHUNKS_PER_READ).await? {
            attempts.extend(OlderAttempts::from_bytes(&older)?.0);
        }
        attempts.sort_by_key(|attempt| attempt.number);
    }
    Ok(attempts)
}

async fn read_found(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: EventId,
    now: Timestamp,
) -> Result<(Found, Delivery), TableError> {
    prefetch(tx, |reads| {
        reads.key(guard.key());
        add_row(reads, keys, id);
        LeaseRows::prefetch(reads, keys);
    })
    .await?;
    guard.check(tx).await?;
    let leases = LeaseRows::read(tx, keys, Reading::Snapshot).await?;
    if let Some((row, delivery)) = read_row(tx, keys, &leases, id, Reading::Snapshot).await? {
        let event = load_payload(tx, keys, row).await?;
        return Ok((Ok(Box::new(event)), delivery));
    }
    let tombstone = read_tombstone(tx, keys, id, now, Reading::Snapshot).await?;
    let missing = if tombstone.is_some() { Missing::Gone } else { Missing::NotFound };
    Ok((Err(missing), Delivery::NEW))
}

/// The tombstone of a deleted event, if it is still kept at `now`.
pub(super) async fn read_tombstone(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: EventId,
    now: Timestamp,
    reading: Reading,
) -> Result<Option<Tombstone>, TableError> {
    // One day more at the end, in case the clock was set back after the deletion.
    let latest = day(now) + 1;
    let days = latest.saturating_sub(TOMBSTONE_DAYS + 1)..=latest;
    prefetch(tx, |reads| days.clone().for_each(|day| reads.key(keys.tombstone(day, id)))).await?;
    for day in days.rev() {
        if let Some(stored) = read(tx, &keys.tombstone(day, id), reading).await? {
            return Ok(Some(Tombstone::from_bytes(&stored)?));
        }
    }
    Ok(None)
}

/// The id and the row of a place in a list.
pub(super) fn queue_row<'a>(
    key: &[u8],
    value: &'a [u8],
) -> Result<(EventId, QueueRow<'a>), TableError> {
    let id = id_of_key(key).ok_or_else(|| corrupt("a queue key is too short".into()))?;
    Ok((id, QueueRow::decode(id, value)?))
}

/// The event of a row with its complete payload; fails as `Corrupt` if a chunk is missing.
pub(super) async fn load_payload(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    mut row: EventRow,
) -> Result<Event, TableError> {
    if row.is_chunked() {
        row.event.payload = read_chunks(tx, keys, row.event.id, row.payload_bytes).await?;
    }
    Ok(row.event)
}

/// Reads an event with its present state, without the chunks of a large payload, and its delivery,
/// which is [`EventRow::delivery`] if none is stored.
pub(super) async fn read_row(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    leases: &LeaseRows,
    id: EventId,
    reading: Reading,
) -> Result<Option<(EventRow, Delivery)>, TableError> {
    match leases.find(id) {
        // It has no delivery row (`LEASE-ROWS-1`).
        Some(lease) => {
            let Some(row) = read_own_row(tx, keys, id, reading).await? else { return Ok(None) };
            let delivery = lease.delivery(id);
            Ok(Some((row.with(&delivery), delivery)))
        }
        None => read_stored_row(tx, keys, id, reading).await,
    }
}

/// [`read_row`] of an event that is in no lease row.
pub(super) async fn read_stored_row(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: EventId,
    reading: Reading,
) -> Result<Option<(EventRow, Delivery)>, TableError> {
    let pair = [&keys.event(id)[..], &keys.delivery(id)];
    let [event, delivery] = tx.get_pair(pair, reading == Reading::Checked).await?;
    let Some(event) = event else { return Ok(None) };
    let row = EventRow::decode(id, &event)?;
    let stored = delivery.map(|bytes| Delivery::from_bytes(&bytes)).transpose()?;
    let delivery = stored.unwrap_or_else(|| row.delivery());
    Ok(Some((row.with(&delivery), delivery)))
}

/// Reads an event's own row. Its state is the present one if the event is received.
pub(super) async fn read_own_row(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: EventId,
    reading: Reading,
) -> Result<Option<EventRow>, TableError> {
    let stored = read(tx, &keys.event(id), reading).await?;
    Ok(stored.map(|stored| EventRow::decode(id, &stored)).transpose()?)
}

async fn read(
    tx: &mut dyn Transaction,
    key: &[u8],
    reading: Reading,
) -> Result<Option<Bytes>, StoreError> {
    match reading {
        Reading::Checked => tx.get(key).await,
        Reading::Snapshot => tx.get_snapshot(key).await,
    }
}

/// Reads the chunks of a payload as a snapshot: they never change while their event's row exists.
async fn read_chunks(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: EventId,
    payload_bytes: usize,
) -> Result<Bytes, TableError> {
    let mut payload = Vec::with_capacity(payload_bytes);
    for (_, chunk) in read_range(tx, keys.chunks(id), CHUNKS_PER_READ).await? {
        payload.extend_from_slice(&chunk);
    }
    let found = payload.len();
    if found != payload_bytes {
        let reason = format!("event {id} has {found} payload bytes instead of {payload_bytes}");
        return Err(corrupt(reason));
    }
    Ok(payload.into())
}

pub(super) fn corrupt(reason: String) -> TableError {
    StoreError::fatal(Fault::Corrupt, reason).into()
}
