//! The inbox actor: one per active tenant; every write of the tenant passes through it.
//!
//! Told by: the [`crate::Router`] (`Write`), its own tasks (`Loaded`, `Committed`, `Failed`). Tells: the store, and each
//! requester through its own channel, at once when its batch is durable. Supervised by its partition.
//! The logic is [`machine`]; this is the shell. The store is called from tasks of the shell, so that requests gather while
//! a commit is in flight. A crash drops the requests: their callers see an unknown outcome.
//! It is not a cache: nothing but the head and the counts is in memory.

pub(crate) mod batch;
pub(crate) mod handle;
pub(crate) mod machine;
pub(crate) mod message;
pub(crate) mod request;
pub(crate) mod signals;
#[cfg(test)]
mod tests;

use crate::options::BrokerOptions;
use batch::Batch;
use handle::Reply;
use machine::{BatchLimits, InboxEffect, InboxMachine};
use message::InboxMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use request::{Answer, BrokerError};
use signals::InboxSignals;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use triggers_protocol::{TenantId, Timestamp};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::batch::Applied;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::{self, TableError};

/// A tick that could do nothing is not repeated sooner than this.
const TICK_WAIT_MIN: Duration = Duration::from_millis(20);

/// The shell's type; its state has everything.
pub(crate) struct Inbox;

/// What an inbox needs to start.
pub(crate) struct InboxArguments {
    pub(crate) tenant: TenantId,
    pub(crate) guard: Arc<Guard>,
    pub(crate) keys: Arc<TenantKeys>,
    pub(crate) store: Store,
    pub(crate) options: Arc<BrokerOptions>,
    /// Places for commits under way on this node, given in the order of asking, so that tenants take turns.
    pub(crate) commit_slots: Arc<Semaphore>,
    pub(crate) signals: Arc<InboxSignals>,
}

pub(crate) struct InboxState {
    arguments: Arc<InboxArguments>,
    machine: InboxMachine<Reply>,
    /// For when a tick is set.
    tick_at: Option<Timestamp>,
}

impl Actor for Inbox {
    type Msg = InboxMessage;
    type State = InboxState;
    type Arguments = InboxArguments;

    async fn pre_start(
        &self,
        _: ActorRef<InboxMessage>,
        arguments: InboxArguments,
    ) -> Result<InboxState, ActorProcessingErr> {
        let limits = BatchLimits {
            events_max: arguments.options.batch_events_max,
            bytes_max: arguments.options.batch_bytes_max,
            idempotency_retention: arguments.options.idempotency_retention,
        };
        let machine = InboxMachine::new(arguments.store.environment().clone(), limits);
        Ok(InboxState { arguments: Arc::new(arguments), machine, tick_at: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<InboxMessage>,
        message: InboxMessage,
        state: &mut InboxState,
    ) -> Result<(), ActorProcessingErr> {
        let effects = match message {
            InboxMessage::Write(request) => state.machine.submit(request),
            InboxMessage::Loaded(result) => state.machine.loaded(result.map_err(BrokerError::from)),
            InboxMessage::Committed(committed, finished) => state.machine.committed(committed, finished),
            InboxMessage::Failed(batch, error) => {
                tracing::warn!(tenant = %state.arguments.tenant, %error, "a batch failed");
                state.machine.failed(*batch, error)
            }
            InboxMessage::Tick => {
                state.tick_at = None;
                state.machine.tick()
            }
        };
        for effect in effects {
            perform(&myself, &state.arguments, effect);
        }
        state.set_tick(&myself);
        Ok(())
    }
}

impl InboxState {
    /// Sets a timer for the end of the first lease, unless there is one that is early enough.
    fn set_tick(&mut self, myself: &ActorRef<InboxMessage>) {
        let first = self.machine.next_tick();
        self.arguments.signals.set_first_lease_end(first);
        let Some(end) = first else { return };
        if self.tick_at.is_some_and(|at| at <= end) {
            return;
        }
        let wait = end.since(self.arguments.store.environment().now()).max(TICK_WAIT_MIN);
        self.tick_at = Some(end);
        drop(myself.send_after(wait, || InboxMessage::Tick));
    }
}

fn perform(myself: &ActorRef<InboxMessage>, arguments: &Arc<InboxArguments>, effect: InboxEffect<Reply>) {
    match effect {
        InboxEffect::Load => drop(tokio::spawn(load(myself.clone(), arguments.clone()))),
        InboxEffect::Commit(batch) => drop(tokio::spawn(commit(myself.clone(), arguments.clone(), batch))),
        InboxEffect::Reply(reply, answer) => reply.send(answer),
    }
}

async fn load(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>) {
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    let loaded = arguments.store.run(run, |tx| Box::pin(tables::inbox::load(tx, guard, keys))).await;
    // An inbox that is gone needs no answer.
    let _ = inbox.cast(InboxMessage::Loaded(loaded));
}

async fn commit(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>, batch: Batch<Reply>) {
    let message = match run_batch(&arguments, &batch).await {
        Ok(applied) => {
            metrics::histogram!("triggers_inbox_batch_events").record(batch.events() as f64);
            arguments.signals.note(arguments.store.environment().monotonic(), &applied.outcomes);
            let (committed, finished, answers) = batch.finish(&applied);
            // The inbox hears of it first: a client that repeats its idempotency key at once must find it free.
            let _ = inbox.cast(InboxMessage::Committed(committed, finished));
            arguments.signals.committed.notify_waiters();
            return answer_all(answers);
        }
        Err(error) => InboxMessage::Failed(Box::new(batch), error),
    };
    // An inbox that is gone drops the batch with its requests, which tells their callers that the outcome is unknown.
    let _ = inbox.cast(message);
}

async fn run_batch(arguments: &InboxArguments, batch: &Batch<Reply>) -> Result<Applied, TableError> {
    let _slot = arguments.commit_slots.acquire().await.expect("the semaphore is never closed");
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    arguments.store.run(run, |tx| Box::pin(tables::batch::apply(tx, guard, keys, batch.last_id, &batch.commands))).await
}

fn answer_all(answers: Vec<(Reply, Answer)>) {
    for (reply, answer) in answers {
        reply.send(answer);
    }
}
