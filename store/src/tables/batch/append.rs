//! Accepting an event: its row, its place in the inbox, its idempotency record, all in one transaction.
//!
//! Invariants: `APPEND-1` an idempotency key and its event commit together, and the read of the key is serializable, so
//! two requests with one key never make two events; `APPEND-2` a record past its time counts as absent; `APPEND-3` a
//! repeated request is answered as before even when the tenant's quota is used up by now.

use super::{Batch, Outcome, TableError};
use crate::kv::Transaction;
use crate::tables::inbox::{self, Reading};
use crate::tables::rows::{EventRow, Idempotency, Row, chunks};
use bytes::Bytes;
use triggers_protocol::event::EventState;
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
    /// The payload as sent.
    pub payload: Bytes,
    /// How it came in.
    pub metadata: Metadata,
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
    pub(super) async fn append(&mut self, tx: &mut dyn Transaction, append: &Append) -> Result<Outcome, TableError> {
        if let Some(key) = &append.idempotency {
            if let Some(outcome) = self.known(tx, key, append.id).await? {
                return Ok(outcome);
            }
        } else if self.repeated {
            return Ok(Outcome::Appended(append.id));
        }
        if append.over_quota {
            return Ok(Outcome::QuotaExceeded);
        }
        self.put_event(tx, append);
        if let Some(IdempotencyKey { hash, request_digest, expires_at, .. }) = append.idempotency {
            let record = Idempotency { request_digest, id: append.id, expires_at };
            tx.set(&self.keys.idempotency(hash), &record.to_bytes());
        }
        self.appended = true;
        self.delta.add(EventStatus::Received, 1);
        Ok(Outcome::Appended(append.id))
    }

    /// The outcome for a key that was used before.
    async fn known(
        &self,
        tx: &mut dyn Transaction,
        key: &IdempotencyKey,
        own_id: EventId,
    ) -> Result<Option<Outcome>, TableError> {
        let Some(stored) = tx.get(&self.keys.idempotency(key.hash)).await? else { return Ok(None) };
        let record = Idempotency::from_bytes(&stored)?;
        if record.id == own_id {
            return Ok(Some(Outcome::Appended(own_id)));
        }
        if record.expires_at <= key.now {
            return Ok(None);
        }
        if record.request_digest != key.request_digest {
            return Ok(Some(Outcome::KeyReused));
        }
        let event = inbox::read_event(tx, self.keys, record.id, Reading::Checked).await?.map(|mut event| {
            event.state = EventState::ACCEPTED;
            Box::new(event)
        });
        Ok(Some(Outcome::Replayed { id: record.id, event }))
    }

    fn put_event(&self, tx: &mut dyn Transaction, append: &Append) {
        let row = EventRow::encode(&append.to_event(), append.payload.len());
        tx.set(&self.keys.event(append.id), &row);
        for (number, chunk) in chunks(&append.payload) {
            tx.set(&self.keys.chunk(append.id, number), chunk);
        }
        tx.set(&self.keys.queue(EventStatus::Received, append.id), append.event_type.as_str().as_bytes());
    }
}
