//! Every value of the store, with its version byte. The layout of keys is in [`super::keys`].
//!
//! Invariants: `ROW-1` a row that was encoded decodes to itself; `ROW-2` a row of another version is refused, never
//! guessed at. A row whose fields change gets a new version number and a reader for the old one.

mod delivery;
mod subscription;

pub use delivery::{
    ATTEMPTS_KEPT_MAX, Attempt, Claim, Delivery, LeaseToken, Push, PushState, RecentLeases,
};
pub use subscription::{
    Actor, AuditRow, LoggedAttempt, SubscriptionKey, SubscriptionRow, SubscriptionStatus,
};

pub use triggers_protocol::api::{AttemptOutcome, AuditAction, DisabledReason, Tier};

use bincode::{Decode, Encode};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::codec::{self, CodecError};
use triggers_protocol::event::EventState;
use triggers_protocol::{
    Event, EventId, EventType, KeyHash, Metadata, RetryPolicy, Scopes, TenantId, Timestamp,
};

const EVENT_VERSION: u8 = 2;

/// Payloads up to this size are stored in the event's row, larger ones in chunks.
pub const INLINE_PAYLOAD_BYTES_MAX: usize = 8 * 1024;
/// The size of a chunk.
pub const CHUNK_BYTES: usize = 8 * 1024;

/// A value with its version byte.
pub trait Row: Encode + Decode<()> {
    /// Version of the row's fields, its first byte.
    const VERSION: u8 = 1;

    /// The bytes to store.
    fn to_bytes(&self) -> Vec<u8> {
        codec::encode(Self::VERSION, self)
    }

    /// From stored bytes.
    ///
    /// # Errors
    /// [`CodecError`] if they are of another version or damaged.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::VERSION, bytes)
    }
}

/// Who owns a partition.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fence {
    /// Grows by one with every change of owner.
    pub epoch: u64,
    /// The owner: node name and boot id.
    pub incarnation: String,
}
impl Row for Fence {}

/// What a node of the cluster has written about itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeRow {
    /// The node's name.
    pub name: String,
    /// Address at which clients reach it.
    pub address: String,
    /// Address at which peers reach it.
    pub peer_address: String,
    /// True if it is about to stop: it takes no partitions over and transfers its own.
    pub is_draining: bool,
    /// Number that grows by one with every heartbeat.
    pub heartbeat: u64,
    /// The newest version of the peer protocol that it speaks.
    pub protocol: u8,
    /// The version of the program.
    pub version: String,
}
impl Row for NodeRow {}

/// What a tenant's inbox starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// The greatest id ever minted for the tenant.
    pub last_id: EventId,
    /// The second of the tenant's wake-up pointer, if it has one.
    pub wake_second: Option<u64>,
    /// Subscriptions that are stored, those among them that are being deleted included.
    pub subscriptions: u32,
}
impl Row for Head {}

impl Head {
    /// The head of a tenant that has none yet.
    pub const NEW: Head = Head { last_id: EventId::ZERO, wake_second: None, subscriptions: 0 };
}

/// What an idempotency key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Idempotency {
    /// Digest of the request that it was first used with.
    pub request_digest: [u8; 32],
    /// The event that this made.
    pub id: EventId,
    /// From when on the key is free again.
    pub expires_at: Timestamp,
}
impl Row for Idempotency {}

/// Days for which it is remembered that an event was deleted.
pub const TOMBSTONE_DAYS: u32 = 7;

/// Trace of a deleted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Tombstone {
    /// Time of the deletion.
    pub deleted_at: Timestamp,
    /// Nonce of the deletion, which tells it from others.
    pub deleted_by: u64,
}
impl Row for Tombstone {
    const VERSION: u8 = 2;
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeyRow {
    /// The key's id, a UUID.
    pub id: [u8; 16],
    /// Where the key's row is.
    pub hash: KeyHash,
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// A name for people.
    pub name: String,
    /// Production or trying out.
    pub kind: KeyKind,
    /// The first characters of the plain key.
    pub hint: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Requests a minute; the tenant's tier decides if absent.
    pub rate_limit_per_minute: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused, as whoever made it wished.
    pub expires_at: Option<Timestamp>,
    /// From when on it is refused because another one has taken its place.
    pub replaced_at: Option<Timestamp>,
}
impl Row for KeyRow {}

impl KeyRow {
    /// Whether the key is refused at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.ends_at().is_some_and(|end| end <= now)
    }

