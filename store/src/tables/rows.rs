//! Every value of the store, with its version byte. The layout of keys is in [`super::keys`].
//!
//! - `ROW-1`: an encoded row decodes to itself.
//! - `ROW-2`: a row of another version is rejected, never guessed at.

mod delivery;
mod lease;
mod subscription;

pub use delivery::{
    ATTEMPTS_KEPT_MAX, Attempt, Claim, Delivery, OlderAttempts, Push, PushState, RecentLeases,
};
pub use lease::{LeaseId, LeaseMembers, LeaseRow, LeaseToken, lease_token};
pub use subscription::{
    Actor, AuditRow, LoggedAttempt, SubscriptionKey, SubscriptionRow, SubscriptionStatus,
};

pub use triggers_protocol::api::{AttemptOutcome, AuditAction, DisabledReason, Tier};

use bincode::{Decode, Encode};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::codec::{self, CodecError};
use triggers_protocol::event::EventState;
use triggers_protocol::{
    Event, EventId, EventType, KeyHash, Metadata, RetryPolicy, Scopes, SubscriptionId, TenantId,
    Timestamp,
};

const EVENT_VERSION: u8 = 1;

/// Payloads up to this size are stored in the event's row, larger ones in chunks.
pub const INLINE_PAYLOAD_BYTES_MAX: usize = 8 * 1024;
/// Size of a chunk, in bytes.
pub const CHUNK_BYTES: usize = 8 * 1024;

/// A value with its version byte.
pub trait Row: Encode + Decode<()> {
    /// Version of the row's fields, its first byte.
    const VERSION: u8 = 1;

    /// Encodes the row for the store.
    fn to_bytes(&self) -> Vec<u8> {
        codec::encode(Self::VERSION, self)
    }

    /// Decodes a stored row.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are of another version or damaged.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(Self::VERSION, bytes)
    }
}

/// Ownership of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fence {
    /// Number that grows by one with every change of owner.
    pub epoch: u64,
    /// Incarnation of the owner: node name and boot id.
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
    /// Newest version of the peer protocol that the node speaks.
    pub protocol: u8,
    /// Version of the program.
    pub version: String,
}
impl Row for NodeRow {}

/// Nonces of the requests that last revoked keys of a tenant, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Revocations(pub Vec<[u8; 16]>);
impl Row for Revocations {}

/// Head of a tenant's inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Head {
    /// Greatest id ever minted for the tenant.
    pub last_id: EventId,
    /// Time of the tenant's wake-up pointer, in seconds from 1970; none if it has no pointer.
    pub wake_second: Option<u64>,
    /// Number of stored subscriptions, including those that are being deleted.
    pub subscriptions: u32,
    /// Most milliseconds by which the time in an id was ahead of the event's time of acceptance.
    pub lead_ms: u64,
}
impl Row for Head {}

impl Head {
    /// Head of a tenant without a stored one.
    pub const NEW: Head =
        Head { last_id: EventId::ZERO, wake_second: None, subscriptions: 0, lead_ms: 0 };

    /// Most time by which an id is ahead of its event's time of acceptance.
    pub fn lead(&self) -> Duration {
        Duration::from_millis(self.lead_ms)
    }
}

/// The place of an event in the list of its status: what filters need.
///
/// The value is the event's type, and after a zero byte the time of acceptance, unless that is the
/// time in the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRow<'a> {
    /// Type of the event.
    pub event_type: &'a str,
    /// Time of acceptance.
    pub received_at: Timestamp,
}

impl<'a> QueueRow<'a> {
    /// Encodes the row of an event.
    pub fn encode(event: &Event) -> Vec<u8> {
        let mut bytes = event.event_type.as_str().as_bytes().to_vec();
        if event.received_at != event.id.created_at() {
            bytes.push(0);
            bytes.extend_from_slice(&event.received_at.as_micros().to_be_bytes());
        }
        bytes
    }

    /// Decodes a stored row; `id` is in its key.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are damaged.
    pub fn decode(id: EventId, bytes: &'a [u8]) -> Result<Self, CodecError> {
        let malformed = || CodecError::Malformed(format!("the queue row of {id} is damaged"));
        // A type has no zero byte.
        let (event_type, received_at) = match bytes.iter().position(|byte| *byte == 0) {
            None => (bytes, id.created_at()),
            Some(end) => {
                let micros = bytes[end + 1..].try_into().map_err(|_| malformed())?;
                (&bytes[..end], Timestamp::from_micros(i64::from_be_bytes(micros)))
            }
        };
        let event_type = std::str::from_utf8(event_type).map_err(|_| malformed())?;
        Ok(Self { event_type, received_at })
    }
}

