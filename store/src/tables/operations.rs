//! The operations on a tenant's data: each file has a command, its typed reply and its transaction.
//!
//! The API builds the operation, the inbox plans it by its [`Footprint`] and stamps it, and
//! [`Operation::apply`] runs it in a [`Batch`].
//!
//! - `OP-1`: an operation repeated with the same [`Stamp`] after an unknown outcome changes nothing
//!   more and gives the same reply, except that sweeps and ends of leases continue.
//! - `OP-2`: commands are told apart by their nonces and ids, never by their times.
//! - `OP-3`: all random values and times are in the operation or its stamp before the transaction
//!   begins.

mod acknowledge;
mod append;
mod change_lease;
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
mod recover;
mod replay;
mod sweep;

pub use acknowledge::{Acknowledge, AcknowledgeAll};
pub use append::{Accepted, Append, IdempotencyKey, NewEvent, Rejection};
pub use change_lease::{ChangeLease, ChangedEvents, LeaseChange, LeaseEnded};
pub use change_subscription::{ChangeSubscription, NotChanged, SubscriptionChange};
pub use claim_attempts::ClaimAttempts;
pub use complete_attempt::{AttemptResult, CompleteAttempt};
pub use create_subscription::{CreateSubscription, TooManySubscriptions};
pub use delete_event::DeleteEvent;
pub use delete_subscription::DeleteSubscription;
pub use expire_leases::ExpireLeases;
pub use extend_lease::ExtendLease;
pub use give_up_webhooks::GiveUpWebhooks;
pub use lease::{Lease, LeaseReply, Leased};
pub use nack::Nack;
pub(super) use recover::has_missed;
pub use recover::{NotRecovered, Recover};
pub use replay::Replay;
pub use sweep::{Sweep, Swept, is_sweep_due};

use super::TableError;
pub use super::batch::LeasePosition;
use super::batch::{Batch, FilterId, OperationLimits};
use super::inbox::{self, Missing};
use super::keys::TenantKeys;
use super::lease_rows::LeaseRows;
use super::rows::EventRow;
use super::webhook_marks::WebhookMark;
use crate::kv::{Prefetch, Transaction};
use std::fmt::Debug;
use triggers_protocol::{EventId, Timestamp};

/// A command on a tenant's data and its transaction.
pub trait Operation: Debug + Send + Sync + 'static {
    /// Reply that the caller gets once the transaction is durable.
    type Reply: Send + 'static;

    /// Properties by which the inbox plans batches.
    fn footprint(&self) -> Footprint;

    /// Adds reads that [`Operation::apply`] is going to make, which a remote store answers in one
    /// round trip for the whole batch. It affects only the time that the operation takes.
    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        _limits: &OperationLimits,
        _stamp: &Stamp,
    ) {
        let named = self.footprint().named;
        for &id in named.iter().take(inbox::ROWS_PER_FETCH) {
            inbox::add_row(reads, keys, id);
        }
        if !named.is_empty() {
            // If the first lease is one of theirs, the next one becomes the first.
            reads.first(keys.lease_ends(), 1 + named.len());
            LeaseRows::prefetch(reads, keys);
        }
    }

    /// Applies the operation in a batch's transaction (`OP-1`).
    ///
    /// # Errors
    /// [`TableError`] fails the whole batch; a failure of this operation alone is in its reply.
    fn apply(
        &self,
        batch: &mut Batch<'_>,
        tx: &mut dyn Transaction,
        stamp: &Stamp,
    ) -> impl Future<Output = Result<Self::Reply, TableError>> + Send;
}

/// Time, identity and secrets of a command; the inbox adds them when it plans the batch.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// Time of the plan, which the transaction takes for the present.
    pub at: Timestamp,
    /// Identity of the command, unique among commands. It also seeds the jitter of retries.
    pub nonce: u64,
    /// Secret from which lease tokens are derived.
    pub secret: [u8; 16],
    /// Ids of the events that the operation adds, greater than every id of the tenant. An id is
    /// none if another request with the same idempotency key is in flight.
    pub ids: Vec<Option<EventId>>,
    /// For a lease: a position before which no row is one that its filter selects.
    pub lease_after: Option<LeasePosition>,
    /// For work on the webhooks of a subscription: its mark when the batch was planned.
    pub webhook_mark: Option<WebhookMark>,
}

/// How an operation chooses its events, and so which operations may share its batch (`BATCH-5`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// It adds events, or works on events that no other operation touches.
    New,
    /// It names its events.
    Named,
    /// It leases available events, or changes those of a lease, and finds what its first run did by
    /// its nonce or the lease's token; so it shares a batch only with `New` and `Lease`.
    Lease,
    /// It ends leases that have run out, so it shares a batch only with `New` and `Expire`.
    Expire,
    /// It changes rows that other operations rely on, so it has a batch of its own.
    Alone,
}

/// Properties of an operation by which the inbox plans batches.
#[derive(Debug, Clone)]
pub struct Footprint {
    /// How the operation chooses its events.
    pub selection: Selection,
    /// Share of a batch that the operation takes, in events.
    pub weight: usize,
    /// Payload bytes of the operation.
    pub bytes: usize,
    /// Number of events that the operation adds.
    pub new_events: usize,
    /// Events that the operation names.
    pub named: Vec<EventId>,
    /// Hashes of idempotency keys, each with the position of its event among the new ones.
    pub keys: Vec<(usize, [u8; 16])>,
    /// Filter by which a lease chooses its events; none for other operations.
    pub filter: Option<FilterId>,
    /// The operation may push notices to the inbox, so the next batch waits until it is durable.
    pub has_notices: bool,
}

impl Footprint {
    /// Footprint of an operation that adds no event and names none.
    pub fn new(selection: Selection, weight: usize) -> Self {
        let has_notices = selection == Selection::Alone;
        let (named, keys) = (Vec::new(), Vec::new());
        Self { selection, weight, bytes: 0, new_events: 0, named, keys, filter: None, has_notices }
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

/// Reply of an operation on one event: its row, without a payload that is stored in chunks.
pub type Changed = Result<Box<EventRow>, Unchanged>;
