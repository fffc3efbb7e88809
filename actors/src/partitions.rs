//! The partitions actor: serves the partitions that this node owns, restarts those that fail, hands over those that are
//! another's by now, and publishes the routing table that the router reads.
//!
//! Told by: [`crate::cluster::membership`] or the node's start (`Serve`, `Lose`, `HandOver`), its own moves (`Moved`), ractor
//! when a partition ends. Tells: the routing table, the directory. Supervised by [`crate::node`].
//! Invariants: `ROUTING-1` the table has a partition only while its actor runs under a guard of this node;
//! `ROUTING-2` a partition that fails too often ends this actor, and with it the node: it is not left half served;
//! `ROUTING-3` a partition moves once at a time, and no more than `transfers_in_flight_max` of them.

mod hand_over;

pub(crate) use hand_over::Movers;

use crate::gate::Gate;
use crate::inbox::Delivery;
use crate::options::BrokerOptions;
use crate::partition::{InboxTable, Partition, PartitionArguments, PartitionHandle, Shared};
use crate::supervision::RestartIntensity;
use arc_swap::ArcSwap;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Semaphore, oneshot};
use triggers_protocol::PartitionId;
use triggers_store::kv::Store;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::rows::Fence;

/// Which partitions this node serves.
#[derive(Default)]
pub(crate) struct RoutingTable(pub(crate) BTreeMap<PartitionId, Arc<PartitionHandle>>);

impl RoutingTable {
    /// The epochs of what is served.
    pub(crate) fn epochs(&self) -> BTreeMap<PartitionId, u64> {
        self.0.iter().map(|(partition, handle)| (*partition, handle.guard.fence.epoch)).collect()
    }
}

/// The shell's type.
pub(crate) struct Partitions;

/// A message to the partitions.
#[derive(RactorMessage)]
pub(crate) enum PartitionsMessage {
    /// These are owned now: serve them, and say when they are served.
    Serve(Vec<Guard>, Option<oneshot::Sender<()>>),
    /// These are owned no more.
    Lose(Vec<PartitionId>),
    /// Nothing is owned any more.
    LoseAll,
    /// Other members are to have these, and no others for now.
    HandOver(Vec<(PartitionId, String)>),
    /// A move has ended; with the fence of the new owner if it has one.
    Moved(PartitionId, Option<Fence>),
}

pub(crate) struct PartitionsArguments {
    pub(crate) guards: Vec<Guard>,
    pub(crate) store: Store,
    pub(crate) options: Arc<BrokerOptions>,
    pub(crate) partitions: u16,
    pub(crate) routing: Arc<ArcSwap<RoutingTable>>,
    pub(crate) delivery: Arc<Delivery>,
    /// None where there are no other nodes.
    pub(crate) movers: Option<Movers>,
}

pub(crate) struct PartitionsState {
    shared: Arc<Shared>,
    routing: Arc<ArcSwap<RoutingTable>>,
    failures: RestartIntensity,
    movers: Option<Movers>,
    moving: BTreeSet<PartitionId>,
    /// What is to move next.
    to_move: VecDeque<(PartitionId, String)>,
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
        let PartitionsArguments { guards, store, options, partitions, routing, delivery, movers } =
            arguments;
        let shared = Arc::new(Shared {
            store,
            commit_slots: Arc::new(Semaphore::new(options.commits_in_flight_max)),
            inboxes_max: options.inboxes_max.div_ceil(usize::from(partitions.max(1))).max(4),
            options: options.clone(),
            delivery,
        });
        let failures = RestartIntensity::new(options.restarts_max, options.restart_window);
        let mut state = PartitionsState {
            shared,
            routing,
            failures,
            movers,
            moving: BTreeSet::new(),
            to_move: VecDeque::new(),
        };
        state.serve(&myself, guards).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<PartitionsMessage>,
        message: PartitionsMessage,
        state: &mut PartitionsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PartitionsMessage::Serve(guards, done) => {
                state.serve(&myself, guards).await?;
                if let Some(done) = done {
                    // Who asked may have stopped waiting.
                    let _ = done.send(());
                }
            }
            PartitionsMessage::Lose(partitions) => state.lose(&partitions),
            PartitionsMessage::LoseAll => {
                let all: Vec<PartitionId> = state.routing.load().0.keys().copied().collect();
                state.lose(&all);
            }
            PartitionsMessage::HandOver(to_move) => {
                state.to_move = to_move.into();
                state.hand_over(&myself);
            }
            PartitionsMessage::Moved(partition, fence) => {
                state.moving.remove(&partition);
                let is_served = |handle: &Arc<PartitionHandle>| {
                    fence.as_ref().is_some_and(|fence| handle.guard.fence.epoch < fence.epoch)
                };
                if state.routing.load().0.get(&partition).is_some_and(is_served) {
                    state.lose(&[partition]);
                }
                state.hand_over(&myself);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PartitionsMessage>,
        event: SupervisionEvent,
        state: &mut PartitionsState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                state.restart(&myself, &actor, &error.to_string()).await
            }
            _ => Ok(()),
        }
    }
}