/// Record of a used idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Idempotency {
    /// Digest of the first request with the key.
    pub request_digest: [u8; 32],
    /// Event that this request added.
    pub id: EventId,
    /// Time from which the key may be used anew.
    pub expires_at: Timestamp,
}
impl Row for Idempotency {}

/// Days for which tombstones are kept.
pub const TOMBSTONE_DAYS: u32 = 7;

/// Trace of a deleted event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Tombstone {
    /// Time of the deletion.
    pub deleted_at: Timestamp,
    /// Nonce of the delete command.
    pub deleted_by: u64,
}
impl Row for Tombstone {}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeyRow {
    /// Id of the key, a UUID.
    pub id: [u8; 16],
    /// Hash of the plain key, under which the row is stored.
    pub hash: KeyHash,
    /// Tenant that the key belongs to.
    pub tenant: TenantId,
    /// Name for people.
    pub name: String,
    /// Kind of the key: live or test.
    pub kind: KeyKind,
    /// First characters of the plain key, by which people recognize it.
    pub hint: String,
    /// Scopes of the key.
    pub scopes: Scopes,
    /// Requests per minute; the tenant's tier decides if absent.
    pub rate_limit_per_minute: Option<u32>,
    /// Time at which the key was created.
    pub created_at: Timestamp,
    /// Time from which the key is rejected, as its creator chose.
    pub expires_at: Option<Timestamp>,
    /// Time from which the key is rejected because a rotation replaced it.
    pub replaced_at: Option<Timestamp>,
}
impl Row for KeyRow {}

impl KeyRow {
    /// Whether the key is rejected at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.ends_at().is_some_and(|end| end <= now)
    }

    /// Time from which the key is rejected, if it has one.
    pub fn ends_at(&self) -> Option<Timestamp> {
        [self.expires_at, self.replaced_at].into_iter().flatten().min()
    }
}

/// Settings of a tenant.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct TenantRow {
    /// Id of the tenant.
    pub id: TenantId,
    /// Name for people.
    pub name: String,
    /// Tier of the tenant; without one the default rate limit holds.
    pub tier: Option<Tier>,
    /// Days for which events are kept.
    pub retention_days: u16,
    /// Maximum number of waiting (received or queued) events; none means no limit.
    pub max_inbox_events: Option<u64>,
    /// Retry policy of the tenant; none means the default policy.
    pub retry_policy: Option<RetryPolicy>,
    /// Feature flags by name.
    pub flags: BTreeMap<String, bool>,
    /// Time at which the tenant was created.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}
impl Row for TenantRow {}

/// An event without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Envelope {
    received_at: Timestamp,
    event_type: EventType,
    timestamp: Timestamp,
    metadata: Arc<Metadata>,
    state: EventState,
    payload_bytes: u32,
    targets: Vec<SubscriptionId>,
}

/// An event's row: the envelope, followed by the payload unless that is stored in chunks.
///
/// A state in the delivery's row overrides this row's, so that a change of state does not write the
/// payload again. An event with webhooks has no delivery row before the first of them begins: until
/// then [`EventRow::delivery`] says what that row would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The event; its payload is empty if that is stored in chunks.
    pub event: Event,
    /// Bytes of the complete payload.
    pub payload_bytes: usize,
    /// Subscriptions that selected the event when it was accepted. A delivery row overrides them.
    pub targets: Vec<SubscriptionId>,
}

impl EventRow {
    /// Encodes the row. A payload over [`INLINE_PAYLOAD_BYTES_MAX`] is left out: see [`chunks`].
    pub fn encode(event: &Event, payload_bytes: usize, targets: Vec<SubscriptionId>) -> Vec<u8> {
        let envelope = Envelope {
            received_at: event.received_at,
            event_type: event.event_type.clone(),
            timestamp: event.timestamp,
            metadata: event.metadata.clone(),
            state: event.state.clone(),
            payload_bytes: u32::try_from(payload_bytes)
                .expect("payloads are limited to far less than 4 GiB"),
            targets,
        };
        let inline =
            if payload_bytes <= INLINE_PAYLOAD_BYTES_MAX { &event.payload[..] } else { &[] };
        let mut bytes = Vec::with_capacity(192 + inline.len());
        codec::encode_into(&mut bytes, EVENT_VERSION, &envelope);
        bytes.extend_from_slice(inline);
        bytes
    }

