//! The partition supervisor: serves the partitions that this node owns, restarts the ones that
//! fail, transfers the ones that another node should own, and publishes the routing table.
//!
//! Messages come from [`crate::membership`], the peer service or the start of the node (`Serve`,
//! `Lose`, `Transfer`) and from its own transfers (`TransferEnded`). [`crate::node`] supervises it.
//! Invariants: `ROUTING-1` the routing table has a partition only while its actor runs under a
//! guard of this node; `ROUTING-2` a partition that fails too often ends this actor, and with it
//! the node, so that no node serves only a part of what it owns; `ROUTING-3` a partition has at
//! most one transfer in flight, and the node at most `transfers_in_flight_max`.

mod transfer;

pub(crate) use transfer::TransferContext;

use crate::partition::{
    Partition, PartitionArguments, PartitionContext, PartitionHandle, RoutingTable, ServedPartition,
};
use crate::supervision::RestartIntensity;
use arc_swap::ArcSwap;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;
use triggers_protocol::PartitionId;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::rows::Fence;

/// The type of the actor.
pub(crate) struct PartitionSupervisor;

/// A message to the partition supervisor.
#[derive(RactorMessage)]
pub(crate) enum PartitionSupervisorMessage {
    /// Serve these partitions, which this node owns now; notify the sender once they are served.
    Serve(Vec<Guard>, Option<oneshot::Sender<()>>),
    /// Stop serving these partitions, which this node owns no more.
    Lose(Vec<PartitionId>),
    /// Stop serving all partitions.
    LoseAll,
    /// Transfer these partitions to these incarnations; replaces the transfers not yet begun.
    Transfer(Vec<(PartitionId, String)>),
    /// A transfer has ended; with the fence of the new owner if the partition has one.
    TransferEnded(PartitionId, Option<Fence>),
}

/// What the partition supervisor needs to start.
pub(crate) struct PartitionSupervisorArguments {
    /// Partitions to serve from the start.
    pub(crate) guards: Vec<Guard>,
    pub(crate) context: PartitionContext,
    pub(crate) routing: Arc<ArcSwap<RoutingTable>>,
    /// None on a node that runs alone.
    pub(crate) transfers: Option<TransferContext>,
}

pub(crate) struct PartitionSupervisorState {
    context: Arc<PartitionContext>,
    routing: Arc<ArcSwap<RoutingTable>>,
    failures: RestartIntensity,
    transfers: Option<TransferContext>,
    /// Partitions with a transfer in flight.
    in_transfer: BTreeSet<PartitionId>,
    /// Transfers that wait, with the incarnation that gets each partition.
    waiting: VecDeque<(PartitionId, String)>,
}

impl Actor for PartitionSupervisor {
    type Msg = PartitionSupervisorMessage;
    type State = PartitionSupervisorState;
    type Arguments = PartitionSupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<PartitionSupervisorMessage>,
        arguments: PartitionSupervisorArguments,
    ) -> Result<PartitionSupervisorState, ActorProcessingErr> {
        let PartitionSupervisorArguments { guards, context, routing, transfers } = arguments;
        let options = &context.options;
        let failures = RestartIntensity::new(options.restarts_max, options.restart_window);
        let mut state = PartitionSupervisorState {
            context: Arc::new(context),
            routing,
            failures,
            transfers,
            in_transfer: BTreeSet::new(),
            waiting: VecDeque::new(),
        };
        state.serve(&myself, guards).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<PartitionSupervisorMessage>,
        message: PartitionSupervisorMessage,
        state: &mut PartitionSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PartitionSupervisorMessage::Serve(guards, done) => {
                state.serve(&myself, guards).await?;
                if let Some(done) = done {
                    // The sender may have stopped waiting.
                    let _ = done.send(());
                }
            }
            PartitionSupervisorMessage::Lose(partitions) => state.lose(&partitions),
            PartitionSupervisorMessage::LoseAll => {
                let all: Vec<PartitionId> = state.routing.load().0.keys().copied().collect();
                state.lose(&all);
            }
            PartitionSupervisorMessage::Transfer(transfers) => {
                state.waiting = transfers.into();
                state.begin_transfers(&myself);
            }
            PartitionSupervisorMessage::TransferEnded(partition, fence) => {
                state.in_transfer.remove(&partition);
                let is_older = |handle: &Arc<PartitionHandle>| {
                    fence
                        .as_ref()
                        .is_some_and(|fence| handle.served.guard.fence.epoch < fence.epoch)
                };
                if state.routing.load().0.get(&partition).is_some_and(is_older) {
                    state.lose(&[partition]);
                }
                state.begin_transfers(&myself);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PartitionSupervisorMessage>,
        event: SupervisionEvent,
        state: &mut PartitionSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                state.restart(&myself, &actor, &error.to_string()).await
            }
            _ => Ok(()),
        }
    }
}

