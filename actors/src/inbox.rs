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
use triggers_store::kv::{Fault, Run, Store, StoreError};
use triggers_store::tables::batch::{Applied, Outcome};
use triggers_store::tables::fence::Guard;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::{self, TableError};

/// A tick that is due already, because the last one failed or there was more to do, comes after this time.
const TICK_WAIT_MIN: Duration = Duration::from_millis(20);
/// The same after a failure.
const TICK_WAIT_FAILED: Duration = Duration::from_secs(1);

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
        let wait_min = if matches!(message, InboxMessage::Failed(..)) { TICK_WAIT_FAILED } else { TICK_WAIT_MIN };
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
            // The supervisor rebuilds the inbox from the store, where the result is, if there is one.
            InboxMessage::Lost => return Err("a task of the inbox ended without a result".into()),
        };
        for effect in effects {
            perform(&myself, &state.arguments, effect);
        }
        state.set_tick(&myself, wait_min);
        Ok(())
    }
}

impl InboxState {
    /// Sets a timer for the end of the first lease, unless there is one that is early enough.
    fn set_tick(&mut self, myself: &ActorRef<InboxMessage>, wait_min: Duration) {
        let first = self.machine.next_tick();
        self.arguments.signals.set_first_lease_end(first);
        let Some(end) = first else { return };
        if self.tick_at.is_some_and(|at| at <= end) {
            return;
        }
        let wait = end.since(self.arguments.store.environment().now()).max(wait_min);
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

/// Tells the inbox if its task ends without doing so, as it does in a panic.
struct Promise(Option<ActorRef<InboxMessage>>);

impl Promise {
    fn keep(mut self, message: InboxMessage) {
        if let Some(inbox) = self.0.take() {
            // An inbox that is gone drops what the message carries, which tells callers that the outcome is unknown.
            let _ = inbox.cast(message);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(inbox) = self.0.take() {
            let _ = inbox.cast(InboxMessage::Lost);
        }
    }
}

async fn load(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>) {
    let promise = Promise(Some(inbox));
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    let loaded = arguments.store.run(run, |tx| Box::pin(tables::inbox::load(tx, guard, keys))).await;
    promise.keep(InboxMessage::Loaded(loaded));
}

async fn commit(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>, batch: Batch<Reply>) {
    let promise = Promise(Some(inbox));
    let message = match run_batch(&arguments, &batch).await {
        Ok(applied) => {
            metrics::histogram!("triggers_inbox_batch_events").record(batch.events() as f64);
            arguments.signals.note(arguments.store.environment().monotonic(), &applied.outcomes);
            let (committed, finished, answers) = batch.finish(&applied);
            // The inbox hears of it first: a client that repeats its idempotency key at once must find it free.
            promise.keep(InboxMessage::Committed(committed, finished));
            if applied.outcomes.iter().any(is_news) {
                arguments.signals.committed.notify_waiters();
            }
            return answer_all(answers);
        }
        Err(error) => InboxMessage::Failed(Box::new(batch), error),
    };
    promise.keep(message);
}

/// Whether there may be more for consumers now than before.
fn is_news(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Appended(_) | Outcome::Changed(_) | Outcome::Expired(1..))
}

async fn run_batch(arguments: &InboxArguments, batch: &Batch<Reply>) -> Result<Applied, TableError> {
    let _slot = arguments.commit_slots.acquire().await.expect("the semaphore is never closed");
    if batch.is_abandoned() {
        let reason = "nobody waits for the batch any more";
        return Err(StoreError::fatal(Fault::DeadlinePassed, reason).into());
    }
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    arguments.store.run(run, |tx| Box::pin(tables::batch::apply(tx, guard, keys, batch.last_id, &batch.commands))).await
}

fn answer_all(answers: Vec<(Reply, Answer)>) {
    for (reply, answer) in answers {
        reply.send(answer);
    }
}
