//! A request to an inbox: an operation, the caller that waits for its reply, and what the planner
//! of batches knows of it.
//!
//! Here, and only here, an operation loses its type: [`Pending`] keeps the operation, its outcome
//! and the caller's channel together, so a reply of another operation cannot reach the caller.
//! Invariant: `HANDLE-1` a request holds its permits until it is answered or dropped, so an inbox
//! behind a gate that closes while no permit is out is idle.

use crate::admission::Permit;
use crate::error::BrokerError;
use crate::gate::GatePass;
use std::fmt::{Debug, Formatter};
use std::sync::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use triggers_protocol::SubscriptionId;
use triggers_protocol::lock::lock;
use triggers_store::kv::{BoxFuture, Prefetch, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Batch, OperationLimits};
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{
    ClaimAttempts, ExpireLeases, Footprint, GiveUpWebhooks, Operation, Stamp,
};

/// An operation whose type is not known, with its outcome and its caller.
pub(crate) trait PendingOperation: Debug + Send + Sync {
    /// Whether the caller still waits and its deadline has not passed. The inbox waits for its own
    /// operations.
    fn is_waiting(&self) -> bool;
    /// Whether the operation was applied.
    fn has_outcome(&self) -> bool;
    /// Adds reads of the operation; see [`Operation::prefetch`].
    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        limits: &OperationLimits,
        stamp: &Stamp,
    );
    /// Carries out the operation and keeps its outcome, which replaces that of an earlier run.
    fn apply<'a>(
        &'a self,
        batch: &'a mut Batch<'_>,
        tx: &'a mut dyn Transaction,
        stamp: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), TableError>>;
    /// Sends the outcome to the caller. The batch must be durable.
    fn answer(self: Box<Self>);
    /// Tells the caller that the operation failed.
    fn reject(self: Box<Self>, error: BrokerError);
}

/// An operation with its outcome and its caller.
struct Pending<O: Operation> {
    operation: O,
    outcome: Mutex<Option<O::Reply>>,
    caller: Option<Caller<O::Reply>>,
}

/// The way back to the caller. Dropping it unanswered tells the caller that the outcome is unknown.
struct Caller<T> {
    channel: oneshot::Sender<Result<T, BrokerError>>,
    deadline: Instant,
    _permits: Option<RequestPermits>,
}

/// What a request from outside holds while it is in flight.
pub(crate) struct RequestPermits {
    /// Permits of the tenant and of the node.
    pub(crate) _admitted: [Permit; 2],
    /// Pass of the partition's gate.
    pub(crate) _pass: GatePass,
}

impl<O: Operation> Debug for Pending<O> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.operation.fmt(f)
    }
}

impl<O: Operation> PendingOperation for Pending<O> {
    fn is_waiting(&self) -> bool {
        self.caller
            .as_ref()
            .is_none_or(|caller| !caller.channel.is_closed() && Instant::now() < caller.deadline)
    }

    fn has_outcome(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        limits: &OperationLimits,
        stamp: &Stamp,
    ) {
        self.operation.prefetch(reads, keys, limits, stamp);
    }

    fn apply<'a>(
        &'a self,
        batch: &'a mut Batch<'_>,
        tx: &'a mut dyn Transaction,
        stamp: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), TableError>> {
        Box::pin(async move {
            let reply = self.operation.apply(batch, tx, stamp).await?;
            *lock(&self.outcome) = Some(reply);
            Ok(())
        })
    }

    fn answer(mut self: Box<Self>) {
        let Some(caller) = self.caller.take() else { return };
        let reply = lock(&self.outcome).take().expect("INBOX-4: an answered operation was applied");
        // A caller that is gone has no use for the answer.
        let _ = caller.channel.send(Ok(reply));
    }

    fn reject(mut self: Box<Self>, error: BrokerError) {
        if let Some(caller) = self.caller.take() {
            let _ = caller.channel.send(Err(error));
        }
    }
}

/// Waits for the reply to a request. A lost or late reply is an unknown outcome.
pub(crate) async fn receive<T>(
    reply: oneshot::Receiver<Result<T, BrokerError>>,
    deadline: Instant,
) -> Result<T, BrokerError> {
    match timeout_at(deadline, reply).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) | Err(_) => Err(BrokerError::Unknown),
    }
}

/// Work that an inbox gives itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnWork {
    /// End the leases that have run out.
    Expire,
    /// Begin attempts to a subscription, as many as permits are reserved.
    Claim { subscription: SubscriptionId, limit: usize },
    /// Give up what waits for a subscription that is not active.
    GiveUp { subscription: SubscriptionId },
}

/// A request in an inbox.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) operation: Box<dyn PendingOperation>,
    pub(crate) footprint: Footprint,
    /// The inbox's own work; none if a caller asks.
    pub(crate) own: Option<OwnWork>,
    /// Positions of new events that are rejected because their idempotency key is in flight.
    pub(crate) rejected: Vec<usize>,
}

impl Request {
    /// A request whose caller waits until `deadline`, and the receiver of its reply.
    pub(crate) fn new<O: Operation>(
        operation: O,
        footprint: Footprint,
        deadline: Instant,
        permits: Option<RequestPermits>,
    ) -> (Self, oneshot::Receiver<Result<O::Reply, BrokerError>>) {
        let (channel, reply) = oneshot::channel();
        let caller = Some(Caller { channel, deadline, _permits: permits });
        (Self::with(operation, footprint, caller, None), reply)
    }

    /// A request of the inbox itself, which hears of the outcome in a notice.
    pub(crate) fn own(work: OwnWork) -> Self {
        fn request<O: Operation>(operation: O, work: OwnWork) -> Request {
            let footprint = operation.footprint();
            Request::with(operation, footprint, None, Some(work))
        }
        match work {
            OwnWork::Expire => request(ExpireLeases, work),
            OwnWork::Claim { subscription, limit } => {
                request(ClaimAttempts { subscription, limit }, work)
            }
            OwnWork::GiveUp { subscription } => request(GiveUpWebhooks { subscription }, work),
        }
    }

    fn with<O: Operation>(
        operation: O,
        footprint: Footprint,
        caller: Option<Caller<O::Reply>>,
        own: Option<OwnWork>,
    ) -> Self {
        let operation = Box::new(Pending { operation, outcome: Mutex::default(), caller });
        Self { operation, footprint, own, rejected: Vec::new() }
    }
}
