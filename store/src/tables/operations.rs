//! The operations on a tenant's data: each file has one command, its typed reply, and the transaction that carries it out.
//!
//! The same value travels from the API to the transaction: the API builds the operation, the inbox
//! plans it by its [`Footprint`] and stamps it, and [`Operation::apply`] runs it in a [`Batch`].
//!
//! Invariants: `OP-1` an operation that is applied again with the same [`Stamp`], after a commit of
//! unknown outcome, changes nothing more and gives the same reply, except that a sweep and an end of
//! leases go on with the next part; `OP-2` two commands are told
//! apart by their nonces and ids, never by their times; `OP-3` everything random or timed is in the
//! operation or its stamp before the transaction begins.

mod acknowledge;
mod append;
mod change_subscription;
mod claim_attempts;
mod complete_attempt;
mod create_subscription;
mod delete_event;
mod delete_subscription;
mod expire_leases;
mod extend_lease;
mod give_up_webhooks;
mod lease;
mod nack;
mod replay;
mod sweep;

pub use acknowledge::{Acknowledge, AcknowledgeAll};
pub use append::{Accepted, Append, IdempotencyKey, NewEvent, Rejection};
pub use change_subscription::{ChangeSubscription, SubscriptionChange};
pub use claim_attempts::ClaimAttempts;
pub use complete_attempt::{AttemptResult, CompleteAttempt};
pub use create_subscription::{CreateSubscription, TooManySubscriptions};
pub use delete_event::DeleteEvent;
pub use delete_subscription::DeleteSubscription;
pub use expire_leases::ExpireLeases;
pub use extend_lease::ExtendLease;
pub use give_up_webhooks::GiveUpWebhooks;
pub use lease::{Lease, Leased};
pub use nack::Nack;
pub use replay::Replay;
pub use sweep::{Sweep, Swept, is_sweep_due};

use super::TableError;
use super::batch::Batch;
use super::inbox::Missing;
use super::rows::EventRow;
use crate::kv::Transaction;
use std::fmt::Debug;
use triggers_protocol::{EventId, Timestamp};

/// A command on a tenant's data and the transaction that carries it out.
pub trait Operation: Debug + Send + Sync + 'static {
    /// What the caller gets once the transaction is durable.
    type Reply: Send + 'static;

    /// What the planner of batches must know of the operation.
    fn footprint(&self) -> Footprint;

    /// Carries out the operation in a batch's transaction (`OP-1`).
    ///
    /// # Errors
    /// [`TableError`] fails the whole batch; whatever concerns this operation alone is in its reply.
    fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> impl Future<Output = Result<Self::Reply, TableError>> + Send;
}

/// What the inbox gives a command when it plans it: time, identity and secrets.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// Present time.
    pub at: Timestamp,
    /// Identity of the command; no other command has it. It also seeds the jitter of retries.
    pub nonce: u64,
    /// Secret from which lease tokens are derived.
    pub secret: [u8; 16],
    /// One id for each event that the operation would add, each greater than every id of the tenant.
    /// None if another request with the same idempotency key is in flight.
    pub ids: Vec<Option<EventId>>,
}

/// How an operation chooses the events that it works on, which decides what may share its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// It adds events, or works on events that no other operation touches.
    New,
    /// It names them.
    Named,
    /// It leases what is available to a consumer.
    Lease,
    /// It ends leases that have run out.
    Expire,
    /// It changes what other operations rely on, so it has a batch of its own.
    Alone,
}

/// What the planner of batches must know of an operation.
#[derive(Debug, Clone)]
pub struct Footprint {
    /// How the operation chooses its events.
    pub selection: Selection,
    /// Share of a batch that the operation takes, in events.
    pub weight: usize,
    /// Payload bytes that the operation brings in.
    pub bytes: usize,
    /// Events that the operation would add.
    pub new_events: usize,
    /// Events that the operation names.
    pub named: Vec<EventId>,
    /// Hashes of idempotency keys, each with the position of its event among the new ones.
    pub keys: Vec<(usize, [u8; 16])>,
    /// The operation may push notices to the inbox, so the next batch waits until it is durable.
    pub has_notices: bool,
}

impl Footprint {
    /// Footprint of an operation that adds no event and names none.
    pub fn new(selection: Selection, weight: usize) -> Self {
        let has_notices = selection == Selection::Alone;
        let (named, keys) = (Vec::new(), Vec::new());
        Self { selection, weight, bytes: 0, new_events: 0, named, keys, has_notices }
    }

    /// Footprint of an operation on one event.
    pub fn naming(id: EventId) -> Self {
        Self { named: vec![id], ..Self::new(Selection::Named, 1) }
    }
}

/// Why an operation left an event as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// The token is not that of a current lease, or the event's status does not allow the change.
    Conflict,
    /// There is no such event.
    Missing(Missing),
}

impl From<Missing> for Unchanged {
    fn from(missing: Missing) -> Self {
        Self::Missing(missing)
    }
}

/// Reply of an operation that changes one event: its row, without a payload that is stored in chunks.
pub type Changed = Result<Box<EventRow>, Unchanged>;
