//! The inbox actor: one per active tenant; every write of the tenant passes through it.
//!
//! Told by: the [`crate::Router`] (`Arrived`: requests wait beside the mailbox), its [`crate::delivery_attempt`] actors (`Write`), its own
//! tasks (`Loaded`, `Ordered`, `Committed`, `Settled`, `Failed`, `Unsettled`, `Slot`), ractor when an attempt is over. Tells: the
//! store, and each requester through its own channel, at once when its batch is durable. Supervised by its partition; it supervises the attempts that it has begun, and does not begin again
//! what failed: the store knows when it is due.
//! The logic is [`machine`]; this is the shell. The store is called from tasks of the shell, so that requests gather while
//! a commit is in flight. A crash drops the requests: their callers see an unknown outcome.
//! It is not a cache: nothing but the head and the counts is in memory.

pub(crate) mod batch;
pub(crate) mod dispatch;
pub(crate) mod handle;
pub(crate) mod machine;
pub(crate) mod message;
pub(crate) mod request;
pub(crate) mod signals;
#[cfg(test)]
mod tests;

use crate::delivery::Delivery;
use crate::delivery_attempt::{DeliveryAttempt, DeliveryAttemptArguments};
use crate::options::BrokerOptions;
use batch::{Batch, Committed, Finished};
use dispatch::{Dispatched, Dispatcher};
use handle::{Arrivals, Reply};
use machine::{BatchLimits, InboxEffect, InboxMachine};
use message::InboxMessage;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use request::BrokerError;
use signals::InboxSignals;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{SubscriptionId, TenantId, Timestamp};
use triggers_store::kv::{Fault, Ordered, Run, Store, StoreError};
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
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) delivery: Arc<Delivery>,
    /// Whether no webhook is to be begun.
    pub(crate) is_quiescing: Arc<AtomicBool>,
}

pub(crate) struct InboxState {
    arguments: Arc<InboxArguments>,
    machine: InboxMachine<Reply>,
    /// For when a tick is set.
    tick_at: Option<Timestamp>,
    /// The attempts under way.
    attempts: HashMap<ActorId, SubscriptionId>,
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
        let options = &arguments.options;
        let limits = BatchLimits {
            events_max: options.batch_events_max,
            bytes_max: options.batch_bytes_max,
            idempotency_retention: options.idempotency_retention,
            attempt_time: options.claim_time(),
            disable_after: options.delivery.disable_after,
            subscriptions_max: options.delivery.subscriptions_max,
        };
        let slots = arguments.delivery.permits.quiescing_with(arguments.is_quiescing.clone());
        let dispatcher = Dispatcher::new(options.delivery.dispatch_limits(), slots);
        let machine = InboxMachine::new(arguments.store.environment().clone(), limits, dispatcher);
        Ok(InboxState {
            arguments: Arc::new(arguments),
            machine,
            tick_at: None,
            attempts: HashMap::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<InboxMessage>,
        message: InboxMessage,
        state: &mut InboxState,
    ) -> Result<(), ActorProcessingErr> {
        let has_failed = matches!(
            message,
            InboxMessage::Failed(..) | InboxMessage::Unsettled(..) | InboxMessage::Loaded(Err(_))
        );
        let wait_min = if has_failed { TICK_WAIT_FAILED } else { TICK_WAIT_MIN };
        let ends_what_is_under_way = matches!(
            message,
            InboxMessage::Committed(..)
                | InboxMessage::Failed(..)
                | InboxMessage::Ordered(..)
                | InboxMessage::Settled
                | InboxMessage::Unsettled(..)
                | InboxMessage::Loaded(_)
        );
        if ends_what_is_under_way || !state.machine.is_under_way() {
            state.machine.arrive(state.arguments.arrivals.take());
        }
        let effects = match message {
            InboxMessage::Arrived => state.machine.proceed(),
            InboxMessage::Ordered(committed, finished) => {
                state.machine.ordered(*committed, finished)
            }
            InboxMessage::Settled => state.machine.settled(),
            InboxMessage::Unsettled(batch, error) => {
                tracing::warn!(tenant = %state.arguments.tenant, %error, "a batch failed");
                state.machine.lost(*batch, error)
            }
            InboxMessage::Write(request) => state.machine.submit(request),
            InboxMessage::Loaded(result) => state.machine.loaded(result.map_err(BrokerError::from)),
            InboxMessage::Committed(committed, finished) => {
                state.machine.committed(*committed, finished)
            }
            InboxMessage::Failed(batch, error) => {
                tracing::warn!(tenant = %state.arguments.tenant, %error, "a batch failed");
                state.machine.failed(*batch, error)
            }
            InboxMessage::Tick => {
                state.tick_at = None;
                state.machine.tick()
            }
            InboxMessage::Slot(slot) => state.machine.granted(slot),
            InboxMessage::AttemptLost(subscription) => state.machine.attempt_ended(subscription),
            // The supervisor rebuilds the inbox from the store, where the result is, if there is one.
            InboxMessage::Lost => return Err("a task of the inbox ended without a result".into()),
        };
        state.perform(&myself, effects).await;
        state.set_tick(&myself, wait_min);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<InboxMessage>,
        event: SupervisionEvent,
        state: &mut InboxState,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match &event {
            SupervisionEvent::ActorTerminated(actor, ..) => actor.get_id(),
            SupervisionEvent::ActorFailed(actor, error) => {
                metrics::counter!("triggers_delivery_attempt_failures_total").increment(1);
                tracing::error!(tenant = %state.arguments.tenant, %error, "an attempt failed; it comes due again");
                actor.get_id()
            }
            _ => return Ok(()),
        };
        if let Some(subscription) = state.attempts.remove(&ended) {
            let effects = state.machine.attempt_ended(subscription);
            state.perform(&myself, effects).await;
            state.set_tick(&myself, TICK_WAIT_MIN);
        }
        Ok(())
    }
}

impl InboxState {
    /// Sets a timer for the next thing to do, unless there is one that is early enough.
    fn set_tick(&mut self, myself: &ActorRef<InboxMessage>, wait_min: Duration) {
        self.arguments.signals.set_next(self.machine.next_due(), self.machine.attachment());
        let Some(next) = self.machine.next_tick() else { return };
        if self.tick_at.is_some_and(|at| at <= next) {
            return;
        }
        let wait = next.since(self.arguments.store.environment().now()).max(wait_min);
        self.tick_at = Some(next);
        drop(myself.send_after(wait, || InboxMessage::Tick));
    }

