//! What the edge asks of an inbox and what it gets, free of HTTP and of actors.
//!
//! Invariant: `REQUEST-1` after every error but [`BrokerError::Unknown`] the request has had no effect.

use crate::delivery::verdict::Health;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::{
    Event, EventId, EventType, EventTypePattern, Metadata, SubscriptionId, Timestamp,
};
use triggers_store::kv::{Fault, StoreError};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{By, Leased, PushResult, SubscriptionChange};
use triggers_store::tables::rows::{EventRow, LeaseToken, SubscriptionRow};

/// An event on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The type.
    pub event_type: EventType,
    /// The sender's time; the time of acceptance if it sent none.
    pub timestamp: Option<Timestamp>,
    /// The payload as sent, already checked.
    pub payload: Bytes,
    /// How it came in.
    pub metadata: Arc<Metadata>,
    /// The idempotency key, if it was sent with one.
    pub idempotency: Option<IdempotencyRequest>,
}

/// An idempotency key as the edge read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyRequest {
    /// The first 16 bytes of the key's SHA-256.
    pub hash: [u8; 16],
    /// Digest of what was sent, to tell another request from a repeated one.
    pub request_digest: [u8; 32],
}

/// An event that is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The event as it was accepted.
    pub event: Event,
    /// Whether it had been accepted before, under the same idempotency key.
    pub replayed: bool,
}

/// Why one event of a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The idempotency key was used with another request.
    KeyReused,
    /// A request with this idempotency key is still in flight.
    KeyInFlight,
    /// The tenant has as many events waiting as it may.
    QuotaExceeded,
    /// The rest of a large request could not be taken.
    Unavailable,
    /// The rest of a large request may have been taken.
    Unknown,
}

/// Why a request failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The tenant has as much in flight as it may.
    #[error("the tenant has as much in flight as it may")]
    TenantBusy,
    /// The node has as much in flight as it may.
    #[error("the node has as much in flight as it may")]
    NodeBusy,
    /// This node does not own the tenant's partition.
    #[error("the tenant's partition is owned elsewhere")]
    NotOwner,
    /// The deadline passed before anything was done.
    #[error("the deadline passed before anything was done")]
    DeadlinePassed,
    /// The request may have taken effect, or may still.
    #[error("the outcome is unknown")]
    Unknown,
    /// The store refused.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for BrokerError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::MaybeCommitted(_) => Self::Unknown,
            StoreError::Fatal { fault: Fault::DeadlinePassed, .. } => Self::DeadlinePassed,
            other => Self::Store(other),
        }
    }
}

impl From<TableError> for BrokerError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Store(error) => error.into(),
            TableError::NotOwner { .. } => Self::NotOwner,
            // The inbox repeats such a batch; one that still comes out had no effect.
            TableError::HeadMoved { .. } => Self::NodeBusy,
        }
    }
}

/// A consumer's wish for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Events at most.
    pub limit: usize,
    /// Any of these; empty selects everything.
    pub event_types: Vec<EventTypePattern>,
    /// How long the consumer may hold them.
    pub visibility: Duration,
}

/// What a consumer says of an event that it could not handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefuseRequest {
    /// Which event.
    pub id: EventId,
    /// The token of its lease.
    pub token: Option<LeaseToken>,
    /// Why.
    pub reason: Option<String>,
    /// When it is to come back; the retry policy decides if absent.
    pub retry_after: Option<Duration>,
}

/// What became of a change of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The event as it is now.
    Event(Box<Event>),
    /// The token is not that of a lease that holds now, or the event's status does not allow it.
    Conflict,
    /// It was deleted.
    Gone,
    /// It never was.
    NotFound,
}

/// The end of an attempt to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettleRequest {
    pub(crate) id: EventId,
    pub(crate) subscription: SubscriptionId,
    /// The attempt's token.
    pub(crate) token: u64,
    /// When it ended.
    pub(crate) at: Timestamp,
    pub(crate) result: PushResult,
    /// What it tells of the endpoint.
    pub(crate) health: Health,
    /// The endpoint.
    pub(crate) target_url: String,
}

/// One write of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Write {
    Append(Box<NewEvent>),
    Acknowledge(EventId, Option<LeaseToken>),
    Delete(EventId),
    Lease(LeaseRequest),
    Extend(EventId, LeaseToken, Duration),
    Refuse(RefuseRequest),
    Replay(EventId),
    /// Of an attempt to a subscription.
    Settle(Box<SettleRequest>),
    Subscribe(Box<SubscriptionRow>, By),
    ChangeSubscription(SubscriptionId, Box<SubscriptionChange>, By),
    Unsubscribe(SubscriptionId, By),
    /// The sweeper's.
    Sweep,
    /// The inbox's own: leases have run out.
    Expire,
    /// The inbox's own: webhooks are due.
    Claim {
        subscription: SubscriptionId,
        limit: usize,
    },
    /// The inbox's own: webhooks wait for a subscription that is not delivered to.
    GiveUp(SubscriptionId),
}

impl Write {
    /// How much of a batch it takes, in events.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Lease(lease) => lease.limit.max(1),
            Self::Claim { limit, .. } => *limit,
            _ => 1,
        }
    }

    /// The event that it names, if it names one.
    pub(crate) fn names(&self) -> Option<EventId> {
        match self {
            Self::Acknowledge(id, _)
            | Self::Delete(id)
            | Self::Extend(id, ..)
            | Self::Replay(id) => Some(*id),
            Self::Refuse(refuse) => Some(refuse.id),
            Self::Settle(settle) => Some(settle.id),
            _ => None,
        }
    }

    /// The subscription that the inbox asks the store about on its own behalf.
    pub(crate) fn asks_for(&self) -> Option<SubscriptionId> {
        match self {
            Self::Claim { subscription, .. } | Self::GiveUp(subscription) => Some(*subscription),
            _ => None,
        }
    }
}

/// What became of one write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WriteResult {
    Accepted(Box<Accepted>),
    Refused(Refusal),
    Acknowledged(Box<EventRow>),
    Leased(Vec<Leased>),
    Changed(Box<EventRow>),
    Conflict,
    Subscribed(Box<SubscriptionRow>),
    TooMany,
    Swept {
        removed: usize,
        more: bool,
    },
    /// There is nothing to tell.
    Done,
    Deleted,
    Gone,
    NotFound,
}

/// What became of a whole request.
pub(crate) type Answer = Result<Vec<WriteResult>, BrokerError>;
