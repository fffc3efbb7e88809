//! Accepts events: stores the row, the queue row and the idempotency record of each.
//!
//! - `APPEND-1`: an idempotency key and its event commit together, and the read of the key is
//!   serializable, so two requests with one key never add two events.
//! - `APPEND-2`: an expired record counts as absent.
//! - `APPEND-3`: a repeated request gets its first answer even if the tenant's quota is used up.
//! - `APPEND-4`: an event is queued at once for every active subscription that selects it. An event
//!   without such a subscription waits to be pulled.

use super::{Footprint, Operation, Selection, Stamp};
use crate::kv::{Prefetch, Transaction};
use crate::tables::TableError;
use crate::tables::batch::{Batch, OperationLimits};
use crate::tables::inbox::{self, Reading};
use crate::tables::keys::{TenantKeys, day};
use crate::tables::rows::{EventRow, Idempotency, QueueRow, Row, chunks};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::event::EventState;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventType, Metadata, Timestamp};

/// Accepts events in their order. The reply has one result per event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Events to accept, in the order of their new ids.
    pub events: Vec<NewEvent>,
    /// Maximum number of waiting (received or queued) events; none means no limit.
    pub waiting_events_max: Option<u64>,
}

/// An event to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Type of the event.
    pub event_type: EventType,
    /// Time that the client sent; the time of acceptance if absent.
    pub timestamp: Option<Timestamp>,
    /// Payload as sent, already validated.
    pub payload: Bytes,
    /// Metadata of the request.
    pub metadata: Arc<Metadata>,
    /// Idempotency key, if the event was sent with one.
    pub idempotency: Option<IdempotencyKey>,
}

/// Digests of an idempotency key and its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// First 16 bytes of the key's SHA-256.
    pub hash: [u8; 16],
    /// Digest of the request, which tells a repeated request from another one.
    pub request_digest: [u8; 32],
}

/// An event that is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The event as it was accepted.
    pub event: Event,
    /// An earlier request with the same idempotency key added the event.
    pub replayed: bool,
}

/// Why one event of a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The idempotency key belongs to a different request.
    KeyReused,
    /// A request with this idempotency key is still in flight.
    KeyInFlight,
    /// The tenant's quota of waiting events is used up.
    QuotaExceeded,
    /// This part of a large request was not stored.
    Unavailable,
    /// This part of a large request may have been stored.
    Unknown,
}

impl NewEvent {
    fn to_event(&self, id: EventId, received_at: Timestamp) -> Event {
        Event {
            id,
            received_at,
            event_type: self.event_type.clone(),
            timestamp: self.timestamp.unwrap_or(received_at),
            payload: self.payload.clone(),
            metadata: self.metadata.clone(),
            state: EventState::ACCEPTED,
        }
    }
}

/// Days before the present one whose idempotency records may still be valid.
pub(super) fn days_kept(retention: Duration) -> u32 {
    u32::try_from(retention.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX)
}

/// Days under which the record of a request may be, newest first. They are counted back from the
/// day of the id, which never decreases, and from that of the clock, which may have been set back.
fn record_days(own_id: EventId, now: Timestamp, retention: Duration) -> BTreeSet<Reverse<u32>> {
    let back = days_kept(retention);
    let days = [own_id.created_at(), now].map(day).into_iter();
    days.flat_map(|last| last.saturating_sub(back)..=last).map(Reverse).collect()
}

impl Operation for Append {
    type Reply = Vec<Result<Accepted, Rejection>>;

    fn footprint(&self) -> Footprint {
        let keys = self.events.iter().enumerate();
        let keys = keys.filter_map(|(index, event)| Some((index, event.idempotency?.hash)));
        Footprint {
            bytes: self.events.iter().map(|event| event.payload.len()).sum(),
            new_events: self.events.len(),
            keys: keys.collect(),
            ..Footprint::new(Selection::New, self.events.len())
        }
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        limits: &OperationLimits,
        stamp: &Stamp,
    ) {
        for (event, id) in self.events.iter().zip(&stamp.ids) {
            let (Some(key), Some(id)) = (&event.idempotency, id) else { continue };
            for Reverse(day) in record_days(*id, stamp.at, limits.idempotency_retention) {
                reads.key(keys.idempotency(day, key.hash));
            }
        }
    }

    async fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> Result<Self::Reply, TableError> {
        assert_eq!(stamp.ids.len(), self.events.len(), "OP-3: an id is decided for each event");
        let mut results = Vec::with_capacity(self.events.len());
        for (event, id) in self.events.iter().zip(&stamp.ids) {
            results.push(match id {
                Some(id) => batch.append(tx, event, *id, stamp.at, self.waiting_events_max).await?,
                None => Err(Rejection::KeyInFlight),
            });
        }
        Ok(results)
    }
}

