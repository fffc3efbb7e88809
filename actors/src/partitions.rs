//! The partitions actor: starts a partition actor for every owned partition, restarts those that fail, and publishes the
//! routing table that the router reads.
//!
//! Told by: ractor when a partition ends. Tells: the routing table. Supervised by [`crate::node`].
//! Invariants: `ROUTING-1` the table has a partition only while its actor runs under a guard of this incarnation;
//! `ROUTING-2` a partition that fails too often ends this actor, and with it the node: it is not left half served.

use crate::inbox::Delivery;
use crate::options::BrokerOptions;
use crate::partition::{InboxTable, Partition, PartitionArguments, PartitionHandle, Shared};
use crate::supervision::RestartIntensity;
use arc_swap::ArcSwap;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use triggers_protocol::PartitionId;
use triggers_store::kv::Store;
use triggers_store::tables::fence::Guard;

/// Which partitions this node serves.
#[derive(Default)]
pub(crate) struct RoutingTable(pub(crate) BTreeMap<PartitionId, Arc<PartitionHandle>>);

/// The shell's type.
pub(crate) struct Partitions;

/// There is nothing to tell it yet but the ends of its children.
pub(crate) enum PartitionsMessage {}

pub(crate) struct PartitionsArguments {
    pub(crate) guards: Vec<Guard>,
    pub(crate) store: Store,
    pub(crate) options: Arc<BrokerOptions>,
    pub(crate) routing: Arc<ArcSwap<RoutingTable>>,
    pub(crate) delivery: Arc<Delivery>,
}

pub(crate) struct PartitionsState {
    shared: Arc<Shared>,
    routing: Arc<ArcSwap<RoutingTable>>,
    failures: RestartIntensity,
}

impl Actor for Partitions {
    type Msg = PartitionsMessage;
    type State = PartitionsState;
    type Arguments = PartitionsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<PartitionsMessage>,
        arguments: PartitionsArguments,
    ) -> Result<PartitionsState, ActorProcessingErr> {
        let PartitionsArguments { guards, store, options, routing, delivery } = arguments;
        let shared = Arc::new(Shared {
            store,
            commit_slots: Arc::new(Semaphore::new(options.commits_in_flight_max)),
            inboxes_max: options.inboxes_max.div_ceil(guards.len().max(1)).max(4),
            options: options.clone(),
            delivery,
        });
        let failures = RestartIntensity::new(options.restarts_max, options.restart_window);
        let state = PartitionsState { shared, routing, failures };
        let mut table = BTreeMap::new();
        for guard in guards {
            let handle = state.start(&myself, Arc::new(guard), Arc::default()).await?;
            table.insert(handle.id(), handle);
        }
        state.routing.store(Arc::new(RoutingTable(table)));
        Ok(state)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PartitionsMessage>,
        event: SupervisionEvent,
        state: &mut PartitionsState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => state.restart(&myself, &actor, &error.to_string()).await,
            _ => Ok(()),
        }
    }
}

impl PartitionsState {
    async fn start(
        &self,
        myself: &ActorRef<PartitionsMessage>,
        guard: Arc<Guard>,
        table: Arc<InboxTable>,
    ) -> Result<Arc<PartitionHandle>, ActorProcessingErr> {
        let arguments = PartitionArguments { guard: guard.clone(), table: table.clone(), shared: self.shared.clone() };
        let (actor, _) = Partition::spawn_linked(None, Partition, arguments, myself.get_cell()).await?;
        Ok(Arc::new(PartitionHandle { actor, guard, table }))
    }

    async fn restart(
        &mut self,
        myself: &ActorRef<PartitionsMessage>,
        actor: &ActorCell,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let routing = self.routing.load_full();
        let Some(failed) = routing.0.values().find(|handle| handle.actor.get_id() == actor.get_id()) else {
            return Ok(());
        };
        let partition = failed.id();
        tracing::error!(%partition, error, "a partition failed");
        if !self.failures.note_failure(self.shared.store.environment().monotonic()) {
            return Err(format!("partitions fail too often, the last one was {partition}: {error}").into());
        }
        let restarted = self.start(myself, failed.guard.clone(), failed.table.clone()).await?;
        let mut table = routing.0.clone();
        table.insert(partition, restarted);
        self.routing.store(Arc::new(RoutingTable(table)));
        Ok(())
    }
}
