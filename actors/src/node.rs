//! A node: starts the supervisor tree, and ends when the tree does.
//!
//! It is a restartable value without statics: a simulation starts many of them in one process.
//! Invariant: `NODE-1` no request is served before the fences are taken; `NODE-2` stopping drops nothing that was
//! answered: what is in flight is committed or its caller sees an unknown outcome.
//! A node that stands alone owns every partition, through the same fences that a cluster uses; one that joins a cluster
//! has a membership that decides.

use crate::cluster::ClusterOptions;
use crate::cluster::directory::Directory;
use crate::cluster::machine::Condition;
use crate::cluster::membership::{Membership, MembershipArguments, MembershipMessage};
use crate::cluster::service::{NodeSide, Peers};
use crate::cluster::snapshot::{MemberSnapshot, Snapshot};
use crate::cluster::transport::{LinkState, PeerTransport};
use crate::delivery::{DeliveryPermits, WebhookSender};
use crate::inbox::Delivery;
use crate::options::BrokerOptions;
use crate::partitions::{Movers, Partitions, PartitionsArguments, RoutingTable};
use crate::router::Router;
use arc_swap::ArcSwap;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use triggers_protocol::PartitionId;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::settings::{self, StoreSettings};

/// Fences taken in one transaction.
const FENCES_PER_TRANSACTION: usize = 64;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refused.
    #[error("the store refused: {0}")]
    Store(#[from] TableError),
    /// The configuration names another number of partitions than the store was created with.
    #[error(
        "node.partitions is {configured}, but this store was created with {stored}, which never changes"
    )]
    Partitions {
        /// The configured number.
        configured: u16,
        /// The number in the store.
        stored: u16,
    },
    /// The cluster could not be joined.
    #[error(
        "the store did not answer in time: this node's beat could not be written, or the other members not be read"
    )]
    Join,
    /// An actor did not start.
    #[error("the supervisor tree did not start: {0}")]
    Actors(#[from] ractor::SpawnErr),
}

/// A running node.
pub struct Node {
    router: Router,
    settings: StoreSettings,
    delivery: Arc<Delivery>,
    routing: Arc<ArcSwap<RoutingTable>>,
    member: Option<Member>,
    supervisor: ActorRef<NodeMessage>,
    /// Until it has ended.
    running: Option<JoinHandle<()>>,
}

/// A node's part in a cluster.
struct Member {
    directory: Directory,
    snapshot: Arc<ArcSwap<Snapshot>>,
    membership: ActorRef<MembershipMessage>,
}

/// How a node joins a cluster.
pub struct Joining {
    /// Names, addresses and times.
    pub options: ClusterOptions,
    /// The way to the other members.
    pub transport: Arc<dyn PeerTransport>,
    /// What answers them; it is bound to the node by the start.
    pub peers: Peers,
}

/// The parts that both kinds of start make.
struct Parts {
    options: Arc<BrokerOptions>,
    routing: Arc<ArcSwap<RoutingTable>>,
    delivery: Arc<Delivery>,
}

impl Parts {
    fn new(sender: Arc<dyn WebhookSender>, options: BrokerOptions) -> Self {
        let slots = DeliveryPermits::new(
            options.delivery.in_flight_max,
            options.delivery.in_flight_bytes_max,
        );
        Self {
            options: Arc::new(options),
            routing: Arc::new(ArcSwap::from_pointee(RoutingTable::default())),
            delivery: Arc::new(Delivery { sender, slots }),
        }
    }

    fn arguments(&self, store: &Store, partitions: u16) -> PartitionsArguments {
        PartitionsArguments {
            guards: Vec::new(),
            store: store.clone(),
            options: self.options.clone(),
            partitions,
            routing: self.routing.clone(),
            delivery: self.delivery.clone(),
            movers: None,
        }
    }
}

