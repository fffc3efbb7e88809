//! A node: starts the supervisor tree and ends when the tree does.
//!
//! A node is a restartable value without statics: a simulation starts many in one process. A node
//! that runs alone owns every partition, through the same fences as in a cluster; a node that joins
//! a cluster owns what its membership decides. Invariants: `NODE-1` no request is served before the
//! fences are taken over; `NODE-2` stopping loses nothing that was answered: what is in flight
//! commits, or its caller gets an unknown outcome.

use crate::clock;
use crate::cluster::directory::Directory;
use crate::cluster::{LinkState, PeerTransport};
use crate::delivery::permits::DeliveryPermits;
use crate::delivery::workers::DeliveryWorkers;
use crate::delivery::{Delivery, WebhookSender};
use crate::membership::{
    ClusterSnapshot, Membership, MembershipArguments, MembershipMessage, NodeCondition,
    NodeSnapshot,
};
use crate::node_faults::NodeFaults;
use crate::options::{BrokerOptions, ClusterOptions, DeliveryOptions};
use crate::partition::{PartitionContext, RoutingTable};
use crate::partition_supervisor::{
    PartitionSupervisor, PartitionSupervisorArguments, PartitionSupervisorMessage, TransferContext,
};
use crate::peer_service::{NodePeerService, TransferTarget};
use crate::router::Router;
use arc_swap::ArcSwap;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use triggers_protocol::PartitionId;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::settings::{self, StoreSettings};

/// Fences taken over in one transaction.
const FENCES_PER_TRANSACTION: usize = 64;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const SNAPSHOT_POLL: Duration = Duration::from_millis(20);

/// The reason why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be read or written.
    #[error("the store cannot be used: {0}")]
    Store(#[from] TableError),
    /// The store was created with another number of partitions than the configured one.
    #[error(
        "node.partitions is {configured}, but this store was created with {stored}, which cannot \
         change"
    )]
    Partitions {
        /// The configured number.
        configured: u16,
        /// The number in the store.
        stored: u16,
    },
    /// The store did not answer in time, so the cluster could not be joined.
    #[error(
        "the store did not answer in time: this node's heartbeat could not be written, or the \
         other nodes could not be read"
    )]
    Join,
    /// An actor did not start.
    #[error("the supervisor tree did not start: {0}")]
    Actors(#[from] ractor::SpawnErr),
}

/// What every node needs to start.
pub struct NodeArguments {
    /// The store that holds all data.
    pub store: Store,
    /// Sends webhooks to their endpoints.
    pub sender: Arc<dyn WebhookSender>,
    /// Limits and times of the broker.
    pub options: BrokerOptions,
    /// The node's name and a boot id that no other start has.
    pub incarnation: String,
}

/// What a node needs to join a cluster.
pub struct Joining {
    /// Name, addresses and times.
    pub options: ClusterOptions,
    /// Carries calls to the peers.
    pub transport: Arc<dyn PeerTransport>,
    /// Answers calls of the peers; the start binds it to the node.
    pub peers: NodePeerService,
}

/// A running node.
pub struct Node {
    router: Router,
    settings: StoreSettings,
    delivery: Arc<Delivery>,
    watch: NodeWatch,
    supervisor: ActorRef<NodeMessage>,
    /// The task of the supervisor; none after it has ended.
    running: Option<JoinHandle<()>>,
    /// The task that keeps the time of a node that runs alone.
    clock: Option<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(clock) = &self.clock {
            clock.abort();
        }
    }
}

/// The parts of a node that exist only in a cluster.
#[derive(Clone)]
struct JoinedCluster {
    directory: Directory,
    snapshot: Arc<ArcSwap<ClusterSnapshot>>,
    membership: ActorRef<MembershipMessage>,
}

impl Node {
    /// Starts a node that runs alone. It takes over every partition, whichever node owned it.
    pub async fn start(arguments: NodeArguments, partitions: u16) -> Result<Self, StartError> {
        let settings = settings(&arguments.store, partitions).await?;
        clock::begin(&arguments.store, None, Instant::now() + START_TIMEOUT).await?;
        let guards = take_over_fences(&arguments.store, partitions, &arguments.incarnation).await?;
        let (mut node, _) = Self::start_tree(&arguments, settings, guards, None).await?;
        node.clock = Some(tokio::spawn(clock::keep(arguments.store)));
        Ok(node)
    }

