//! The router: passes the API's requests to the inboxes, and reads the tenants' data.
//!
//! Invariants: `ROUTER-1` every call ends by its deadline; `ROUTER-2` an operation reaches an inbox
//! only with permits of its tenant and of the node; `ROUTER-3` a lost reply is reported as an
//! unknown outcome, never as a failure; `ROUTER-4` reads check the fence in their own snapshot, so
//! a deposed owner never answers with old data.

mod append;
mod subscriptions;

pub use subscriptions::Ping;

use crate::admission::{Admission, count_rejection};
use crate::delivery;
use crate::error::BrokerError;
use crate::gate::GatePass;
use crate::inbox::request::{Request, RequestPermits, receive};
use crate::keyed_limit::KeyedLimit;
use crate::options::BrokerOptions;
use crate::partition::{InboxTable, PartitionHandle, RoutingTable};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use triggers_protocol::{Event, EventId, PartitionId, TenantId, Timestamp};
use triggers_store::kv::{BoxFuture, Run, Store, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::inbox::{self, Counts, EventPage, Found, Missing, PageQuery};
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{AcknowledgeAll, Changed, Operation, Unchanged};
use triggers_store::tables::rows::{Delivery, EventRow};

/// Passes requests to the inboxes of a node; cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<RouterParts>);

struct RouterParts {
    store: Store,
    options: Arc<BrokerOptions>,
    partitions: u16,
    routing: Arc<ArcSwap<RoutingTable>>,
    /// Bytes in flight on this node.
    node: Arc<Admission>,
    reads: Semaphore,
    delivery: Arc<delivery::Delivery>,
    /// Tenants with a ping in flight, one each.
    pings: KeyedLimit<TenantId>,
}

/// Numbers of a tenant's inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Events by status.
    pub counts: Counts,
    /// Time of acceptance of the oldest waiting event.
    pub oldest_waiting: Option<Timestamp>,
    /// Events accepted per second, over the last minute.
    pub ingested_per_second: f64,
    /// Events delivered per second, over the last minute.
    pub delivered_per_second: f64,
}

/// What a read of a tenant's data needs.
struct TenantData {
    guard: Arc<Guard>,
    keys: TenantKeys,
    table: Arc<InboxTable>,
    _entered: GatePass,
}

impl Router {
    pub(crate) fn new(
        store: Store,
        options: Arc<BrokerOptions>,
        partitions: u16,
        routing: Arc<ArcSwap<RoutingTable>>,
        delivery: Arc<delivery::Delivery>,
    ) -> Self {
        let node = Admission::new(usize::MAX, options.node_bytes_max);
        let reads = Semaphore::new(options.reads_in_flight_max);
        Self(Arc::new(RouterParts {
            store,
            options,
            partitions,
            routing,
            node,
            reads,
            delivery,
            pings: KeyedLimit::default(),
        }))
    }

    /// Carries out an operation in the tenant's inbox, opening it if need be, and waits until the
    /// operation is durable.
    pub async fn execute<O: Operation>(
        &self,
        tenant: &TenantId,
        operation: O,
        deadline: Instant,
    ) -> Result<O::Reply, BrokerError> {
        let (partition, pass) = self.enter(tenant, deadline).await?;
        let reply = self.submit(&partition, pass, tenant, operation, deadline).await?;
        receive(reply, deadline).await
    }

    /// Rejects events that this node could not send on, because it lacks descriptors or memory.
    ///
    /// # Errors
    /// [`BrokerError::NodeExhausted`].
    pub fn ensure_can_send(&self) -> Result<(), BrokerError> {
        match self.0.delivery.faults.is_exhausted(self.0.store.environment().monotonic()) {
            true => Err(BrokerError::NodeExhausted),
            false => Ok(()),
        }
    }

