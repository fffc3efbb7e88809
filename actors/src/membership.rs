//! The membership actor: writes this node's heartbeat, reads the cluster and carries out the plan.
//!
//! Messages come from its timer (`Timer`), its rounds in the store (`RoundEnded`) and the node
//! (`Drain`). It writes to the store and informs the partition supervisor, the directory and the
//! transport. `node` supervises it. The decisions are made by `machine`.
//! Invariants: `MEMBERSHIP-1` one round in the store runs at a time and each has a deadline; the
//! timer runs independently, so a node whose store does not answer stops serving in time;
//! `MEMBERSHIP-2` the time of a heartbeat is read before the heartbeat is written, the time of a
//! view before the view is read.

mod assignment;
pub(crate) mod machine;
mod store_work;

pub use machine::NodeCondition;

use crate::cluster::directory::Directory;
use crate::cluster::{LinkState, PeerTransport, name_of, peer_of};
use crate::options::ClusterOptions;
use crate::partition::RoutingTable;
use crate::partition_supervisor::PartitionSupervisorMessage;
use arc_swap::ArcSwap;
use machine::{MembershipMachine, MembershipPlan, MembershipTimes};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store_work::{Round, Takeover, remove_node, run_round};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use triggers_protocol::{PartitionId, peer};
use triggers_store::kv::Store;
use triggers_store::tables::cluster::ClusterView;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::rows::{Fence, NodeRow};

/// The cluster as this node observes it, for operators. No decision depends on it.
#[derive(Debug, Clone, Default)]
pub struct ClusterSnapshot {
    /// The incarnation of this node.
    pub incarnation: String,
    /// All nodes that have a row in the store.
    pub nodes: Vec<NodeSnapshot>,
    /// The owner of each partition.
    pub owners: BTreeMap<PartitionId, Fence>,
    /// This node has a row and links to all live peers.
    pub is_linked: bool,
}

/// One node of a [`ClusterSnapshot`].
#[derive(Debug, Clone)]
pub struct NodeSnapshot {
    /// The incarnation that the row belongs to.
    pub incarnation: String,
    /// The row that the node has written.
    pub row: NodeRow,
    /// The condition that follows from its heartbeat.
    pub condition: NodeCondition,
    /// Time for which its heartbeat has been unchanged.
    pub heartbeat_age: Duration,
    /// State of the link to it; none for this node itself.
    pub link: Option<LinkState>,
}

/// The type of the actor.
pub(crate) struct Membership;

/// A message to the membership actor.
#[derive(RactorMessage)]
pub(crate) enum MembershipMessage {
    /// Check whether the next round is due and whether this node has lost its partitions.
    Timer,
    /// A round in the store has ended.
    RoundEnded(Round),
    /// Transfer all partitions and take none over.
    Drain,
}

/// What the membership actor needs to start.
pub(crate) struct MembershipArguments {
    pub(crate) store: Store,
    pub(crate) options: ClusterOptions,
    pub(crate) partitions_count: u16,
    /// The present incarnation, shared with the peer service.
    pub(crate) incarnation: Arc<ArcSwap<String>>,
    pub(crate) partitions: ActorRef<PartitionSupervisorMessage>,
    pub(crate) routing: Arc<ArcSwap<RoutingTable>>,
    pub(crate) directory: Directory,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) snapshot: Arc<ArcSwap<ClusterSnapshot>>,
    /// Notified after the first plan made from a view that contains this node is carried out.
    pub(crate) joined: Option<oneshot::Sender<()>>,
}

pub(crate) struct MembershipState {
    arguments: MembershipArguments,
    machine: MembershipMachine,
    row: NodeRow,
    /// The round that is running.
    round: Option<JoinHandle<()>>,
    /// Monotonic time at which the next heartbeat is due.
    next_heartbeat: Duration,
    view: ClusterView,
}