    /// Starts a node that shares its store with others: it writes heartbeats, and owns the
    /// partitions that the nodes agree on. Fails with [`StartError::Join`] if the store did not
    /// answer in time.
    pub async fn join(
        arguments: NodeArguments,
        settings: StoreSettings,
        joining: Joining,
    ) -> Result<Self, StartError> {
        let Joining { options, transport, peers } = joining;
        let (heartbeat, until) = (options.heartbeat_interval, Instant::now() + START_TIMEOUT);
        clock::begin(&arguments.store, Some(heartbeat), until).await?;
        let directory = Directory::default();
        let transfers = TransferContext {
            transport: transport.clone(),
            directory: directory.clone(),
            in_flight_max: options.transfers_in_flight_max,
        };
        let partitions_count = settings.partitions;
        let (mut node, partitions) =
            Self::start_tree(&arguments, settings, Vec::new(), Some(transfers)).await?;
        let incarnation = Arc::new(ArcSwap::from_pointee(arguments.incarnation));
        peers.bind_node(TransferTarget {
            partitions: partitions.clone(),
            incarnation: incarnation.clone(),
            transport: transport.clone(),
        });
        let (joined, has_joined) = oneshot::channel();
        let snapshot = Arc::new(ArcSwap::from_pointee(ClusterSnapshot::default()));
        let membership = MembershipArguments {
            store: arguments.store,
            options,
            partitions_count,
            incarnation,
            partitions,
            routing: node.watch.routing.clone(),
            directory: directory.clone(),
            transport,
            snapshot: snapshot.clone(),
            joined: Some(joined),
        };
        let spawned =
            Membership::spawn_linked(None, Membership, membership, node.supervisor.get_cell());
        let (membership, _) = spawned.await?;
        if !matches!(timeout(START_TIMEOUT, has_joined).await, Ok(Ok(()))) {
            return Err(StartError::Join);
        }
        node.watch.cluster = Some(JoinedCluster { directory, snapshot, membership });
        Ok(node)
    }

    /// Starts the root supervisor, the delivery workers and the partition supervisor.
    async fn start_tree(
        arguments: &NodeArguments,
        settings: StoreSettings,
        guards: Vec<Guard>,
        transfers: Option<TransferContext>,
    ) -> Result<(Self, ActorRef<PartitionSupervisorMessage>), StartError> {
        let store = arguments.store.clone();
        let options = Arc::new(arguments.options.clone());
        let DeliveryOptions { in_flight_max, in_flight_bytes_max, .. } = options.delivery;
        let permits = DeliveryPermits::new(in_flight_max, in_flight_bytes_max);
        let routing = Arc::new(ArcSwap::from_pointee(RoutingTable::default()));
        let (supervisor, running) = NodeSupervisor::spawn(None, NodeSupervisor, ()).await?;
        let workers = DeliveryWorkers::start(supervisor.get_cell()).await?;
        let (sender, faults) = (arguments.sender.clone(), NodeFaults::default());
        let delivery = Arc::new(Delivery { sender, permits, workers, faults });
        let inboxes_max = options.inboxes_max.div_ceil(usize::from(settings.partitions.max(1)));
        let context = PartitionContext {
            store: store.clone(),
            options: options.clone(),
            commit_permits: Arc::new(Semaphore::new(options.commits_in_flight_max)),
            delivery: delivery.clone(),
            inboxes_max: inboxes_max.max(4),
        };
        let partitions =
            PartitionSupervisorArguments { guards, context, routing: routing.clone(), transfers };
        let root = supervisor.get_cell();
        let spawned =
            PartitionSupervisor::spawn_linked(None, PartitionSupervisor, partitions, root);
        let (partitions, _) = spawned.await?;
        let router =
            Router::new(store, options, settings.partitions, routing.clone(), delivery.clone());
        let (watch, running) = (NodeWatch { routing, cluster: None }, Some(running));
        let node = Self { router, settings, delivery, watch, supervisor, running, clock: None };
        Ok((node, partitions))
    }

    /// The router to the node's inboxes.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The settings that are fixed for the node's store.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// The known owners of partitions; none if the node runs alone.
    pub fn directory(&self) -> Option<Directory> {
        self.watch.cluster.as_ref().map(|cluster| cluster.directory.clone())
    }

    /// A watch that other tasks can use to observe the node.
    pub fn watch(&self) -> NodeWatch {
        self.watch.clone()
    }