    /// From when on the key is refused.
    pub fn ends_at(&self) -> Option<Timestamp> {
        [self.expires_at, self.replaced_at].into_iter().flatten().min()
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct TenantRow {
    /// The id.
    pub id: TenantId,
    /// A name for people.
    pub name: String,
    /// The tier; none means the default rate limit.
    pub tier: Option<Tier>,
    /// How long events are kept, in days.
    pub retention_days: u16,
    /// Events that may wait (received or queued) at most; none means no limit.
    pub max_inbox_events: Option<u64>,
    /// The tenant's own retry policy.
    pub retry_policy: Option<RetryPolicy>,
    /// Feature flags.
    pub flags: BTreeMap<String, bool>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}
impl Row for TenantRow {}

/// An event without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Envelope {
    event_type: EventType,
    timestamp: Timestamp,
    metadata: Arc<Metadata>,
    state: EventState,
    payload_bytes: u32,
}

/// An event's row: the envelope, and the payload behind it unless that is chunked. Its state is the event's only as long as
/// there is none in the row of its delivery, so that a payload is not written again whenever something becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The event; its payload is empty if it is chunked.
    pub event: Event,
    /// Bytes of the complete payload.
    pub payload_bytes: usize,
}

impl EventRow {
    /// The bytes to store for an event. A payload over [`INLINE_PAYLOAD_BYTES_MAX`] is left out, for [`chunks`].
    pub fn encode(event: &Event, payload_bytes: usize) -> Vec<u8> {
        let envelope = Envelope {
            event_type: event.event_type.clone(),
            timestamp: event.timestamp,
            metadata: event.metadata.clone(),
            state: event.state.clone(),
            payload_bytes: u32::try_from(payload_bytes)
                .expect("payloads are limited to far less than 4 GiB"),
        };
        let inline =
            if payload_bytes <= INLINE_PAYLOAD_BYTES_MAX { &event.payload[..] } else { &[] };
        let mut bytes = Vec::with_capacity(192 + inline.len());
        codec::encode_into(&mut bytes, EVENT_VERSION, &envelope);
        bytes.extend_from_slice(inline);
        bytes
    }

    /// From stored bytes; `id` is in the key.
    ///
    /// # Errors
    /// [`CodecError`] if they are of another version or damaged.
    pub fn decode(id: EventId, bytes: &Bytes) -> Result<Self, CodecError> {
        let (envelope, rest): (Envelope, &[u8]) = codec::decode_prefix(EVENT_VERSION, bytes)?;
        let payload_bytes = envelope.payload_bytes as usize;
        let inline_due = if payload_bytes <= INLINE_PAYLOAD_BYTES_MAX { payload_bytes } else { 0 };
        if rest.len() != inline_due {
            let reason = format!(
                "an event's row has {} bytes of payload instead of {inline_due}",
                rest.len()
            );
            return Err(CodecError::Malformed(reason));
        }
        let Envelope { event_type, timestamp, metadata, state, .. } = envelope;
        let payload = bytes.slice_ref(rest);
        let event = Event { id, event_type, timestamp, payload, metadata, state };
        Ok(Self { event, payload_bytes })
    }

    /// The event as it stands by the row of its delivery.
    pub fn with(mut self, delivery: &Delivery) -> Self {
        if let Some(state) = &delivery.state {
            self.event.state = state.clone();
        }
        self
    }

    /// Whether the payload is in chunks of its own.
    pub fn is_chunked(&self) -> bool {
        self.payload_bytes > INLINE_PAYLOAD_BYTES_MAX
    }
}

/// The chunks of a payload; none if it is stored in the event's row.
pub fn chunks(payload: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let chunked = if payload.len() > INLINE_PAYLOAD_BYTES_MAX { payload } else { &[] };
    (0..).zip(chunked.chunks(CHUNK_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(payload: Vec<u8>) -> Event {
        Event {
            id: EventId::from_bytes([7; 16]),
            event_type: EventType::parse("order.created").unwrap(),
            timestamp: Timestamp::from_millis(1_000),
            payload: payload.into(),
            metadata: Arc::new(Metadata { source_ip: "::1".into(), ..Metadata::default() }),
            state: EventState::ACCEPTED,
        }
    }

    proptest! {
        #[test]
        fn event_rows_come_back(payload in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let event = event(payload.clone());
            let bytes = Bytes::from(EventRow::encode(&event, payload.len()));
            let mut row = EventRow::decode(event.id, &bytes).unwrap();
            if row.is_chunked() {
                let parts: Vec<u8> = chunks(&payload).flat_map(|(_, part)| part.to_vec()).collect();
                row.event.payload = parts.into();
            } else {
                prop_assert_eq!(chunks(&payload).count(), 0);
            }
            prop_assert_eq!(row.event, event);
        }

        #[test]
        fn damaged_rows_are_refused(cut in 0usize..60, payload in prop::collection::vec(any::<u8>(), 1..100)) {
            let event = event(payload.clone());
            let bytes = EventRow::encode(&event, payload.len());
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(EventRow::decode(event.id, &Bytes::from(bytes[..cut].to_vec())).is_err());
        }
    }
}