impl Actor for Membership {
    type Msg = MembershipMessage;
    type State = MembershipState;
    type Arguments = MembershipArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MembershipMessage>,
        arguments: MembershipArguments,
    ) -> Result<MembershipState, ActorProcessingErr> {
        let options = &arguments.options;
        let now = arguments.store.environment().monotonic();
        let times = MembershipTimes {
            take_over_after: options.take_over_after,
            stop_after: options.stop_after,
        };
        let incarnation = String::clone(&arguments.incarnation.load());
        let machine = MembershipMachine::new(incarnation, arguments.partitions_count, times, now);
        let row = NodeRow {
            name: options.name.clone(),
            address: options.address.clone(),
            peer_address: options.peer_address.clone(),
            is_draining: false,
            heartbeat: 0,
            protocol: peer::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        drop(myself.send_interval(options.heartbeat_interval / 4, || MembershipMessage::Timer));
        myself.cast(MembershipMessage::Timer)?;
        Ok(MembershipState {
            arguments,
            machine,
            row,
            round: None,
            next_heartbeat: now,
            view: ClusterView::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<MembershipMessage>,
        message: MembershipMessage,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MembershipMessage::Timer => state.on_timer(&myself),
            MembershipMessage::RoundEnded(round) => state.on_round_ended(round)?,
            MembershipMessage::Drain => {
                state.row.is_draining = true;
                state.next_heartbeat = Duration::ZERO;
                state.on_timer(&myself);
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<MembershipMessage>,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        let interval = state.arguments.options.heartbeat_interval;
        if let Some(round) = state.round.take() {
            // A late heartbeat would write the row again. The round ends within its deadline.
            let _ = timeout(interval * 2, round).await;
        }
        // Other nodes notice at once that this node is gone, instead of after `take_over_after`.
        let incarnation = state.machine.incarnation();
        let removed =
            remove_node(&state.arguments.store, incarnation, Instant::now() + interval).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "this node's row could not be removed");
        }
        Ok(())
    }
}

impl MembershipState {
    fn on_timer(&mut self, myself: &ActorRef<MembershipMessage>) {
        let now = self.arguments.store.environment().monotonic();
        if self.machine.is_lost(now) {
            self.restart(now);
        }
        if self.round.is_some() {
            return;
        }
        let interval = self.arguments.options.heartbeat_interval;
        let is_heartbeat_due = now >= self.next_heartbeat;
        if is_heartbeat_due {
            self.row.heartbeat += 1;
            self.next_heartbeat = now + interval;
        }
        let heartbeat =
            is_heartbeat_due.then(|| (self.machine.incarnation().to_owned(), self.row.clone()));
        let (store, myself) = (self.arguments.store.clone(), myself.clone());
        self.round = Some(tokio::spawn(async move {
            let round = run_round(&store, heartbeat, Instant::now() + interval * 2).await;
            // A membership actor that has stopped needs no view.
            let _ = myself.cast(MembershipMessage::RoundEnded(round));
        }));
    }

    /// Stops serving and continues as the next incarnation (`MEMBER-4`).
    fn restart(&mut self, now: Duration) {
        let incarnation = self.machine.incarnation();
        let (peer, generation) = incarnation.rsplit_once('.').unwrap_or((incarnation, "0"));
        let next = format!("{peer}.{}", generation.parse::<u64>().unwrap_or(0) + 1);
        tracing::error!(
            incarnation,
            next,
            "no heartbeat could be written; this node stops serving"
        );
        metrics::counter!("triggers_memberships_lost_total").increment(1);
        self.arguments.incarnation.store(Arc::new(next.clone()));
        self.machine.restart(next, now);
        // A partition supervisor that has stopped has ended the node.
        let _ = self.arguments.partitions.cast(PartitionSupervisorMessage::LoseAll);
        self.next_heartbeat = now;
    }

    fn on_round_ended(&mut self, round: Round) -> Result<(), ActorProcessingErr> {
        self.round = None;
        if let Some(began) = round.heartbeat_at {
            self.machine.committed(began);
        }
        let Some((read_at, view)) = round.view else { return Ok(()) };
        let arguments = &self.arguments;
        let served = arguments.routing.load().epochs();
        let plan = self.machine.observe(&view, read_at, &served);
        if plan.is_superseded {
            let reason = "another start of this node's name has joined the cluster; this one ends";
            return Err(reason.into());
        }
        arguments.directory.note(view.owners.iter().map(|(partition, fence)| (*partition, fence)));
        self.view = view;
        self.update_peers(read_at);
        self.publish(read_at);
        self.perform(plan);
        Ok(())
    }

    /// Names the live peers to the transport.
    fn update_peers(&self, now: Duration) {
        // Rows of earlier starts of this node lead to this node.
        let own = name_of(self.machine.incarnation());
        let is_live = |incarnation: &str, row: &NodeRow| {
            let condition = self.machine.condition(incarnation, row, now);
            name_of(incarnation) != own && condition != NodeCondition::Silent
        };
        let live = self.view.nodes.iter().filter(|(incarnation, row)| is_live(incarnation, row));
        let peers = live
            .map(|(incarnation, row)| (peer_of(incarnation).to_owned(), row.peer_address.clone()));
        self.arguments.transport.update_peers(peers.collect());
    }

    fn publish(&self, now: Duration) {
        let links = self.arguments.transport.links();
        let own = self.machine.incarnation();
        let link_to =
            |incarnation: &str| links.get(peer_of(incarnation)).copied().unwrap_or(LinkState::Down);
        let nodes = self.view.nodes.iter().map(|(incarnation, row)| NodeSnapshot {
            incarnation: incarnation.clone(),
            row: row.clone(),
            condition: self.machine.condition(incarnation, row, now),
            heartbeat_age: self.machine.heartbeat_age(incarnation, now).unwrap_or_default(),
            link: (incarnation != own).then(|| link_to(incarnation)),
        });
        let snapshot = ClusterSnapshot {
            incarnation: own.to_owned(),
            nodes: nodes.collect(),
            owners: self.view.owners.clone(),
            is_linked: self.is_linked(&links, now),
        };
        metrics::gauge!("triggers_cluster_nodes").set(snapshot.nodes.len() as f64);
        self.arguments.snapshot.store(Arc::new(snapshot));
    }

    /// Whether this node has a row and every live peer can be reached. A peer without a heartbeat
    /// for two intervals does not count.
    fn is_linked(&self, links: &BTreeMap<String, LinkState>, now: Duration) -> bool {
        let age_max = self.arguments.options.heartbeat_interval * 2;
        let is_reached = |incarnation: &String| {
            let is_live =
                self.machine.heartbeat_age(incarnation, now).is_some_and(|it| it < age_max);
            !is_live || links.get(peer_of(incarnation)) != Some(&LinkState::Down)
        };
        self.view.nodes.contains_key(self.machine.incarnation())
            && self.view.nodes.keys().all(is_reached)
    }

    fn perform(&mut self, plan: MembershipPlan) {
        let MembershipPlan { adopt, lose, take_over, transfer, forget, is_superseded: _ } = plan;
        let MembershipArguments { directory, partitions, joined, store, .. } = &mut self.arguments;
        // A partition may have been transferred to another node since the view was read.
        let is_current = |(partition, fence): &(PartitionId, Fence)| {
            directory.owner(*partition).is_none_or(|known| known.epoch <= fence.epoch)
        };
        let guards: Vec<Guard> = adopt
            .into_iter()
            .filter(is_current)
            .map(|(partition, fence)| Guard::new(partition, fence))
            .collect();
        // The casts fail only if the partition supervisor has stopped, which ends the node.
        if !guards.is_empty() {
            let _ = partitions.cast(PartitionSupervisorMessage::Serve(guards, None));
        }
        if !lose.is_empty() {
            let _ = partitions.cast(PartitionSupervisorMessage::Lose(lose));
        }
        let _ = partitions.cast(PartitionSupervisorMessage::Transfer(transfer));
        let has_own_row = self.view.nodes.contains_key(self.machine.incarnation());
        let joined = if has_own_row { joined.take() } else { None };
        if !take_over.is_empty() || !forget.is_empty() || joined.is_some() {
            let takeover = Takeover {
                store: store.clone(),
                partitions: partitions.clone(),
                directory: directory.clone(),
                incarnation: self.machine.incarnation().to_owned(),
            };
            tokio::spawn(takeover.run(take_over, forget, joined));
        }
    }
}
