//! A node: takes every partition's fence, starts the supervisor tree, and ends when the tree does.
//!
//! It is a restartable value without statics: a simulation starts many of them in one process.
//! Invariant: `NODE-1` no request is served before the fences are taken; `NODE-2` stopping drops nothing that was
//! answered: what is in flight is committed or its caller sees an unknown outcome.
//! A single node owns every partition, through the same fences that a cluster uses.

use crate::delivery::{Slots, WebhookSender};
use crate::inbox::Delivery;
use crate::options::BrokerOptions;
use crate::partitions::{Partitions, PartitionsArguments, RoutingTable};
use crate::router::Router;
use arc_swap::ArcSwap;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use triggers_protocol::PartitionId;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::settings::{self, StoreSettings};

/// Fences taken in one transaction.
const FENCES_PER_TRANSACTION: usize = 64;
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refused.
    #[error("the store refused: {0}")]
    Store(#[from] TableError),
    /// The configuration names another number of partitions than the store was created with.
    #[error("node.partitions is {configured}, but this store was created with {stored}, which never changes")]
    Partitions {
        /// The configured number.
        configured: u16,
        /// The number in the store.
        stored: u16,
    },
    /// An actor did not start.
    #[error("the supervisor tree did not start: {0}")]
    Actors(#[from] ractor::SpawnErr),
}

/// A running node.
pub struct Node {
    router: Router,
    settings: StoreSettings,
    epochs: (u64, u64),
    delivery: Arc<Delivery>,
    supervisor: ActorRef<NodeMessage>,
    ended: JoinHandle<()>,
}

impl Node {
    /// Starts a node. `incarnation` is the node's name and a boot id that no other start has; `sender` is the way of its
    /// webhooks to their endpoints.
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
        let settings = store_settings(&store, partitions).await?;
        if settings.partitions != partitions {
            return Err(StartError::Partitions { configured: partitions, stored: settings.partitions });
        }
        let guards = take_fences(&store, partitions, &incarnation).await?;
        let epochs = guards.iter().map(|guard| guard.fence.epoch);
        let epochs = (epochs.clone().min().unwrap_or(0), epochs.max().unwrap_or(0));
        let options = Arc::new(options);
        let routing = Arc::new(ArcSwap::from_pointee(RoutingTable::default()));
        let delivery = Arc::new(Delivery {
            sender,
            slots: Slots::new(options.delivery.in_flight_max, options.delivery.in_flight_bytes_max),
        });
        let arguments = PartitionsArguments {
            guards,
            store: store.clone(),
            options: options.clone(),
            routing: routing.clone(),
            delivery: delivery.clone(),
        };
        let (supervisor, ended) = NodeSupervisor::spawn(None, NodeSupervisor, arguments).await?;
        let router = Router::new(store, options, partitions, routing, delivery.clone());
        Ok(Self { router, settings, epochs, delivery, supervisor, ended })
    }

    /// The way to the node's inboxes.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// What is fixed for the node's store.
    pub fn settings(&self) -> &StoreSettings {
        &self.settings
    }

    /// The lowest and the highest epoch of the owned partitions.
    pub fn epochs(&self) -> (u64, u64) {
        self.epochs
    }

    /// Waits until the supervisor tree has given up. It does so only after repeated failures.
    pub async fn ended(&mut self) {
        // The supervisor's task carries no result; how it ended is in the log.
        let _ = (&mut self.ended).await;
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
        self.supervisor.stop(None);
        let _ = self.ended.await;
    }
}

async fn store_settings(store: &Store, partitions: u16) -> Result<StoreSettings, TableError> {
    let proposed = StoreSettings { partitions, cursor_secret: store.environment().bytes() };
    let run = Run::idempotent(Instant::now() + START_TIMEOUT);
    store.run(run, |tx| Box::pin(settings::create_or_get(tx, &proposed))).await
}

async fn take_fences(store: &Store, partitions: u16, incarnation: &str) -> Result<Vec<Guard>, TableError> {
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
enum NodeMessage {}

impl Actor for NodeSupervisor {
    type Msg = NodeMessage;
    type State = ();
    type Arguments = PartitionsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<NodeMessage>,
        arguments: PartitionsArguments,
    ) -> Result<(), ActorProcessingErr> {
        Partitions::spawn_linked(None, Partitions, arguments, myself.get_cell()).await?;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<NodeMessage>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(%error, "the node's actors keep failing; the node ends");
            myself.stop(Some("children keep failing".into()));
        }
        Ok(())
    }
}
