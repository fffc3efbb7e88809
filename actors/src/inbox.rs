//! The inbox actor: one per active tenant; every write of the tenant passes through it.
//!
//! Told by: the [`crate::Router`] (`Write`), its own tasks (`Loaded`, `Committed`, `Failed`). Tells: the store, and each
//! requester through its own channel, at once when its batch is durable. Supervised by its partition.
//! The logic is [`machine`]; this is the shell. The store is called from tasks of the shell, so that requests gather while
//! a commit is in flight. A crash drops the requests: their callers see an unknown outcome.
//! It is not a cache: nothing but the head and the counts is in memory.

pub(crate) mod handle;
pub(crate) mod machine;
pub(crate) mod message;
pub(crate) mod rates;
pub(crate) mod request;
#[cfg(test)]
mod tests;

use crate::options::BrokerOptions;
use handle::Reply;
use machine::{Batch, BatchLimits, InboxEffect, InboxMachine};
use message::InboxMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rates::Rates;
use request::{Answer, BrokerError};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use triggers_protocol::TenantId;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::fence::Guard;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::{self, TableError, batch};

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
    pub(crate) rates: Arc<Rates>,
}

pub(crate) struct InboxState {
    arguments: Arc<InboxArguments>,
    machine: InboxMachine<Reply>,
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
        Ok(InboxState { arguments: Arc::new(arguments), machine })
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
        };
        for effect in effects {
            perform(&myself, &state.arguments, effect);
        }
        Ok(())
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
            arguments.rates.note(arguments.store.environment().monotonic(), &applied.outcomes);
            let (committed, finished, answers) = batch.finish(&applied.outcomes, applied.delta);
            // The inbox hears of it first: a client that repeats its idempotency key at once must find it free.
            let _ = inbox.cast(InboxMessage::Committed(committed, finished));
            return answer_all(answers);
        }
        Err(error) => InboxMessage::Failed(Box::new(batch), error),
    };
    // An inbox that is gone drops the batch with its requests, which tells their callers that the outcome is unknown.
    let _ = inbox.cast(message);
}

async fn run_batch(arguments: &InboxArguments, batch: &Batch<Reply>) -> Result<batch::Applied, TableError> {
    let _slot = arguments.commit_slots.acquire().await.expect("the semaphore is never closed");
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    arguments.store.run(run, |tx| Box::pin(batch::apply(tx, guard, keys, batch.last_id, &batch.commands))).await
}

fn answer_all(answers: Vec<(Reply, Answer)>) {
    for (reply, answer) in answers {
        reply.send(answer);
    }
}
