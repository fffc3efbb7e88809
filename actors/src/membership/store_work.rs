//! The store transactions of the membership actor: heartbeat, view, take-over and removal of rows.
//!
//! All of them run in tasks beside the actor, each with a deadline.

use crate::clock;
use crate::cluster::directory::Directory;
use crate::partition_supervisor::PartitionSupervisorMessage;
use ractor::ActorRef;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use triggers_protocol::PartitionId;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::TableError;
use triggers_store::tables::cluster::{self, ClusterView};
use triggers_store::tables::fence::{self, Guard};
use triggers_store::tables::rows::{Fence, NodeRow};

/// Fences taken over in one transaction.
const FENCES_PER_TRANSACTION: usize = 64;
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// The outcome of one round. Times are monotonic.
pub(crate) struct Round {
    /// Time before the heartbeat was written; none if it was not due or not committed.
    pub(super) heartbeat_at: Option<Duration>,
    /// Time before the view was read, and the view; none if it could not be read.
    pub(super) view: Option<(Duration, ClusterView)>,
}

/// Writes the heartbeat if there is one, then reads the view.
pub(super) async fn run_round(
    store: &Store,
    heartbeat: Option<(String, NodeRow)>,
    until: Instant,
) -> Round {
    let mut heartbeat_at = None;
    if let Some((incarnation, row)) = &heartbeat {
        let environment = store.environment();
        clock::report(environment);
        let (began, steady) = (environment.monotonic(), environment.steady());
        let written: Result<_, TableError> = store
            .run(Run::idempotent(until), |tx| {
                cluster::write_heartbeat(tx, incarnation, row);
                Box::pin(cluster::keep_time(tx, steady))
            })
            .await;
        match written {
            Ok(kept) => {
                environment.advance(kept.unwrap_or(steady), false);
                heartbeat_at = Some(began);
            }
            Err(error) => tracing::warn!(%error, "the heartbeat could not be written"),
        }
    }
    let read_at = store.environment().monotonic();
    let read: Result<ClusterView, TableError> =
        store.run(Run::idempotent(until), |tx| Box::pin(cluster::view(tx))).await;
    if let Err(error) = &read {
        tracing::warn!(%error, "the cluster could not be read");
    }
    Round { heartbeat_at, view: read.ok().map(|view| (read_at, view)) }
}

/// Removes a node's row.
pub(super) async fn remove_node(
    store: &Store,
    incarnation: &str,
    until: Instant,
) -> Result<(), TableError> {
    let remove = store.run(Run::idempotent(until), |tx| {
        cluster::remove_node(tx, incarnation);
        Box::pin(async { Ok(()) })
    });
    remove.await
}

/// Takes partitions over and removes the rows of nodes that are gone.
pub(super) struct Takeover {
    pub(super) store: Store,
    pub(super) partitions: ActorRef<PartitionSupervisorMessage>,
    pub(super) directory: Directory,
    pub(super) incarnation: String,
}

impl Takeover {
    pub(super) async fn run(
        self,
        take_over: Vec<(PartitionId, Option<Fence>)>,
        forget: Vec<String>,
        joined: Option<oneshot::Sender<()>>,
    ) {
        for chunk in take_over.chunks(FENCES_PER_TRANSACTION) {
            match self.take_over(chunk).await {
                Ok(guards) if guards.is_empty() => {}
                Ok(guards) => self.serve(guards).await,
                Err(error) => {
                    tracing::warn!(%error, "partitions could not be taken over; will try again");
                    break;
                }
            }
        }
        for incarnation in forget {
            let until = Instant::now() + TAKEOVER_TIMEOUT;
            let is_removed = remove_node(&self.store, &incarnation, until).await.is_ok();
            tracing::info!(incarnation, is_removed, "a silent node is forgotten");
        }
        if let Some(joined) = joined {
            // The start of the node may have timed out.
            let _ = joined.send(());
        }
    }

    async fn take_over(
        &self,
        chunk: &[(PartitionId, Option<Fence>)],
    ) -> Result<Vec<Guard>, TableError> {
        let run = Run::idempotent(Instant::now() + TAKEOVER_TIMEOUT);
        let incarnation = &self.incarnation;
        let take_over = self.store.run(run, |tx| {
            Box::pin(async move {
                let mut guards = Vec::with_capacity(chunk.len());
                for (partition, seen) in chunk {
                    let taken = fence::take_over(tx, *partition, seen.as_ref(), incarnation);
                    guards.extend(taken.await?);
                }
                Ok(guards)
            })
        });
        take_over.await
    }

    async fn serve(&self, guards: Vec<Guard>) {
        metrics::counter!("triggers_partition_takeovers_total").increment(guards.len() as u64);
        tracing::info!(count = guards.len(), "partitions are taken over");
        let fences: Vec<_> =
            guards.iter().map(|guard| (guard.partition, guard.fence.clone())).collect();
        let (done, served) = oneshot::channel();
        // A partition supervisor that has stopped has ended the node.
        let _ = self.partitions.cast(PartitionSupervisorMessage::Serve(guards, Some(done)));
        let _ = timeout(TAKEOVER_TIMEOUT, served).await;
        self.directory.note(fences.iter().map(|(partition, fence)| (*partition, fence)));
    }
}
