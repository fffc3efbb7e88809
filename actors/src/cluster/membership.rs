//! The membership actor: writes this node's beat, reads the view, and has done what the machine makes of it.
//!
//! Told by: its own timer (`Tick`), its rounds in the store (`Seen`), the node (`Drain`). Tells: the store, the partitions, the
//! directory, the transport. Supervised by [`crate::node`].
//! The logic is [`super::machine`]; this is the shell. Invariants: `MEMBERSHIP-1` one round in the store is under way at a time,
//! with an end; the timer goes on beside it, so that a node whose store does not answer stops serving in time;
//! `MEMBERSHIP-2` the time of a beat is taken before it is tried, that of a view before it is read.

use super::directory::Directory;
use super::machine::{Condition, Machine, Plan};
use super::snapshot::{MemberSnapshot, Snapshot};
use super::transport::{LinkState, PeerTransport};
use super::{ClusterOptions, name_of, peer_of};
use crate::partitions::{PartitionsMessage, RoutingTable};
use arc_swap::ArcSwap;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use triggers_protocol::{PartitionId, peer};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::cluster::{self, View};
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::rows::{Fence, MemberRow};

/// Fences taken in one transaction.
const FENCES_PER_TRANSACTION: usize = 64;
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The shell's type.
pub(crate) struct Membership;

/// A message to the membership.
#[derive(RactorMessage)]
pub(crate) enum MembershipMessage {
    /// Time has passed.
    Tick,
    /// A round has ended: when its beat was tried, if it was committed, and when its view was read, with the view.
    Seen { beat_at: Option<Duration>, view: Option<(Duration, View)> },
    /// Give everything away, take nothing.
    Drain,
}

/// What the membership needs.
pub(crate) struct MembershipArguments {
    pub(crate) store: Store,
    pub(crate) options: ClusterOptions,
    pub(crate) partitions_count: u16,
    pub(crate) incarnation: Arc<ArcSwap<String>>,
    pub(crate) partitions: ActorRef<PartitionsMessage>,
    pub(crate) routing: Arc<ArcSwap<RoutingTable>>,
    pub(crate) directory: Directory,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Told when the first view that shows this node was acted on.
    pub(crate) joined: Option<oneshot::Sender<()>>,
}