    /// Carries out an operation that changes one event, and returns the changed event.
    pub async fn change<O: Operation<Reply = Changed>>(
        &self,
        tenant: &TenantId,
        operation: O,
        deadline: Instant,
    ) -> Result<Result<Event, Unchanged>, BrokerError> {
        let (partition, pass) = self.enter(tenant, deadline).await?;
        let reply = self.submit(&partition, pass.again(), tenant, operation, deadline).await?;
        match receive(reply, deadline).await? {
            Ok(row) => self.complete(&partition, tenant, *row, deadline).await,
            Err(unchanged) => Ok(Err(unchanged)),
        }
    }

    /// Marks events as delivered, in parts that fit a commit each. One result for each event.
    pub async fn acknowledge_all(
        &self,
        tenant: &TenantId,
        ids: &[EventId],
        deadline: Instant,
    ) -> Result<Vec<Result<(), Missing>>, BrokerError> {
        let (partition, pass) = self.enter(tenant, deadline).await?;
        let mut results = Vec::with_capacity(ids.len());
        for part in ids.chunks(self.0.options.batch_events_max) {
            let operation = AcknowledgeAll { ids: part.to_vec() };
            let reply = self.submit(&partition, pass.again(), tenant, operation, deadline).await?;
            results.extend(receive(reply, deadline).await?);
        }
        Ok(results)
    }

    /// Waits until consumers may find more in the tenant's inbox, or until `until`. It may return
    /// early.
    pub async fn changed(&self, tenant: &TenantId, until: Instant) {
        let Ok(partition) = self.partition(tenant) else { return };
        let Some(inbox) = partition.served.inboxes.get(tenant) else {
            return tokio::time::sleep_until(until).await;
        };
        inbox.touch(self.0.store.environment().monotonic());
        // The caller reads again afterwards, so it does not matter which of the two it was.
        let _ = timeout_at(until, inbox.signals.committed.notified()).await;
    }

    /// Reads the payload of a changed event if it is stored in chunks. Commits do not read it, so
    /// that many of them at the same time need no memory for it.
    async fn complete(
        &self,
        partition: &PartitionHandle,
        tenant: &TenantId,
        row: EventRow,
        deadline: Instant,
    ) -> Result<Result<Event, Unchanged>, BrokerError> {
        let is_chunked = row.is_chunked();
        let mut event = row.event;
        if is_chunked {
            let keys = &TenantKeys::new(partition.id(), tenant);
            let (id, now) = (event.id, self.0.store.environment().steady());
            let found = self
                .read(deadline, |tx| {
                    Box::pin(inbox::find(tx, &partition.served.guard, keys, id, now))
                })
                .await;
            // The change is made, so a loss of the partition meanwhile is no reason to repeat it.
            let found = found.map_err(|error| match error {
                BrokerError::NotOwner => BrokerError::Unknown,
                other => other,
            })?;
            match found {
                Ok(stored) => event.payload = stored.payload,
                Err(missing) => return Ok(Err(missing.into())),
            }
        }
        Ok(Ok(event))
    }

