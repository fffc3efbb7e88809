//! Accepting an event: its row, its place in the inbox, its idempotency record, all in one transaction.
//!
//! Invariants: `APPEND-1` an idempotency key and its event commit together, and the read of the key is serializable, so
//! two requests with one key never make two events; `APPEND-2` a record past its time counts as absent; `APPEND-3` a
//! repeated request is answered as before even when the tenant's quota is used up by now; `APPEND-4` an event goes to every
//! subscription that is active in its transaction and selects it, and is queued for them at once; one that goes to none
//! waits to be pulled.

use super::{Batch, Outcome, TableError};
use crate::kv::Transaction;
use crate::tables::inbox::{self, Reading};
use crate::tables::keys::day;
use crate::tables::rows::{Delivery, EventRow, Idempotency, Row, chunks};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::event::EventState;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventType, Metadata, Timestamp};

/// An event to accept.
#[derive(Debug, Clone)]
pub struct Append {
    /// Minted after every id of the tenant.
    pub id: EventId,
    /// The type.
    pub event_type: EventType,
    /// The sender's time, or the time of acceptance.
    pub timestamp: Timestamp,
    /// The present time, which may be before that of the id if the clock was set back: webhooks are due then.
    pub at: Timestamp,
    /// The payload as sent.
    pub payload: Bytes,
    /// How it came in.
    pub metadata: Arc<Metadata>,
    /// The idempotency key, if there is one.
    pub idempotency: Option<IdempotencyKey>,
    /// Whether the tenant's quota is used up: then only a key that was used before is answered.
    pub over_quota: bool,
}

/// An idempotency key on its way into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The first 16 bytes of the key's SHA-256.
    pub hash: [u8; 16],
    /// Digest of the request, to tell another request from a repeated one.
    pub request_digest: [u8; 32],
    /// The present time, by which an old record counts as expired.
    pub now: Timestamp,
    /// Until when the key is kept.
    pub expires_at: Timestamp,
}

impl IdempotencyKey {
    /// The days of events whose records may still hold, for an event with this id, the latest first.
    fn days(&self, own_id: EventId) -> BTreeSet<Reverse<u32>> {
        let back = days_kept(self.expires_at.since(self.now));
        // The id's day, behind which ids never go, and that of the clock, which may have been set back since.
        let days = [own_id.created_at(), self.now].map(day);
        days.into_iter().flat_map(|last| last.saturating_sub(back)..=last).map(Reverse).collect()
    }
}

/// How many days back a record may be of use if it is kept for so long.
pub(super) fn days_kept(retention: Duration) -> u32 {
    u32::try_from(retention.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX)
}

impl Append {
    /// The event as it is accepted.
    pub fn to_event(&self) -> Event {
        Event {
            id: self.id,
            event_type: self.event_type.clone(),
            timestamp: self.timestamp,
            payload: self.payload.clone(),
            metadata: self.metadata.clone(),
            state: EventState::ACCEPTED,
        }
    }
}

impl Batch<'_> {
    pub(super) async fn append(
        &mut self,
        tx: &mut dyn Transaction,
        append: &Append,
    ) -> Result<Outcome, TableError> {
        if let Some(key) = &append.idempotency {
            if let Some(outcome) = self.known(tx, key, append.id).await? {
                self.delta
                    .add(EventStatus::Received, i64::from(is_planted(Bug::CounterAddedOnReplay)));
                return Ok(outcome);
            }
        } else if self.repeated {
            return Ok(Outcome::Appended(append.id));
        }
        if append.over_quota {
            return Ok(Outcome::QuotaExceeded);
        }
        self.put_event(tx, append).await?;
        if let Some(IdempotencyKey { hash, request_digest, expires_at, .. }) = append.idempotency {
            let record = Idempotency { request_digest, id: append.id, expires_at };
            tx.set(&self.keys.idempotency(day(append.id.created_at()), hash), &record.to_bytes());
        }
        self.appended = true;
        Ok(Outcome::Appended(append.id))
    }

    /// The outcome for a key that was used before.
    async fn known(
        &self,
        tx: &mut dyn Transaction,
        key: &IdempotencyKey,
        own_id: EventId,
    ) -> Result<Option<Outcome>, TableError> {
        let mut record = None;
        for Reverse(day) in key.days(own_id) {
            if let Some(stored) = tx.get(&self.keys.idempotency(day, key.hash)).await? {
                record = Some(Idempotency::from_bytes(&stored)?);
                break;
            }
        }
        let Some(record) = record else { return Ok(None) };
        if record.id == own_id {
            return Ok(Some(Outcome::Appended(own_id)));
        }
        if record.expires_at <= key.now {
            return Ok(None);
        }
        let age = key.expires_at.since(record.expires_at);
        if is_planted(Bug::IdempotencyNotFound) && age > Duration::from_secs(2) {
            return Ok(None);
        }
        if record.request_digest != key.request_digest && !is_planted(Bug::ReusedKeyReplayed) {
            return Ok(Some(Outcome::KeyReused));
        }
        let event = match inbox::read_own_row(tx, self.keys, record.id, Reading::Checked).await? {
            Some(row) => {
                let event = inbox::whole(tx, self.keys, row).await?;
                Some(Box::new(Event { state: EventState::ACCEPTED, ..event }))
            }
            None => None,
        };
        Ok(Some(Outcome::Replayed { id: record.id, event }))
    }

    async fn put_event(
        &mut self,
        tx: &mut dyn Transaction,
        append: &Append,
    ) -> Result<(), TableError> {
        let mut event = append.to_event();
        let targets = self.targets(tx, event.event_type.as_str()).await?;
        if !targets.is_empty() {
            let due = append.id.created_at().min(append.at);
            let pushes = self.begin_pushes(tx, append.id, targets, due);
            tx.set(
                &self.keys.delivery(append.id),
                &Delivery { pushes, ..Delivery::NEW }.to_bytes(),
            );
            (event.state.status, event.state.next_retry_at) = (EventStatus::Queued, Some(due));
        }
        let status = event.state.status;
        tx.set_owned(self.keys.event(append.id), EventRow::encode(&event, append.payload.len()));
        for (number, chunk) in chunks(&append.payload) {
            tx.set(&self.keys.chunk(append.id, number), chunk);
        }
        tx.set_owned(self.keys.queue(status, append.id), append.event_type.as_str().into());
        self.delta.add(status, 1);
        Ok(())
    }
}
