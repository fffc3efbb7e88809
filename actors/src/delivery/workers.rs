//! The delivery workers: long-lived actors that make the attempts to send webhooks.
//!
//! Supervised by [`DeliverySupervisor`], which [`crate::node`] supervises. An inbox gives each
//! attempt to a worker that is idle, or to a new one. The worker is the actor of the attempt while
//! the attempt runs, and then takes the next one, of any tenant. A webhook that waits for a later
//! attempt is a row (`docs/adr/0006-retries-are-rows.md`).
//! Invariants: `WORKERS-1` a worker makes one attempt at a time; `WORKERS-2` a worker is idle
//! before its attempt frees the permit, so there are never more workers than permits, except for
//! those that are ending; `WORKERS-3` a panic ends one worker and its attempt alone; `WORKERS-4`
//! workers that were not needed for [`UNUSED_PERIOD`] stop.

use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr, SupervisionEvent,
};
use ractor_cluster::RactorMessage;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_protocol::lock::lock;
use triggers_store::kv::BoxFuture;

/// Time after which workers that were not needed meanwhile stop.
const UNUSED_PERIOD: Duration = Duration::from_secs(120);

/// An attempt to send a webhook. It reports its end and frees its permit when it is dropped.
pub(crate) trait WorkerAttempt: Send + 'static {
    /// Makes the attempt; called once.
    fn run(&mut self) -> BoxFuture<'_, ()>;
}

/// The delivery workers of a node; cheap to clone.
#[derive(Clone)]
pub(crate) struct DeliveryWorkers {
    supervisor: ActorCell,
    idle: Arc<Mutex<IdleWorkers>>,
}

/// The workers without an attempt.
#[derive(Default)]
struct IdleWorkers {
    /// The one that was used last is the last.
    workers: Vec<ActorRef<WorkerMessage>>,
    /// The fewest idle workers since the supervisor last looked: so many were not needed.
    unused: usize,
}

impl IdleWorkers {
    fn pop(&mut self) -> Option<ActorRef<WorkerMessage>> {
        let worker = self.workers.pop();
        self.unused = self.unused.min(self.workers.len());
        worker
    }

    /// Removes and returns the workers that were not needed since the last call.
    fn remove_unused(&mut self) -> Vec<ActorRef<WorkerMessage>> {
        let removed = self.workers.drain(..self.unused).collect();
        self.unused = self.workers.len();
        removed
    }
}

impl DeliveryWorkers {
    /// Starts the supervisor of the workers.
    pub(crate) async fn start(root: ActorCell) -> Result<Self, SpawnErr> {
        let idle = Arc::<Mutex<IdleWorkers>>::default();
        let spawned =
            DeliverySupervisor::spawn_linked(None, DeliverySupervisor, idle.clone(), root);
        let (supervisor, _) = spawned.await?;
        Ok(Self { supervisor: supervisor.get_cell(), idle })
    }

    /// Gives an attempt to a worker. An attempt that cannot be made reports its end at once.
    pub(crate) fn make(&self, attempt: Box<dyn WorkerAttempt>) {
        let idle = lock(&self.idle).pop();
        let Some(worker) = idle.or_else(|| self.spawn()) else { return };
        // A worker that is gone drops the attempt, which reports its end.
        let _ = worker.cast(WorkerMessage::Attempt(attempt));
    }

    fn spawn(&self) -> Option<ActorRef<WorkerMessage>> {
        let (worker, supervisor) = (DeliveryWorker(self.idle.clone()), self.supervisor.clone());
        match ActorRuntime::spawn_linked_instant(None, worker, (), supervisor) {
            Ok((worker, _)) => Some(worker),
            Err(error) => {
                tracing::error!(%error, "a delivery worker did not start");
                None
            }
        }
    }
}

/// Supervises the delivery workers; it does not replace one that fails, because attempts start
/// those that they need.
struct DeliverySupervisor;

#[derive(RactorMessage)]
enum DeliverySupervisorMessage {
    /// Stop the workers that were not needed since the last such message.
    StopUnused,
}

impl Actor for DeliverySupervisor {
    type Msg = DeliverySupervisorMessage;
    type State = Arc<Mutex<IdleWorkers>>;
    type Arguments = Arc<Mutex<IdleWorkers>>;

    async fn pre_start(
        &self,
        myself: ActorRef<DeliverySupervisorMessage>,
        idle: Arc<Mutex<IdleWorkers>>,
    ) -> Result<Arc<Mutex<IdleWorkers>>, ActorProcessingErr> {
        drop(myself.send_interval(UNUSED_PERIOD, || DeliverySupervisorMessage::StopUnused));
        Ok(idle)
    }

    async fn handle(
        &self,
        _: ActorRef<DeliverySupervisorMessage>,
        message: DeliverySupervisorMessage,
        idle: &mut Arc<Mutex<IdleWorkers>>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DeliverySupervisorMessage::StopUnused => {
                let unused = lock(idle).remove_unused();
                unused.iter().for_each(|worker| worker.stop(None));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<DeliverySupervisorMessage>,
        event: SupervisionEvent,
        _: &mut Arc<Mutex<IdleWorkers>>,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            metrics::counter!("triggers_delivery_attempt_failures_total").increment(1);
            tracing::error!(%error, "a delivery worker failed with its attempt");
        }
        Ok(())
    }
}

/// Makes attempts, one after the other.
struct DeliveryWorker(Arc<Mutex<IdleWorkers>>);

#[derive(RactorMessage)]
enum WorkerMessage {
    /// Make this attempt.
    Attempt(Box<dyn WorkerAttempt>),
}

impl Actor for DeliveryWorker {
    type Msg = WorkerMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<WorkerMessage>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMessage>,
        message: WorkerMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let WorkerMessage::Attempt(mut attempt) = message;
        attempt.run().await;
        // Before the permit is free, so that the attempt that takes it finds this worker.
        lock(&self.0).workers.push(myself);
        drop(attempt);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