    /// One page of a tenant's inbox.
    pub async fn list(
        &self,
        tenant: &TenantId,
        query: PageQuery,
        deadline: Instant,
    ) -> Result<EventPage, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        self.read(deadline, |tx| Box::pin(inbox::list(tx, guard, keys, &query))).await
    }

    /// Finds one event.
    pub async fn find(
        &self,
        tenant: &TenantId,
        id: EventId,
        deadline: Instant,
    ) -> Result<Found, BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        let now = self.0.store.environment().steady();
        self.read(deadline, |tx| Box::pin(inbox::find(tx, guard, keys, id, now))).await
    }

    /// Finds one event with its delivery and all its attempts.
    pub async fn find_with_delivery(
        &self,
        tenant: &TenantId,
        id: EventId,
        deadline: Instant,
    ) -> Result<(Found, Delivery), BrokerError> {
        let TenantData { guard, keys, .. } = &self.data(tenant, deadline).await?;
        let now = self.0.store.environment().steady();
        self.read(deadline, |tx| Box::pin(inbox::find_with_delivery(tx, guard, keys, id, now)))
            .await
    }

    /// Numbers of a tenant's inbox.
    pub async fn statistics(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<Statistics, BrokerError> {
        let TenantData { guard, keys, table, .. } = &self.data(tenant, deadline).await?;
        let (counts, oldest_waiting) =
            self.read(deadline, |tx| Box::pin(inbox::statistics(tx, guard, keys))).await?;
        let open = table.get(tenant);
        let now = self.0.store.environment().monotonic();
        let (ingested_per_second, delivered_per_second) =
            open.map_or((0.0, 0.0), |inbox| inbox.signals.per_second(now));
        Ok(Statistics { counts, oldest_waiting, ingested_per_second, delivered_per_second })
    }

    /// The partition of a tenant.
    pub fn partition_of(&self, tenant: &TenantId) -> PartitionId {
        PartitionId::of(tenant, self.0.partitions)
    }

    /// Whether a partition is served here.
    pub fn serves(&self, partition: PartitionId) -> bool {
        self.0.routing.load().0.contains_key(&partition)
    }

    fn partition(&self, tenant: &TenantId) -> Result<Arc<PartitionHandle>, BrokerError> {
        let partition = self.partition_of(tenant);
        self.0.routing.load().0.get(&partition).cloned().ok_or(BrokerError::NotOwner)
    }

    /// The partition of a tenant, and a pass of its gate.
    async fn enter(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<(Arc<PartitionHandle>, GatePass), BrokerError> {
        let partition = self.partition(tenant)?;
        let entered = partition.served.gate.enter(deadline).await.ok_or(BrokerError::NotOwner)?;
        Ok((partition, entered))
    }

    /// Enters the tenant's partition for a read.
    async fn data(&self, tenant: &TenantId, deadline: Instant) -> Result<TenantData, BrokerError> {
        let (partition, entered) = self.enter(tenant, deadline).await?;
        let keys = TenantKeys::new(partition.id(), tenant);
        Ok(TenantData {
            guard: partition.served.guard.clone(),
            keys,
            table: partition.served.inboxes.clone(),
            _entered: entered,
        })
    }

    /// Runs a read when one of the permits for reads is free.
    async fn read<'env, T: Send>(
        &self,
        deadline: Instant,
        read: impl for<'a> Fn(&'a mut (dyn Transaction + 'env)) -> TableRead<'a, T> + Send + Sync,
    ) -> Result<T, BrokerError> {
        let permit = timeout_at(deadline, self.0.reads.acquire()).await;
        let _permit =
            permit.map_err(|_| BrokerError::NodeBusy)?.expect("the semaphore is never closed");
        Ok(self.0.store.run(Run::idempotent(deadline), read).await?)
    }

    /// Sends a request to the tenant's inbox, opening it if need be.
    async fn submit<O: Operation>(
        &self,
        partition: &PartitionHandle,
        pass: GatePass,
        tenant: &TenantId,
        operation: O,
        deadline: Instant,
    ) -> Result<Reply<O>, BrokerError> {
        let footprint = operation.footprint();
        let bytes = footprint.bytes;
        let node = self.0.node.enter(bytes).map_err(|_| {
            count_rejection("node");
            BrokerError::NodeBusy
        })?;
        let (inbox, permit) = partition.admit(tenant, bytes, deadline).await?;
        inbox.touch(self.0.store.environment().monotonic());
        let permits = RequestPermits { _admitted: [permit, node], _pass: pass };
        let (request, reply) = Request::new(operation, footprint, deadline, Some(permits));
        inbox.send(request);
        Ok(reply)
    }
}

/// A read of the tables.
type TableRead<'a, T> = BoxFuture<'a, Result<T, TableError>>;

/// The receiver of an operation's reply.
type Reply<O> = oneshot::Receiver<Result<<O as Operation>::Reply, BrokerError>>;