impl PartitionsState {
    /// Serves what is not served yet under these guards or later ones.
    async fn serve(
        &mut self,
        myself: &ActorRef<PartitionsMessage>,
        guards: Vec<Guard>,
    ) -> Result<(), ActorProcessingErr> {
        let mut table = self.routing.load().0.clone();
        let mut replaced = Vec::new();
        for guard in guards {
            if table
                .get(&guard.partition)
                .is_some_and(|served| served.guard.fence.epoch >= guard.fence.epoch)
            {
                continue;
            }
            let partition = guard.partition;
            tracing::debug!(%partition, epoch = guard.fence.epoch, "a partition is served");
            let handle = self.start(myself, Place::new(guard)).await?;
            replaced.extend(table.insert(partition, handle));
        }
        self.publish(table);
        replaced.iter().for_each(|handle| end(handle));
        Ok(())
    }

    /// Stops serving; what waits is sent to the new owner.
    fn lose(&mut self, partitions: &[PartitionId]) {
        let mut table = self.routing.load().0.clone();
        let lost: Vec<_> =
            partitions.iter().filter_map(|partition| table.remove(partition)).collect();
        if lost.is_empty() {
            return;
        }
        self.publish(table);
        tracing::info!(count = lost.len(), "partitions are served here no more");
        lost.iter().for_each(|handle| end(handle));
    }

    /// `ROUTING-3`.
    fn hand_over(&mut self, myself: &ActorRef<PartitionsMessage>) {
        let Some(movers) = self.movers.clone() else { return };
        while self.moving.len() < movers.transfers_in_flight_max
            && let Some((partition, to)) = self.to_move.pop_front()
        {
            let routing = self.routing.load();
            let Some(handle) = routing.0.get(&partition).filter(|_| self.moving.insert(partition))
            else {
                continue;
            };
            let (movers, store, handle) =
                (movers.clone(), self.shared.store.clone(), handle.clone());
            let myself = myself.clone();
            tokio::spawn(async move {
                let moved = hand_over::hand_over(&movers, &store, &handle, &to).await;
                // Partitions that are gone have stopped everything.
                let _ = myself.cast(PartitionsMessage::Moved(partition, moved));
            });
        }
    }

    fn publish(&self, table: BTreeMap<PartitionId, Arc<PartitionHandle>>) {
        metrics::gauge!("triggers_partitions_owned").set(table.len() as f64);
        self.routing.store(Arc::new(RoutingTable(table)));
    }

    async fn start(
        &self,
        myself: &ActorRef<PartitionsMessage>,
        place: Place,
    ) -> Result<Arc<PartitionHandle>, ActorProcessingErr> {
        let Place { guard, table, gate, is_quiescing } = place;
        let arguments = PartitionArguments {
            guard: guard.clone(),
            table: table.clone(),
            is_quiescing: is_quiescing.clone(),
            shared: self.shared.clone(),
        };
        let (actor, _) =
            Partition::spawn_linked(None, Partition, arguments, myself.get_cell()).await?;
        Ok(Arc::new(PartitionHandle { actor, guard, table, gate, is_quiescing }))
    }

    async fn restart(
        &mut self,
        myself: &ActorRef<PartitionsMessage>,
        actor: &ActorCell,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let routing = self.routing.load_full();
        let Some(failed) =
            routing.0.values().find(|handle| handle.actor.get_id() == actor.get_id())
        else {
            return Ok(());
        };
        let partition = failed.id();
        tracing::error!(%partition, error, "a partition failed");
        if !self.failures.note_failure(self.shared.store.environment().monotonic()) {
            return Err(format!(
                "partitions fail too often, the last one was {partition}: {error}"
            )
            .into());
        }
        let place = Place {
            guard: failed.guard.clone(),
            table: failed.table.clone(),
            gate: failed.gate.clone(),
            is_quiescing: failed.is_quiescing.clone(),
        };
        let restarted = self.start(myself, place).await?;
        let mut table = routing.0.clone();
        table.insert(partition, restarted);
        self.publish(table);
        Ok(())
    }
}

/// What a partition keeps when its actor is started again.
struct Place {
    guard: Arc<Guard>,
    table: Arc<InboxTable>,
    gate: Arc<Gate>,
    is_quiescing: Arc<AtomicBool>,
}

impl Place {
    fn new(guard: Guard) -> Self {
        Self {
            guard: Arc::new(guard),
            table: Arc::default(),
            gate: Arc::default(),
            is_quiescing: Arc::default(),
        }
    }
}

/// Sends away what waits, and ends the partition's actor with its inboxes.
fn end(handle: &PartitionHandle) {
    handle.gate.close();
    handle.table.close_all();
    handle.actor.stop(None);
}
