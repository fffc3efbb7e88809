//! The router: from a tenant to the one who serves it. The edge knows nothing else of the actors.
//!
//! Invariants: `ROUTER-1` every call ends by its deadline; `ROUTER-2` a write is handed to an inbox only with permits of its
//! tenant and of the node; `ROUTER-3` a reply that is lost is reported as an unknown outcome, never as a failure;
//! `ROUTER-4` reads check the fence in their own snapshot, so a deposed owner never answers with old data.

mod append;
mod subscriptions;

pub use subscriptions::{Ping, Subscribed};

use crate::admission::{Admission, Permit, Refused};
use crate::delivery::Delivery;
use crate::gate::GatePass;
use crate::inbox::handle::{InboxHandle, Reply};
use crate::inbox::machine::Request;
use crate::inbox::request::{
    Answer, BrokerError, Change, LeaseRequest, RefuseRequest, Write, WriteResult,
};
use crate::options::BrokerOptions;
use crate::partition::{InboxTable, PartitionHandle, PartitionMessage, RoutingTable};
use arc_swap::ArcSwap;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use triggers_protocol::{EventId, PartitionId, TenantId, Timestamp};
use triggers_store::kv::{BoxFuture, Run, Store, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Counts, Leased};
use triggers_store::tables::fence::Guard;
use triggers_store::tables::inbox::{self, EventPage, Found, PageQuery};
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::rows::{Attempt, EventRow, LeaseToken};

/// How often a request asks for an inbox that closes under its hands.
const OPEN_ATTEMPTS_MAX: usize = 3;

/// The way to the inboxes of a node. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<Inner>);

struct Inner {
    store: Store,
    options: Arc<BrokerOptions>,
    partitions: u16,
    routing: Arc<ArcSwap<RoutingTable>>,
    /// Bytes in flight on this node.
    node: Arc<Admission>,
    reads: Semaphore,
    delivery: Arc<Delivery>,
    /// Tenants with a ping on its way.
    pinging: Arc<Mutex<HashSet<TenantId>>>,
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It was removed now.
    Deleted,
    /// It had been removed before.
    Gone,
    /// It never was.
    NotFound,
}

/// A tenant in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Events by status.
    pub counts: Counts,
    /// When the oldest event that is not delivered was accepted.
    pub oldest_waiting: Option<Timestamp>,
    /// Events accepted a second, over the last minute.
    pub ingested_per_second: f64,
    /// Events acknowledged a second, over the last minute.
    pub delivered_per_second: f64,
}