    async fn perform(&mut self, myself: &ActorRef<InboxMessage>, effects: Vec<InboxEffect<Reply>>) {
        let arguments = &self.arguments;
        for effect in effects {
            match effect {
                InboxEffect::Load => drop(tokio::spawn(load(myself.clone(), arguments.clone()))),
                InboxEffect::Commit(batch) => {
                    drop(tokio::spawn(commit(myself.clone(), arguments.clone(), batch)))
                }
                InboxEffect::Reply(reply, answer) => reply.send(answer),
                InboxEffect::AwaitSlot => {
                    drop(tokio::spawn(await_slot(myself.clone(), arguments.clone())))
                }
                InboxEffect::Deliver(dispatched) => {
                    deliver(myself, arguments, &mut self.attempts, dispatched).await;
                }
            }
        }
    }
}

/// Starts an actor for each attempt. One that does not start is over at once, and comes due again.
async fn deliver(
    myself: &ActorRef<InboxMessage>,
    arguments: &Arc<InboxArguments>,
    attempts: &mut HashMap<ActorId, SubscriptionId>,
    dispatched: Dispatched,
) {
    let Dispatched { subscription, attempts: begun, until } = dispatched;
    for (claimed, slot) in begun {
        let attempt = DeliveryAttemptArguments {
            inbox: myself.clone(),
            sender: arguments.delivery.sender.clone(),
            environment: arguments.store.environment().clone(),
            subscription: subscription.clone(),
            claimed,
            until,
            send_timeout: arguments.options.delivery.attempt_timeout,
            _slot: slot,
        };
        match DeliveryAttempt::spawn_linked(None, DeliveryAttempt, attempt, myself.get_cell()).await
        {
            Ok((actor, _)) => drop(attempts.insert(actor.get_id(), subscription.id)),
            Err(error) => {
                tracing::error!(tenant = %arguments.tenant, %error, "an attempt did not start; it comes due again");
                // Its place in the machine is given back as that of one that has ended.
                let _ = myself.cast(InboxMessage::AttemptLost(subscription.id));
            }
        }
    }
}

async fn await_slot(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>) {
    let slot = arguments.delivery.permits.acquire().await;
    // An inbox that is gone needs none.
    let _ = inbox.cast(InboxMessage::Slot(slot));
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
    // In the pipeline, so that what is in order and not yet durable is waited for: ids were minted there.
    let ordered = |_: &_| -> Ordered { Box::new(|| {}) };
    let load = arguments
        .store
        .run_pipelined(run, ordered, |tx| Box::pin(tables::inbox::load(tx, guard, keys)));
    let loaded = load.await.map_err(|error| match error {
        // It changes nothing, so nothing of it is unknown.
        TableError::Store(StoreError::MaybeCommitted(reason)) => {
            StoreError::fatal(Fault::DeadlinePassed, reason).into()
        }
        other => other,
    });
    promise.keep(InboxMessage::Loaded(loaded));
}

async fn commit(
    inbox: ActorRef<InboxMessage>,
    arguments: Arc<InboxArguments>,
    batch: Batch<Reply>,
) {
    let place = Arc::new(Place::new(inbox.clone()));
    let promise = Promise(Some(inbox));
    let result = run_batch(&arguments, &batch, &place).await;
    let is_ordered = place.is_taken();
    let message = match result {
        Ok(mut applied) => {
            metrics::histogram!("triggers_inbox_batch_events").record(batch.events() as f64);
            arguments.signals.note(arguments.store.environment().monotonic(), &applied.outcomes);
            let due = applied.due.values().copied().chain(applied.first_lease_end.flatten());
            if let Some(first) = due.min() {
                arguments.signals.expect(first);
            }
            let is_news = applied.outcomes.iter().any(is_news);
            let message = if is_ordered {
                InboxMessage::Settled
            } else {
                let (mut committed, finished) = batch.told(&applied);
                committed.news = batch.news(&mut applied.outcomes);
                InboxMessage::Committed(Box::new(committed), finished)
            };
            if is_news {
                arguments.signals.committed.notify_waiters();
            }
            // Before the inbox goes on: who is answered may be back by then, and is in the next batch.
            for (reply, answer) in batch.answers(&applied.outcomes) {
                reply.send(answer);
            }
            message
        }
        Err(error) if is_ordered => InboxMessage::Unsettled(Box::new(batch), error),
        Err(error) => InboxMessage::Failed(Box::new(batch), error),
    };
    promise.keep(message);
}

/// Tells the inbox that a batch has its place in the order of commits: once, and not after the batch's end.
struct Place {
    inbox: ActorRef<InboxMessage>,
    is_taken: Mutex<bool>,
}

impl Place {
    fn new(inbox: ActorRef<InboxMessage>) -> Self {
        Self { inbox, is_taken: Mutex::new(false) }
    }