    /// Decodes a stored row; `id` is in its key.
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are of another version or damaged.
    pub fn decode(id: EventId, bytes: &Bytes) -> Result<Self, CodecError> {
        let (envelope, rest): (Envelope, &[u8]) = codec::decode_prefix(EVENT_VERSION, bytes)?;
        let payload_bytes = envelope.payload_bytes as usize;
        let expected = if payload_bytes <= INLINE_PAYLOAD_BYTES_MAX { payload_bytes } else { 0 };
        let found = rest.len();
        if found != expected {
            let reason = format!("an event's row has {found} payload bytes instead of {expected}");
            return Err(CodecError::Malformed(reason));
        }
        let Envelope { received_at, event_type, timestamp, metadata, state, targets, .. } =
            envelope;
        let payload = bytes.slice_ref(rest);
        let event = Event { id, received_at, event_type, timestamp, payload, metadata, state };
        Ok(Self { event, payload_bytes, targets })
    }

    /// The delivery of an event without a delivery row: its webhooks, if it has any, wait for their
    /// first attempt.
    pub fn delivery(&self) -> Delivery {
        let due = self.event.state.next_retry_at.unwrap_or(self.event.received_at);
        let pushes = self.targets.iter().map(|target| Push::new(*target, due)).collect();
        Delivery { pushes, ..Delivery::NEW }
    }

    /// Replaces the state by that of the delivery's row, if it has one.
    pub fn with(mut self, delivery: &Delivery) -> Self {
        if let Some(state) = &delivery.state {
            self.event.state = state.clone();
        }
        self
    }

    /// Whether the payload is stored in chunks.
    pub fn is_chunked(&self) -> bool {
        self.payload_bytes > INLINE_PAYLOAD_BYTES_MAX
    }
}

/// Numbered chunks of a payload; none if it is stored in the event's row.
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
            received_at: Timestamp::from_millis(2_000),
            event_type: EventType::parse("order.created").unwrap(),
            timestamp: Timestamp::from_millis(1_000),
            payload: payload.into(),
            metadata: Arc::new(Metadata { source_ip: "::1".into(), ..Metadata::default() }),
            state: EventState::ACCEPTED,
        }
    }

    proptest! {
        #[test]
        fn event_rows_round_trip(payload in prop::collection::vec(any::<u8>(), 0..20_000)) {
            let event = event(payload.clone());
            let bytes = Bytes::from(EventRow::encode(&event, payload.len(), Vec::new()));
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
        fn webhooks_wait_without_a_delivery_row(targets: Vec<[u8; 16]>, micros: u32) {
            let targets: Vec<_> = targets.into_iter().map(SubscriptionId::from_bytes).collect();
            let due = Timestamp::from_micros(micros.into());
            let mut event = event(b"{}".to_vec());
            event.state.next_retry_at = Some(due);
            let bytes = Bytes::from(EventRow::encode(&event, 2, targets.clone()));
            let delivery = EventRow::decode(event.id, &bytes).unwrap().delivery();
            prop_assert!(delivery.pushes.iter().all(|push| push.state.due() == Some(due)));
            let found: Vec<_> = delivery.pushes.iter().map(|push| push.subscription).collect();
            prop_assert_eq!(found, targets);
            prop_assert_eq!(Delivery { pushes: Vec::new(), ..delivery }, Delivery::NEW);
        }

        #[test]
        fn queue_rows_round_trip(id: [u8; 16], received_at in prop::option::of(any::<i64>())) {
            let id = EventId::from_bytes(id);
            let received_at = received_at.map_or(id.created_at(), Timestamp::from_micros);
            let event = Event { id, received_at, ..event(Vec::new()) };
            let row = QueueRow { event_type: "order.created", received_at };
            let bytes = QueueRow::encode(&event);
            prop_assert_eq!(QueueRow::decode(id, &bytes).unwrap(), row);
            prop_assert!(QueueRow::decode(id, b"a\0cut").is_err());
        }

        #[test]
        fn cut_rows_are_rejected(
            cut in 0usize..60, payload in prop::collection::vec(any::<u8>(), 1..100),
        ) {
            let event = event(payload.clone());
            let bytes = EventRow::encode(&event, payload.len(), Vec::new());
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(EventRow::decode(event.id, &Bytes::from(bytes[..cut].to_vec())).is_err());
        }
    }
}