impl PartitionSupervisorState {
    /// Serves the partitions that are not yet served under these guards or later ones.
    async fn serve(
        &mut self,
        myself: &ActorRef<PartitionSupervisorMessage>,
        guards: Vec<Guard>,
    ) -> Result<(), ActorProcessingErr> {
        let mut table = self.routing.load().0.clone();
        let mut replaced = Vec::new();
        for guard in guards {
            let (partition, epoch) = (guard.partition, guard.fence.epoch);
            let is_current =
                |served: &Arc<PartitionHandle>| served.served.guard.fence.epoch >= epoch;
            if table.get(&partition).is_some_and(is_current) {
                continue;
            }
            tracing::debug!(%partition, epoch, "a partition is served");
            let served = ServedPartition {
                guard: Arc::new(guard),
                inboxes: Arc::default(),
                gate: Arc::default(),
                is_quiescing: Arc::default(),
            };
            let handle = self.start(myself, served).await?;
            replaced.extend(table.insert(partition, handle));
        }
        self.publish(table);
        replaced.iter().for_each(|handle| end(handle));
        Ok(())
    }

    /// Stops serving; waiting requests are forwarded to the new owner.
    fn lose(&mut self, partitions: &[PartitionId]) {
        let mut table = self.routing.load().0.clone();
        let lost: Vec<_> =
            partitions.iter().filter_map(|partition| table.remove(partition)).collect();
        if lost.is_empty() {
            return;
        }
        self.publish(table);
        tracing::info!(count = lost.len(), "partitions are no longer served here");
        lost.iter().for_each(|handle| end(handle));
    }

    /// Begins as many transfers as `ROUTING-3` allows.
    fn begin_transfers(&mut self, myself: &ActorRef<PartitionSupervisorMessage>) {
        let Some(transfers) = &self.transfers else { return };
        let routing = self.routing.load();
        while self.in_transfer.len() < transfers.in_flight_max
            && let Some((partition, to)) = self.waiting.pop_front()
        {
            let Some(handle) = routing.0.get(&partition) else { continue };
            if !self.in_transfer.insert(partition) {
                continue;
            }
            let (transfers, handle) = (transfers.clone(), handle.clone());
            let (store, myself) = (self.context.store.clone(), myself.clone());
            tokio::spawn(async move {
                let fence = transfers.run(&store, &handle, &to).await;
                // A partition supervisor that has stopped serves nothing more.
                let _ = myself.cast(PartitionSupervisorMessage::TransferEnded(partition, fence));
            });
        }
    }

    fn publish(&self, table: BTreeMap<PartitionId, Arc<PartitionHandle>>) {
        metrics::gauge!("triggers_partitions_owned").set(table.len() as f64);
        self.routing.store(Arc::new(RoutingTable(table)));
    }

    async fn restart(
        &mut self,
        myself: &ActorRef<PartitionSupervisorMessage>,
        actor: &ActorCell,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let routing = self.routing.load_full();
        let is_failed = |handle: &&Arc<PartitionHandle>| handle.actor.get_id() == actor.get_id();
        let Some(failed) = routing.0.values().find(is_failed) else { return Ok(()) };
        let partition = failed.id();
        tracing::error!(%partition, error, "a partition failed");
        if !self.failures.note_failure(self.context.store.environment().monotonic()) {
            let reason = format!("partitions fail too often, the last was {partition}: {error}");
            return Err(reason.into());
        }
        let restarted = self.start(myself, failed.served.clone()).await?;
        let mut table = routing.0.clone();
        table.insert(partition, restarted);
        self.publish(table);
        Ok(())
    }

    async fn start(
        &self,
        myself: &ActorRef<PartitionSupervisorMessage>,
        served: ServedPartition,
    ) -> Result<Arc<PartitionHandle>, ActorProcessingErr> {
        let arguments = PartitionArguments { served, context: self.context.clone() };
        let root = myself.get_cell();
        let (actor, _) = Partition::spawn_linked(None, Partition, arguments.clone(), root).await?;
        Ok(Arc::new(arguments.handle(actor)))
    }
}

/// Rejects waiting requests and ends the partition's actor with its inboxes.
fn end(handle: &PartitionHandle) {
    handle.served.gate.close();
    handle.served.inboxes.close_all();
    handle.actor.stop(None);
}