/// Where a tenant's data is.
struct Place {
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
        delivery: Arc<Delivery>,
    ) -> Self {
        let node = Admission::new(usize::MAX, options.node_bytes_max);
        let reads = Semaphore::new(options.reads_in_flight_max);
        Self(Arc::new(Inner {
            store,
            options,
            partitions,
            routing,
            node,
            reads,
            delivery,
            pinging: Arc::default(),
        }))
    }

    /// Marks events as delivered. One result for each; payloads that are stored in chunks are left out of them.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn acknowledge(
        &self,
        tenant: &TenantId,
        ids: Vec<EventId>,
        deadline: Instant,
    ) -> Result<Vec<Found>, BrokerError> {
        let (partition, entered) = self.enter(tenant, deadline).await?;
        let mut results = Vec::with_capacity(ids.len());
        for some in ids.chunks(self.0.options.batch_events_max) {
            let writes = some.iter().map(|id| Write::Acknowledge(*id, None)).collect();
            let sent =
                self.submit_to(&partition, entered.again(), tenant, writes, None, deadline).await?;
            let answer = receive(sent, deadline).await?;
            results.extend(answer.into_iter().map(|result| match result {
                WriteResult::Acknowledged(row) => Found::Event(Box::new(row.event)),
                WriteResult::Gone => Found::Gone,
                _ => Found::NotFound,
            }));
        }
        Ok(results)
    }

    /// Marks one event as delivered, with the token of its lease if the consumer has one.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn acknowledge_leased(
        &self,
        tenant: &TenantId,
        id: EventId,
        token: Option<LeaseToken>,
        deadline: Instant,
    ) -> Result<Change, BrokerError> {
        self.change(tenant, Write::Acknowledge(id, token), deadline).await
    }

    /// Hands events to a consumer; none if there are none for it now.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn lease(
        &self,
        tenant: &TenantId,
        request: LeaseRequest,
        deadline: Instant,
    ) -> Result<Vec<Leased>, BrokerError> {
        let answer = self.submit(tenant, vec![Write::Lease(request)], None, deadline).await?;
        Ok(match receive(answer, deadline).await?.pop() {
            Some(WriteResult::Leased(leased)) => leased,
            _ => Vec::new(),
        })
    }

    /// Holds an event for another `visibility` from now on.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn extend(
        &self,
        tenant: &TenantId,
        id: EventId,
        token: LeaseToken,
        visibility: Duration,
        deadline: Instant,
    ) -> Result<Change, BrokerError> {
        self.change(tenant, Write::Extend(id, token, visibility), deadline).await
    }

    /// Takes an event back from its consumer as a failed attempt.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn refuse(
        &self,
        tenant: &TenantId,
        request: RefuseRequest,
        deadline: Instant,
    ) -> Result<Change, BrokerError> {
        self.change(tenant, Write::Refuse(request), deadline).await
    }

    /// Makes an event wait for delivery again.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn replay(
        &self,
        tenant: &TenantId,
        id: EventId,
        deadline: Instant,
    ) -> Result<Change, BrokerError> {
        self.change(tenant, Write::Replay(id), deadline).await
    }

    /// Waits until there may be more for consumers in the tenant's inbox, or `until`. It may return without either.
    pub async fn changed(&self, tenant: &TenantId, until: Instant) {
        let Ok(partition) = self.partition(tenant) else { return };
        let Some(inbox) = partition.inboxes.get(tenant) else {
            return tokio::time::sleep_until(until).await;
        };
        inbox.touch(self.0.store.environment().monotonic());
        // Whoever waits asks again afterwards, so that it does not matter which of the two it was.
        let _ = timeout_at(until, inbox.signals.committed.notified()).await;
    }

    async fn change(
        &self,
        tenant: &TenantId,
        write: Write,
        deadline: Instant,
    ) -> Result<Change, BrokerError> {
        let (partition, entered) = self.enter(tenant, deadline).await?;
        let answer = self
            .submit_to(&partition, entered.again(), tenant, vec![write], None, deadline)
            .await?;
        Ok(match receive(answer, deadline).await?.pop() {
            Some(WriteResult::Acknowledged(row) | WriteResult::Changed(row)) => {
                return self.whole(&partition, tenant, *row, deadline).await;
            }
            Some(WriteResult::Conflict) => Change::Conflict,
            Some(WriteResult::Gone) => Change::Gone,
            _ => Change::NotFound,
        })
    }

    /// Adds the payload of a changed event if that is stored apart. Commits do not read it, so that many of them at the
    /// same time take no memory for it. The change is made: a loss of the partition meanwhile is no reason to repeat it.
    async fn whole(
        &self,
        partition: &PartitionHandle,
        tenant: &TenantId,
        row: EventRow,
        deadline: Instant,
    ) -> Result<Change, BrokerError> {
        let mut event = row.event.clone();
        if row.is_chunked() {
            let keys = &TenantKeys::new(partition.id(), tenant);
            let (id, now) = (event.id, self.0.store.environment().now());
            let found = self
                .read(deadline, |tx| Box::pin(inbox::find(tx, &partition.guard, keys, id, now)))
                .await;
            match found.map_err(|error| {
                if error == BrokerError::NotOwner { BrokerError::Unknown } else { error }
            })? {
                Found::Event(stored) => event.payload = stored.payload,
                Found::Gone => return Ok(Change::Gone),
                Found::NotFound => return Ok(Change::NotFound),
            }
        }
        Ok(Change::Event(Box::new(event)))
    }

    /// Removes an event.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn delete(
        &self,
        tenant: &TenantId,
        id: EventId,
        deadline: Instant,
    ) -> Result<Deletion, BrokerError> {
        let answer =
            receive(self.submit(tenant, vec![Write::Delete(id)], None, deadline).await?, deadline)
                .await?;
        Ok(match answer.first() {
            Some(WriteResult::Deleted) => Deletion::Deleted,
            Some(WriteResult::Gone) => Deletion::Gone,
            _ => Deletion::NotFound,
        })
    }

    /// One page of a tenant's inbox.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        query: PageQuery,
        deadline: Instant,
    ) -> Result<EventPage, BrokerError> {
        let Place { guard, keys, .. } = &self.place(tenant, deadline).await?;
        self.read(deadline, |tx| Box::pin(inbox::list(tx, guard, keys, &query))).await
    }

    /// One event.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn find(
        &self,
        tenant: &TenantId,
        id: EventId,
        deadline: Instant,
    ) -> Result<Found, BrokerError> {
        let Place { guard, keys, .. } = &self.place(tenant, deadline).await?;
        let now = self.0.store.environment().now();
        self.read(deadline, |tx| Box::pin(inbox::find(tx, guard, keys, id, now))).await
    }

    /// One event with its attempts.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn find_with_attempts(
        &self,
        tenant: &TenantId,
        id: EventId,
        deadline: Instant,
    ) -> Result<(Found, Vec<Attempt>), BrokerError> {
        let Place { guard, keys, .. } = &self.place(tenant, deadline).await?;
        let now = self.0.store.environment().now();
        self.read(deadline, |tx| Box::pin(inbox::find_with_attempts(tx, guard, keys, id, now)))
            .await
    }

    /// A tenant in numbers.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn statistics(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<Statistics, BrokerError> {
        let Place { guard, keys, table, .. } = &self.place(tenant, deadline).await?;
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

    /// The partition of a tenant, and the right to be behind its gate.
    async fn enter(
        &self,
        tenant: &TenantId,
        deadline: Instant,
    ) -> Result<(Arc<PartitionHandle>, GatePass), BrokerError> {
        let partition = self.partition(tenant)?;
        let entered = partition.gate.enter(deadline).await.ok_or(BrokerError::NotOwner)?;
        Ok((partition, entered))
    }

    /// What a read of a tenant's data needs.
    async fn place(&self, tenant: &TenantId, deadline: Instant) -> Result<Place, BrokerError> {
        let (partition, entered) = self.enter(tenant, deadline).await?;
        let keys = TenantKeys::new(partition.id(), tenant);
        Ok(Place {
            guard: partition.guard.clone(),
            keys,
            table: partition.inboxes.clone(),
            _entered: entered,
        })
    }

    /// Runs a read when there is a place for it.
    async fn read<'env, T: Send>(
        &self,
        deadline: Instant,
        read: impl for<'a> Fn(&'a mut (dyn Transaction + 'env)) -> BoxFuture<'a, Result<T, TableError>>
        + Send
        + Sync,
    ) -> Result<T, BrokerError> {
        let slot = timeout_at(deadline, self.0.reads.acquire()).await;
        let _slot =
            slot.map_err(|_| BrokerError::NodeBusy)?.expect("the semaphore is never closed");
        Ok(self.0.store.run(Run::idempotent(deadline), read).await?)
    }

    /// Puts a request into the tenant's inbox, opening it if need be.
    async fn submit(
        &self,
        tenant: &TenantId,
        writes: Vec<Write>,
        waiting_events_max: Option<u64>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Answer>, BrokerError> {
        let (partition, entered) = self.enter(tenant, deadline).await?;
        self.submit_to(&partition, entered, tenant, writes, waiting_events_max, deadline).await
    }

    async fn submit_to(
        &self,
        partition: &PartitionHandle,
        entered: GatePass,
        tenant: &TenantId,
        writes: Vec<Write>,
        waiting_events_max: Option<u64>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Answer>, BrokerError> {
        let bytes = writes.iter().map(|write| match write {
            Write::Append(event) => event.payload.len(),
            _ => 0,
        });
        let bytes = bytes.sum();
        let node = self.0.node.enter(bytes).map_err(|_| BrokerError::NodeBusy)?;
        let (inbox, permit) = enter(partition, tenant, bytes, deadline).await?;
        inbox.touch(self.0.store.environment().monotonic());
        let (requester, answer) = Reply::new(deadline, [permit, node], entered);
        inbox.send(Request { writes, bytes, waiting_events_max, requester: Some(requester) });
        Ok(answer)
    }
}

/// Asks one thing of a tenant's inbox on behalf of its partition. It does not count as a use of the inbox.
pub(crate) async fn ask(
    partition: &PartitionHandle,
    tenant: &TenantId,
    write: Write,
    deadline: Instant,
) -> Answer {
    let (inbox, _permit) = enter(partition, tenant, 0, deadline).await?;
    let (requester, answer) = Reply::internal(deadline);
    inbox.send(Request { requester: Some(requester), ..Request::own(write) });
    receive(answer, deadline).await
}

/// The tenant's inbox, opened if need be, and a place in it.
async fn enter(
    partition: &PartitionHandle,
    tenant: &TenantId,
    bytes: usize,
    deadline: Instant,
) -> Result<(Arc<InboxHandle>, Permit), BrokerError> {
    for _ in 0..OPEN_ATTEMPTS_MAX {
        let inbox = match partition.inboxes.get(tenant) {
            Some(inbox) => inbox,
            None => open(partition, tenant, deadline).await?,
        };
        match inbox.admission.enter(bytes) {
            Ok(permit) => return Ok((inbox, permit)),
            Err(Refused::Busy) => return Err(BrokerError::TenantBusy),
            Err(Refused::Closed) => {}
        }
    }
    Err(BrokerError::NodeBusy)
}

async fn open(
    partition: &PartitionHandle,
    tenant: &TenantId,
    deadline: Instant,
) -> Result<Arc<InboxHandle>, BrokerError> {
    let (reply, opened) = oneshot::channel();
    let message = PartitionMessage::Open(tenant.clone(), reply);
    partition.actor.cast(message).map_err(|_| BrokerError::NodeBusy)?;
    match timeout_at(deadline, opened).await {
        Ok(Ok(opened)) => opened,
        // The partition ended, or is too slow: nothing was sent yet.
        Ok(Err(_)) => Err(BrokerError::NodeBusy),
        Err(_) => Err(BrokerError::DeadlinePassed),
    }
}

async fn receive(answer: oneshot::Receiver<Answer>, deadline: Instant) -> Answer {
    match timeout_at(deadline, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(BrokerError::Unknown),
    }
}