impl Batch<'_> {
    async fn append(
        &mut self,
        tx: &mut dyn Transaction,
        new: &NewEvent,
        id: EventId,
        at: Timestamp,
        waiting_events_max: Option<u64>,
    ) -> Result<Result<Accepted, Rejection>, TableError> {
        let mut is_stored = self.is_repeated;
        if let Some(key) = &new.idempotency {
            let record = self.idempotency_record(tx, key, id, at).await?;
            is_stored = record.is_some_and(|record| record.id == id);
            if let Some(record) = record.filter(|_| !is_stored) {
                return self.replayed(tx, new, key, record).await;
            }
        }
        // A second run decides alike, even for an event that the first run stored.
        if !self.has_room(waiting_events_max) {
            return Ok(Err(Rejection::QuotaExceeded));
        }
        self.activity.accepted += 1;
        self.activity.made_available += 1;
        let mut event = new.to_event(id, self.received_at());
        if !is_stored {
            self.put_event(tx, &mut event, at).await?;
            if let Some(IdempotencyKey { hash, request_digest }) = new.idempotency {
                let expires_at = at.plus(self.limits.idempotency_retention);
                let record = Idempotency { request_digest, id, expires_at };
                let key = self.keys.idempotency(day(id.created_at()), hash);
                tx.set(&key, &record.to_bytes());
            }
        }
        Ok(Ok(Accepted { event, replayed: false }))
    }

    /// Finds the valid record of a key, or the record that an earlier run wrote for `own_id`.
    async fn idempotency_record(
        &self,
        tx: &mut dyn Transaction,
        key: &IdempotencyKey,
        own_id: EventId,
        now: Timestamp,
    ) -> Result<Option<Idempotency>, TableError> {
        let retention = self.limits.idempotency_retention;
        for Reverse(day) in record_days(own_id, now, retention) {
            let Some(stored) = tx.get(&self.keys.idempotency(day, key.hash)).await? else {
                continue;
            };
            let record = Idempotency::from_bytes(&stored)?;
            let age = now.plus(retention).since(record.expires_at);
            let is_forgotten = is_planted(Bug::IdempotencyNotFound) && age > Duration::from_secs(2);
            let is_valid = record.expires_at > now && !is_forgotten;
            return Ok(Some(record).filter(|record| record.id == own_id || is_valid));
        }
        Ok(None)
    }

    /// The result for a key that another command used before.
    async fn replayed(
        &mut self,
        tx: &mut dyn Transaction,
        new: &NewEvent,
        key: &IdempotencyKey,
        record: Idempotency,
    ) -> Result<Result<Accepted, Rejection>, TableError> {
        self.count(EventStatus::Received, i64::from(is_planted(Bug::CounterAddedOnReplay)));
        if record.request_digest != key.request_digest && !is_planted(Bug::ReusedKeyReplayed) {
            return Ok(Err(Rejection::KeyReused));
        }
        let event = match inbox::read_own_row(tx, self.keys, record.id, Reading::Checked).await? {
            Some(row) => {
                let event = inbox::load_payload(tx, self.keys, row).await?;
                Event { state: EventState::ACCEPTED, ..event }
            }
            // The event was deleted since; the repeated request has the same content.
            None => new.to_event(record.id, record.id.created_at()),
        };
        Ok(Ok(Accepted { event, replayed: true }))
    }

    /// Stores an event with its webhooks. The caller's copy keeps the state of its acceptance.
    async fn put_event(
        &mut self,
        tx: &mut dyn Transaction,
        event: &mut Event,
        at: Timestamp,
    ) -> Result<(), TableError> {
        let id = event.id;
        let targets = self.targets(tx, &event.event_type).await?;
        if !targets.is_empty() {
            // In the order of the ids, and due at once even if the id is ahead of the clock.
            let due = id.created_at().min(at);
            for target in &targets {
                self.begin_push(tx, *target, id, due);
            }
            (event.state.status, event.state.next_retry_at) = (EventStatus::Queued, Some(due));
        }
        let status = event.state.status;
        tx.set_owned(self.keys.event(id), EventRow::encode(event, event.payload.len(), targets));
        event.state = EventState::ACCEPTED;
        for (number, chunk) in chunks(&event.payload) {
            tx.set(&self.keys.chunk(id, number), chunk);
        }
        tx.set_owned(self.keys.queue(status, id), QueueRow::encode(event));
        self.count(status, 1);
        Ok(())
    }
}
