//! The handle to a partition, and the routing table through which the router finds it.

use super::InboxTable;
use crate::error::BrokerError;
use crate::gate::Gate;
use crate::inbox::handle::InboxHandle;
use ractor::ActorRef;
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::oneshot;
use triggers_protocol::{PartitionId, TenantId};
use triggers_store::tables::fence::Guard;

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
    pub(crate) guard: Arc<Guard>,
    pub(crate) inboxes: Arc<InboxTable>,
    pub(crate) gate: Arc<Gate>,
    /// True while the partition waits to be transferred: no webhook may begin.
    pub(crate) is_quiescing: Arc<AtomicBool>,
}

impl PartitionHandle {
    pub(crate) fn id(&self) -> PartitionId {
        self.guard.partition
    }
}

/// The partitions that this node serves.
#[derive(Default)]
pub(crate) struct RoutingTable(pub(crate) BTreeMap<PartitionId, Arc<PartitionHandle>>);

impl RoutingTable {
    /// The epochs of the served partitions.
    pub(crate) fn epochs(&self) -> BTreeMap<PartitionId, u64> {
        self.0.iter().map(|(partition, handle)| (*partition, handle.guard.fence.epoch)).collect()
    }
}