    /// Waits until the supervisor tree has given up: after repeated failures, or because another
    /// start of the same node has joined the cluster.
    pub async fn ended(&mut self) {
        if let Some(running) = &mut self.running {
            // The supervisor's task has no result; the log has the reason.
            let _ = running.await;
            self.running = None;
        }
    }

    /// Begins no more webhooks and waits until the ones in flight have ended, or `until`. The next
    /// owner of the tenant sends the unfinished ones again.
    pub async fn drain_deliveries(&self, until: Instant) {
        if timeout_at(until, self.delivery.permits.drain()).await.is_err() {
            tracing::warn!("webhooks are still in flight; they will be sent again");
        }
    }

    /// Stops the tree. Call it once no request is in flight.
    pub async fn stop(mut self) {
        if let Some(cluster) = &self.watch.cluster {
            // The membership stops first and removes this node's row while the rest still runs.
            let _ = cluster.membership.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
        self.supervisor.stop(None);
        self.ended().await;
    }
}

/// Observes a node from other tasks; cheap to clone.
#[derive(Clone)]
pub struct NodeWatch {
    routing: Arc<ArcSwap<RoutingTable>>,
    cluster: Option<JoinedCluster>,
}

impl NodeWatch {
    /// The partitions that this node serves, with their epochs.
    pub fn served(&self) -> BTreeMap<PartitionId, u64> {
        self.routing.load().epochs()
    }

    /// The observed cluster; none if the node runs alone.
    pub fn snapshot(&self) -> Option<Arc<ClusterSnapshot>> {
        self.cluster.as_ref().map(|cluster| cluster.snapshot.load_full())
    }

    /// Waits until this node has links to all live peers, or `until`. Returns at once if the node
    /// runs alone.
    pub async fn linked(&self, until: Instant) {
        while self.snapshot().is_some_and(|it| !it.is_linked) && Instant::now() < until {
            tokio::time::sleep(SNAPSHOT_POLL).await;
        }
    }

    /// Begins to transfer all partitions to other nodes. It has no effect if the node runs alone.
    pub fn drain(&self) {
        if let Some(cluster) = &self.cluster {
            // A membership that has stopped has ended the node.
            let _ = cluster.membership.cast(MembershipMessage::Drain);
        }
    }

    /// Waits until this node serves nothing, no other node can take its partitions, or `until`.
    pub async fn drained(&self, until: Instant) {
        let can_take = |node: &NodeSnapshot| {
            node.condition == NodeCondition::Up && node.link == Some(LinkState::Up)
        };
        while let Some(snapshot) = self.snapshot() {
            if self.served().is_empty()
                || !snapshot.nodes.iter().any(can_take)
                || Instant::now() >= until
            {
                return;
            }
            tokio::time::sleep(SNAPSHOT_POLL).await;
        }
    }
}

/// Reads the settings of a store; a new store gets this number of partitions.
///
/// # Errors
/// [`StartError::Partitions`] if it was created with another number; [`StartError::Store`].
pub async fn settings(store: &Store, partitions: u16) -> Result<StoreSettings, StartError> {
    let proposed = StoreSettings { partitions, cursor_secret: store.environment().bytes() };
    let run = Run::idempotent(Instant::now() + START_TIMEOUT);
    let settings: Result<StoreSettings, TableError> =
        store.run(run, |tx| Box::pin(settings::create_or_get(tx, &proposed))).await;
    let settings = settings?;
    if settings.partitions != partitions {
        return Err(StartError::Partitions { configured: partitions, stored: settings.partitions });
    }
    Ok(settings)
}

async fn take_over_fences(
    store: &Store,
    partitions: u16,
    incarnation: &str,
) -> Result<Vec<Guard>, TableError> {
    let all: Vec<PartitionId> = (0..partitions).map(PartitionId).collect();
    let mut guards = Vec::with_capacity(all.len());
    for chunk in all.chunks(FENCES_PER_TRANSACTION) {
        let run = Run::idempotent(Instant::now() + START_TIMEOUT);
        guards.extend(store.run(run, |tx| Box::pin(fence::take(tx, chunk, incarnation))).await?);
    }
    Ok(guards)
}

/// The root of the supervisor tree.
struct NodeSupervisor;

/// The root supervisor takes no messages.
#[derive(RactorMessage)]
enum NodeMessage {}

impl Actor for NodeSupervisor {
    type Msg = NodeMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NodeMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<NodeMessage>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "the node ends");
            myself.stop(Some("a child has failed".into()));
        }
        Ok(())
    }
}