    /// What is called when the batch has its place.
    fn taker(self: &Arc<Self>, committed: Committed, finished: Finished) -> Ordered {
        let place = self.clone();
        Box::new(move || {
            let mut is_taken = place.lock();
            if !std::mem::replace(&mut is_taken, true) {
                // An inbox that is gone begins nothing more.
                let _ = place.inbox.cast(InboxMessage::Ordered(Box::new(committed), finished));
            }
        })
    }

    /// Whether the inbox was told. It is not told from now on.
    fn is_taken(&self) -> bool {
        std::mem::replace(&mut self.lock(), true)
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // Nothing panics while holding the lock.
        self.is_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there may be more for consumers now than before.
fn is_news(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Appended(_) | Outcome::Changed(_) | Outcome::Expired(1..))
}

async fn run_batch(
    arguments: &InboxArguments,
    batch: &Batch<Reply>,
    place: &Arc<Place>,
) -> Result<Applied, TableError> {
    let _slot = arguments.commit_slots.acquire().await.expect("the semaphore is never closed");
    if batch.is_abandoned() {
        let reason = "nobody waits for the batch any more";
        return Err(StoreError::fatal(Fault::DeadlinePassed, reason).into());
    }
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    let ordered = |applied: &Applied| -> Ordered {
        if !batch.is_pipelined() {
            return Box::new(|| {});
        }
        let (committed, finished) = batch.told(applied);
        place.taker(committed, finished)
    };
    let applied = arguments
        .store
        .run_pipelined(run, ordered, |tx| {
            Box::pin(tables::batch::apply(tx, guard, keys, batch.last_id, &batch.commands))
        })
        .await;
    if applied.is_err() && is_planted(Bug::AnsweredBeforeCommit) {
        return batch.supposed().map_or(applied, Ok);
    }
    applied
}