pub(crate) struct MembershipState {
    arguments: MembershipArguments,
    machine: Machine,
    row: MemberRow,
    /// The round that is under way.
    round: Option<JoinHandle<()>>,
    /// When the next beat is due.
    next_beat: Duration,
    view: View,
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
        let times = (options.steal_after, options.stop_after);
        let incarnation = String::clone(&arguments.incarnation.load());
        let machine = Machine::new(incarnation, arguments.partitions_count, times, now);
        let row = MemberRow {
            name: options.name.clone(),
            address: options.address.clone(),
            peer_address: options.peer_address.clone(),
            is_draining: false,
            beat: 0,
            protocol: peer::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        drop(myself.send_interval(options.beat_interval / 4, || MembershipMessage::Tick));
        myself.cast(MembershipMessage::Tick)?;
        Ok(MembershipState {
            arguments,
            machine,
            row,
            round: None,
            next_beat: now,
            view: View::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<MembershipMessage>,
        message: MembershipMessage,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MembershipMessage::Tick => state.tick(&myself),
            MembershipMessage::Seen { beat_at, view } => {
                state.round = None;
                if let Some(began) = beat_at {
                    state.machine.committed(began);
                }
                if let Some((read_at, view)) = view {
                    state.act(read_at, view)?;
                }
            }
            MembershipMessage::Drain => {
                state.row.is_draining = true;
                state.next_beat = Duration::ZERO;
                state.tick(&myself);
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<MembershipMessage>,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(round) = state.round.take() {
            // Its beat would bring the row back. It ends by itself, within this time.
            let _ = timeout(state.arguments.options.beat_interval * 2, round).await;
        }
        // A node that goes for good says so; one that cannot is missed by the others.
        let incarnation = state.machine.incarnation();
        let run = Run::idempotent(Instant::now() + state.arguments.options.beat_interval);
        let removed: Result<(), TableError> = state
            .arguments
            .store
            .run(run, |tx| {
                cluster::remove(tx, incarnation);
                Box::pin(async { Ok(()) })
            })
            .await;
        if let Err(error) = removed {
            tracing::warn!(%error, "this node's row could not be removed");
        }
        Ok(())
    }
}

impl MembershipState {
    fn now(&self) -> Duration {
        self.arguments.store.environment().monotonic()
    }

    fn tick(&mut self, myself: &ActorRef<MembershipMessage>) {
        let now = self.now();
        if self.machine.is_lost(now) {
            self.begin_anew(now);
        }
        if self.round.is_some() {
            return;
        }
        let is_beat_due = now >= self.next_beat;
        if is_beat_due {
            self.row.beat += 1;
            self.next_beat = now + self.arguments.options.beat_interval;
        }
        let beat = is_beat_due.then(|| (self.machine.incarnation().to_owned(), self.row.clone()));
        let (store, myself) = (self.arguments.store.clone(), myself.clone());
        let limit = self.arguments.options.beat_interval * 2;
        self.round = Some(tokio::spawn(async move {
            // A membership that is gone needs no view.
            let _ = myself.cast(round(&store, beat, limit).await);
        }));
    }

    /// `MEMBER-4`: stops serving, and goes on as another incarnation.
    fn begin_anew(&mut self, now: Duration) {
        let (peer, generation) = self
            .machine
            .incarnation()
            .rsplit_once('.')
            .unwrap_or((self.machine.incarnation(), "0"));
        let next = format!("{peer}.{}", generation.parse::<u64>().unwrap_or(0) + 1);
        tracing::error!(
            incarnation = self.machine.incarnation(),
            next,
            "no beat could be written; this node serves nothing"
        );
        metrics::counter!("triggers_memberships_lost_total").increment(1);
        self.arguments.incarnation.store(Arc::new(next.clone()));
        self.machine.restart(next, now);
        // Partitions that are gone have ended the node.
        let _ = self.arguments.partitions.cast(PartitionsMessage::LoseAll);
        self.next_beat = now;
    }

    fn act(&mut self, read_at: Duration, view: View) -> Result<(), ActorProcessingErr> {
        let arguments = &self.arguments;
        let served = arguments.routing.load().epochs();
        let plan = self.machine.observe(&view, read_at, &served);
        if plan.superseded {
            return Err(
                "another start of this node's name has joined the cluster; this one ends".into()
            );
        }
        arguments.directory.note(view.owners.iter().map(|(partition, fence)| (*partition, fence)));
        self.meet(&view, read_at);
        self.view = view;
        self.publish(read_at);
        self.perform(plan);
        Ok(())
    }

    fn meet(&self, view: &View, now: Duration) {
        // Rows of earlier starts of this node lead to itself.
        let own = name_of(self.machine.incarnation());
        let is_there = |incarnation: &&String| {
            name_of(incarnation) != own
                && self.machine.condition(view, incarnation, now) != Some(Condition::Silent)
        };
        let peers: BTreeMap<String, String> = view
            .members
            .keys()
            .filter(is_there)
            .map(|incarnation| {
                (peer_of(incarnation).to_owned(), view.members[incarnation].peer_address.clone())
            })
            .collect();
        self.arguments.transport.meet(peers);
    }

    fn publish(&self, now: Duration) {
        let links = self.arguments.transport.links();
        let own = self.machine.incarnation();
        let members = self.view.members.iter().map(|(incarnation, row)| MemberSnapshot {
            incarnation: incarnation.clone(),
            row: row.clone(),
            condition: self
                .machine
                .condition(&self.view, incarnation, now)
                .unwrap_or(Condition::Silent),
            beat_age: self.machine.beat_age(incarnation, now).unwrap_or_default(),
            link: (incarnation != own)
                .then(|| links.get(peer_of(incarnation)).copied().unwrap_or(LinkState::Down)),
        });
        let snapshot = Snapshot {
            incarnation: own.to_owned(),
            members: members.collect(),
            owners: self.view.owners.clone(),
        };
        metrics::gauge!("triggers_cluster_members").set(snapshot.members.len() as f64);
        self.arguments.snapshot.store(Arc::new(snapshot));
    }

    fn perform(&mut self, plan: Plan) {
        let Plan { adopt, lose, take, hand_over, forget, superseded: _ } = plan;
        let partitions = &self.arguments.partitions;
        // What was handed over since the view was read is nothing to adopt.
        let is_current = |(partition, fence): &(PartitionId, Fence)| {
            self.arguments
                .directory
                .owner(*partition)
                .is_none_or(|known| known.epoch <= fence.epoch)
        };
        let guards: Vec<Guard> = adopt
            .into_iter()
            .filter(is_current)
            .map(|(partition, fence)| Guard::new(partition, fence))
            .collect();
        // Partitions that are gone have ended the node.
        if !guards.is_empty() {
            let _ = partitions.cast(PartitionsMessage::Serve(guards, None));
        }
        if !lose.is_empty() {
            let lost = lose.into_iter().map(|(partition, _)| partition).collect();
            let _ = partitions.cast(PartitionsMessage::Lose(lost));
        }
        let _ = partitions.cast(PartitionsMessage::HandOver(hand_over));
        let is_in = self.view.members.contains_key(self.machine.incarnation());
        let joined = if is_in { self.arguments.joined.take() } else { None };
        if !take.is_empty() || !forget.is_empty() || joined.is_some() {
            let incarnation = self.machine.incarnation().to_owned();
            let work = Takeover {
                store: self.arguments.store.clone(),
                partitions: partitions.clone(),
                directory: self.arguments.directory.clone(),
                incarnation,
            };
            tokio::spawn(work.run(take, forget, joined));
        }
    }
}

/// What is done in the store because of a view.
struct Takeover {
    store: Store,
    partitions: ActorRef<PartitionsMessage>,
    directory: Directory,
    incarnation: String,
}

impl Takeover {
    async fn run(
        self,
        take: Vec<(PartitionId, Option<Fence>)>,
        forget: Vec<String>,
        joined: Option<oneshot::Sender<()>>,
    ) {
        for some in take.chunks(FENCES_PER_TRANSACTION) {
            match self.take(some).await {
                Ok(guards) if guards.is_empty() => {}
                Ok(guards) => self.serve(guards).await,
                Err(error) => {
                    tracing::warn!(%error, "partitions without an owner could not be taken; they are the next time");
                    break;
                }
            }
        }
        for incarnation in forget {
            let run = Run::idempotent(Instant::now() + TAKE_TIMEOUT);
            let removed: Result<(), TableError> = self
                .store
                .run(run, |tx| {
                    cluster::remove(tx, &incarnation);
                    Box::pin(async { Ok(()) })
                })
                .await;
            tracing::info!(
                incarnation,
                is_removed = removed.is_ok(),
                "a member that is gone is forgotten"
            );
        }
        if let Some(joined) = joined {
            // Who waits for it may have given up.
            let _ = joined.send(());
        }
    }

    async fn take(&self, some: &[(PartitionId, Option<Fence>)]) -> Result<Vec<Guard>, TableError> {
        let run = Run::idempotent(Instant::now() + TAKE_TIMEOUT);
        let incarnation = &self.incarnation;
        self.store
            .run(run, |tx| {
                Box::pin(async move {
                    let mut guards = Vec::with_capacity(some.len());
                    for (partition, seen) in some {
                        guards.extend(
                            fence::take_over(tx, *partition, seen.as_ref(), incarnation).await?,
                        );
                    }
                    Ok(guards)
                })
            })
            .await
    }

    async fn serve(&self, guards: Vec<Guard>) {
        metrics::counter!("triggers_partitions_taken_total").increment(guards.len() as u64);
        tracing::info!(count = guards.len(), "partitions without an owner are taken");
        let fences: Vec<_> =
            guards.iter().map(|guard| (guard.partition, guard.fence.clone())).collect();
        let (done, served) = oneshot::channel();
        // Partitions that are gone have ended the node.
        let _ = self.partitions.cast(PartitionsMessage::Serve(guards, Some(done)));
        let _ = timeout(TAKE_TIMEOUT, served).await;
        self.directory.note(fences.iter().map(|(partition, fence)| (*partition, fence)));
    }
}

/// One round: the beat if it is due, then the view.
async fn round(
    store: &Store,
    beat: Option<(String, MemberRow)>,
    limit: Duration,
) -> MembershipMessage {
    let until = Instant::now() + limit;
    let mut beat_at = None;
    if let Some((incarnation, row)) = &beat {
        let began = store.environment().monotonic();
        let written: Result<(), TableError> = store
            .run(Run::idempotent(until), |tx| {
                cluster::beat(tx, incarnation, row);
                Box::pin(async { Ok(()) })
            })
            .await;
        match written {
            Ok(()) => beat_at = Some(began),
            Err(error) => tracing::warn!(%error, "the beat could not be written"),
        }
    }
    let read_at = store.environment().monotonic();
    let view = match store.run(Run::idempotent(until), |tx| Box::pin(cluster::view(tx))).await {
        Ok(view) => Some((read_at, view)),
        Err(error) => {
            let error: TableError = error;
            tracing::warn!(%error, "the cluster could not be read");
            None
        }
    };
    MembershipMessage::Seen { beat_at, view }
}