impl Node {
    /// Starts a node that stands alone: it takes every partition, whoever owned it. `incarnation` is the node's name and a
    /// boot id that no other start has; `sender` is the way of its webhooks to their endpoints.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        store: Store,
        sender: Arc<dyn WebhookSender>,
        options: BrokerOptions,
        partitions: u16,
        incarnation: String,
    ) -> Result<Self, StartError> {
        let settings = settings(&store, partitions).await?;
        let guards = take_fences(&store, partitions, &incarnation).await?;
        let parts = Parts::new(sender, options);
        let partitions_arguments =
            PartitionsArguments { guards, ..parts.arguments(&store, partitions) };
        let (supervisor, running) = NodeSupervisor::spawn(None, NodeSupervisor, ()).await?;
        Partitions::spawn_linked(None, Partitions, partitions_arguments, supervisor.get_cell())
            .await?;
        let Parts { options, routing, delivery } = parts;
        let router = Router::new(store, options, partitions, routing.clone(), delivery.clone());
        Ok(Self {
            router,
            settings,
            delivery,
            routing,
            member: None,
            supervisor,
            running: Some(running),
        })
    }

    /// Starts a node that shares its store with others: it writes its beat, and owns what the members agree on.
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::Join`] if the store could not be read and written in time.
    pub async fn join(
        store: Store,
        sender: Arc<dyn WebhookSender>,
        options: BrokerOptions,
        settings: StoreSettings,
        (incarnation, joining): (String, Joining),
    ) -> Result<Self, StartError> {
        let Joining { options: cluster, transport, peers } = joining;
        let partitions = settings.partitions;
        let parts = Parts::new(sender, options);
        let directory = Directory::default();
        let movers = Movers {
            transport: transport.clone(),
            directory: directory.clone(),
            transfers_in_flight_max: cluster.transfers_in_flight_max,
        };
        let partitions_arguments =
            PartitionsArguments { movers: Some(movers), ..parts.arguments(&store, partitions) };
        let (supervisor, running) = NodeSupervisor::spawn(None, NodeSupervisor, ()).await?;
        let (serving, _) =
            Partitions::spawn_linked(None, Partitions, partitions_arguments, supervisor.get_cell())
                .await?;
        let incarnation = Arc::new(ArcSwap::from_pointee(incarnation));
        peers.bind_node(NodeSide { partitions: serving.clone(), incarnation: incarnation.clone() });
        let (joined, has_joined) = oneshot::channel();
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let membership = MembershipArguments {
            store: store.clone(),
            options: cluster,
            partitions_count: partitions,
            incarnation,
            partitions: serving,
            routing: parts.routing.clone(),
            directory: directory.clone(),
            transport,
            snapshot: snapshot.clone(),
            joined: Some(joined),
        };
        let (membership, _) =
            Membership::spawn_linked(None, Membership, membership, supervisor.get_cell()).await?;
        if !matches!(timeout(START_TIMEOUT, has_joined).await, Ok(Ok(()))) {
            return Err(StartError::Join);
        }
        let Parts { options, routing, delivery } = parts;
        let router = Router::new(store, options, partitions, routing.clone(), delivery.clone());
        let member = Some(Member { directory, snapshot, membership });
        Ok(Self { router, settings, delivery, routing, member, supervisor, running: Some(running) })
    }

    /// The way to the node's inboxes.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// What is fixed for the node's store.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// Who owns what, as far as is known here; none if the node stands alone.
    pub fn directory(&self) -> Option<Directory> {
        self.member.as_ref().map(|member| member.directory.clone())
    }

    /// What tells of the node from other tasks.
    pub fn watch(&self) -> NodeWatch {
        let member = self.member.as_ref();
        NodeWatch {
            routing: self.routing.clone(),
            snapshot: member.map(|member| member.snapshot.clone()),
            membership: member.map(|member| member.membership.clone()),
        }
    }

    /// Waits until the supervisor tree has given up. It does so only after repeated failures, or when another start of the
    /// same node has taken its place.
    pub async fn ended(&mut self) {
        if let Some(running) = &mut self.running {
            // The supervisor's task carries no result; how it ended is in the log.
            let _ = running.await;
            self.running = None;
        }
    }

    /// Begins no more webhooks, and waits until those that are on their way have come to their end, or `until`. What has
    /// not by then is sent again by whoever owns the tenant next.
    pub async fn drain_deliveries(&self, until: Instant) {
        if tokio::time::timeout_at(until, self.delivery.slots.drain()).await.is_err() {
            tracing::warn!("webhooks are still on their way; they will be sent again");
        }
    }

    /// Stops the tree. Call it when no request is in flight any more.
    pub async fn stop(self) {
        if let Some(member) = &self.member {
            // First, so that the row is removed while the rest still stands.
            let _ = member.membership.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        }
        self.supervisor.stop(None);
        if let Some(running) = self.running {
            let _ = running.await;
        }
    }
}

/// Tells of a node from other tasks; cheap to clone.
#[derive(Clone)]
pub struct NodeWatch {
    routing: Arc<ArcSwap<RoutingTable>>,
    snapshot: Option<Arc<ArcSwap<Snapshot>>>,
    membership: Option<ActorRef<MembershipMessage>>,
}

impl NodeWatch {
    /// The partitions that are served here, with their epochs.
    pub fn served(&self) -> BTreeMap<PartitionId, u64> {
        self.routing.load().epochs()
    }

    /// The cluster; none if the node stands alone.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.as_ref().map(|snapshot| snapshot.load_full())
    }

    /// Begins to give all partitions to the other members. Nothing happens if the node stands alone.
    pub fn drain(&self) {
        if let Some(membership) = &self.membership {
            // A membership that is gone has ended the node.
            let _ = membership.cast(MembershipMessage::Drain);
        }
    }

    /// Waits until nothing is served here, there is nobody to give it to, or `until`.
    pub async fn drained(&self, until: Instant) {
        while let Some(snapshot) = self.snapshot() {
            let is_other = |member: &MemberSnapshot| {
                member.condition == Condition::Up && member.link == Some(LinkState::Up)
            };
            if self.served().is_empty()
                || !snapshot.members.iter().any(is_other)
                || Instant::now() >= until
            {
                return;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

/// What is fixed for a store; a new one gets this number of partitions.
///
/// # Errors
/// [`StartError::Partitions`] if it was created with another number; [`StartError::Store`].
pub async fn settings(store: &Store, partitions: u16) -> Result<StoreSettings, StartError> {
    let settings = store_settings(store, partitions).await?;
    if settings.partitions != partitions {
        return Err(StartError::Partitions { configured: partitions, stored: settings.partitions });
    }
    Ok(settings)
}

async fn store_settings(store: &Store, partitions: u16) -> Result<StoreSettings, TableError> {
    let proposed = StoreSettings { partitions, cursor_secret: store.environment().bytes() };
    let run = Run::idempotent(Instant::now() + START_TIMEOUT);
    store.run(run, |tx| Box::pin(settings::create_or_get(tx, &proposed))).await
}

async fn take_fences(
    store: &Store,
    partitions: u16,
    incarnation: &str,
) -> Result<Vec<Guard>, TableError> {
    let all: Vec<PartitionId> = (0..partitions).map(PartitionId).collect();
    let mut guards = Vec::with_capacity(all.len());
    for some in all.chunks(FENCES_PER_TRANSACTION) {
        let run = Run::idempotent(Instant::now() + START_TIMEOUT);
        guards.extend(store.run(run, |tx| Box::pin(fence::take(tx, some, incarnation))).await?);
    }
    Ok(guards)
}

/// The root of the tree.
struct NodeSupervisor;

/// There is nothing to tell it.
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
