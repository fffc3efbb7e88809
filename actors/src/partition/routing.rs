//! The handle to a partition, through which operations reach its inboxes, and the routing table
//! with the handles of all served partitions.

use super::InboxTable;
use crate::admission::{Permit, Rejected, count_rejection};
use crate::error::BrokerError;
use crate::gate::Gate;
use crate::inbox::handle::InboxHandle;
use crate::inbox::request::{Request, receive};
use ractor::ActorRef;
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use triggers_protocol::{PartitionId, TenantId};
use triggers_store::tables::fence::Guard;
use triggers_store::tables::operations::Operation;

/// Tries to admit a request to an inbox that closes at the same time.
const OPEN_ATTEMPTS_MAX: usize = 3;

/// A message to a partition.
#[derive(RactorMessage)]
pub(crate) enum PartitionMessage {
    /// Open the tenant's inbox, or return the open one.
    Open(TenantId, oneshot::Sender<Result<Arc<InboxHandle>, BrokerError>>),
    /// Close inboxes that have been idle for long.
    CloseIdle,
    /// Open closed inboxes that have something due.
    Wake,
    /// The wake-up pointers that were read; none if the read failed.
    Pointers(Option<Vec<(u64, TenantId)>>),
}

/// The handle to an owned partition.
pub(crate) struct PartitionHandle {
    pub(crate) actor: ActorRef<PartitionMessage>,
    pub(crate) served: ServedPartition,
}

/// The state of a served partition that outlives its actor.
#[derive(Clone)]
pub(crate) struct ServedPartition {
    pub(crate) guard: Arc<Guard>,
    pub(crate) inboxes: Arc<InboxTable>,
    pub(crate) gate: Arc<Gate>,
    /// True while the partition waits to be transferred: no webhook may begin.
    pub(crate) is_quiescing: Arc<AtomicBool>,
}

impl PartitionHandle {
    pub(crate) fn id(&self) -> PartitionId {
        self.served.guard.partition
    }

    /// Carries out an operation in a tenant's inbox on behalf of the partition itself. It passes
    /// the gate and does not count as a use of the inbox.
    pub(crate) async fn execute<O: Operation>(
        &self,
        tenant: &TenantId,
        operation: O,
        deadline: Instant,
    ) -> Result<O::Reply, BrokerError> {
        let (inbox, _permit) = self.admit(tenant, 0, deadline).await?;
        let footprint = operation.footprint();
        let (request, reply) = Request::new(operation, footprint, deadline, None);
        inbox.send(request);
        receive(reply, deadline).await
    }

    /// The tenant's inbox, opened if need be, with a permit for a request of `bytes`.
    pub(crate) async fn admit(
        &self,
        tenant: &TenantId,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(Arc<InboxHandle>, Permit), BrokerError> {
        for _ in 0..OPEN_ATTEMPTS_MAX {
            let inbox = match self.served.inboxes.get(tenant) {
                Some(inbox) => inbox,
                None => self.open(tenant, deadline).await?,
            };
            match inbox.admission.enter(bytes) {
                Ok(permit) => return Ok((inbox, permit)),
                Err(Rejected::Busy) => {
                    count_rejection("tenant");
                    return Err(BrokerError::TenantBusy);
                }
                Err(Rejected::Closed) => {}
            }
        }
        Err(BrokerError::NodeBusy)
    }

    async fn open(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<Arc<InboxHandle>, BrokerError> {
        let (reply, opened) = oneshot::channel();
        let message = PartitionMessage::Open(tenant.clone(), reply);
        self.actor.cast(message).map_err(|_| BrokerError::NodeBusy)?;
        match timeout_at(deadline, opened).await {
            Ok(Ok(opened)) => opened,
            // The partition has stopped; the request had no effect.
            Ok(Err(_)) => Err(BrokerError::NodeBusy),
            Err(_) => Err(BrokerError::DeadlinePassed),
        }
    }
}

/// The partitions that this node serves.
#[derive(Default)]
pub(crate) struct RoutingTable(pub(crate) BTreeMap<PartitionId, Arc<PartitionHandle>>);

impl RoutingTable {
    /// The epochs of the served partitions.
    pub(crate) fn epochs(&self) -> BTreeMap<PartitionId, u64> {
        self.0
            .iter()
            .map(|(partition, handle)| (*partition, handle.served.guard.fence.epoch))
            .collect()
    }
}
