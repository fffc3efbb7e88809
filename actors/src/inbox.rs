//! The inbox actor: one per active tenant; every write of the tenant passes through it.
//!
//! This is the shell around [`machine`], which makes the decisions. Requests of the
//! [`crate::Router`] wait in [`handle::Arrivals`]. Tasks of the shell load the tenant, commit
//! batches and answer callers, so requests gather while a commit is in flight. The partition
//! supervises the inbox. Delivery workers make its attempts, which end when the inbox stops.
//! Nothing restarts an attempt, because the store has the time of the next one. After a crash,
//! callers see an unknown outcome. It is not a cache: only the head, the counts and the schedule of
//! webhooks are in memory.

pub(crate) mod batch;
pub(crate) mod delivery_attempt;
pub(crate) mod dispatch;
pub(crate) mod handle;
pub(crate) mod machine;
pub(crate) mod message;
mod positions;
pub(crate) mod request;
pub(crate) mod signals;
#[cfg(test)]
mod tests;

use crate::delivery::Delivery;
use crate::error::BrokerError;
use crate::options::BrokerOptions;
use batch::{Finished, InboxBatch};
use delivery_attempt::{AttemptReports, DeliveryAttempt, EndReport};
use dispatch::{Dispatched, Dispatcher};
use handle::Arrivals;
use machine::{BatchLimits, InboxEffect, InboxMachine};
use message::InboxMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use signals::InboxSignals;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use triggers_protocol::lock::lock;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{TenantId, Timestamp};
use triggers_store::kv::{Fault, Ordered, Run, Store, StoreError};
use triggers_store::tables::batch::Applied;
use triggers_store::tables::fence::Guard;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::{self, TableError};

/// Shortest wait of the timer.
const TIMER_WAIT_MIN: Duration = Duration::from_millis(20);
/// Shortest wait of the timer after a failure.
const TIMER_WAIT_FAILED: Duration = Duration::from_secs(1);

/// The type of the actor.
pub(crate) struct Inbox;

/// What an inbox needs to start.
pub(crate) struct InboxArguments {
    pub(crate) tenant: TenantId,
    pub(crate) guard: Arc<Guard>,
    pub(crate) keys: Arc<TenantKeys>,
    pub(crate) store: Store,
    pub(crate) options: Arc<BrokerOptions>,
    /// Permits for the commits in flight on this node, given in the order of the requests.
    pub(crate) commit_permits: Arc<Semaphore>,
    pub(crate) signals: Arc<InboxSignals>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) delivery: Arc<Delivery>,
    /// True while the partition waits to be transferred: no attempt may begin.
    pub(crate) is_quiescing: Arc<AtomicBool>,
}

pub(crate) struct InboxShell {
    arguments: Arc<InboxArguments>,
    machine: InboxMachine,
    /// Time at which the armed timer fires.
    timer_at: Option<Timestamp>,
    reports: Arc<AttemptReports>,
}

impl Drop for InboxShell {
    fn drop(&mut self) {
        self.reports.close();
    }
}

impl Actor for Inbox {
    type Msg = InboxMessage;
    type State = InboxShell;
    type Arguments = InboxArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<InboxMessage>,
        arguments: InboxArguments,
    ) -> Result<InboxShell, ActorProcessingErr> {
        let options = &arguments.options;
        let limits = BatchLimits::from(&**options);
        let (tenant, is_quiescing) = (arguments.tenant.clone(), arguments.is_quiescing.clone());
        let permits = arguments.delivery.permits.of(tenant, is_quiescing);
        let dispatcher = Dispatcher::new(options.delivery.dispatch_limits(), permits);
        let machine = InboxMachine::new(arguments.store.environment().clone(), limits, dispatcher);
        Ok(InboxShell {
            arguments: Arc::new(arguments),
            machine,
            timer_at: None,
            reports: Arc::new(AttemptReports::new(myself)),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<InboxMessage>,
        message: InboxMessage,
        state: &mut InboxShell,
    ) -> Result<(), ActorProcessingErr> {
        use InboxMessage::{
            Arrived, AttemptsReported, Committed, DurabilityUnknown, Durable, Failed, Loaded,
            Ordered, Permit, TaskLost, Timer,
        };
        let has_failed = matches!(message, Failed(..) | DurabilityUnknown(..) | Loaded(Err(_)));
        let wait_min = if has_failed { TIMER_WAIT_FAILED } else { TIMER_WAIT_MIN };
        let ends_load_or_batch =
            has_failed || matches!(message, Committed(..) | Ordered(..) | Durable | Loaded(Ok(_)));
        if ends_load_or_batch || !state.machine.is_under_way() {
            state.machine.arrive(state.arguments.arrivals.drain());
        }
        if ends_load_or_batch || matches!(message, AttemptsReported) {
            state.read_reports();
        }
        if let Failed(_, error) | DurabilityUnknown(_, error) = &message {
            tracing::warn!(tenant = %state.arguments.tenant, %error, "a batch failed");
        }
        let machine = &mut state.machine;
        let effects = match message {
            Arrived | AttemptsReported => machine.proceed(),
            Loaded(result) => machine.loaded(result.map_err(BrokerError::from)),
            Committed(applied, finished) => machine.committed(*applied, finished),
            Failed(batch, error) => machine.failed(*batch, error),
            Ordered(applied, finished) => machine.ordered(*applied, finished),
            Durable => machine.durable(),
            DurabilityUnknown(batch, error) => machine.durability_unknown(*batch, error),
            Timer => {
                state.timer_at = None;
                machine.timer()
            }
            Permit(permit) => machine.granted(permit),
            // The supervisor rebuilds the inbox from the store, which has the result if there is
            // one.
            TaskLost => return Err("a task of the inbox ended without a result".into()),
        };
        state.perform(&myself, effects);
        state.set_timer(&myself, wait_min);
        Ok(())
    }
}

impl InboxShell {
    /// Passes the reports of the attempts to the machine.
    fn read_reports(&mut self) {
        let reported = self.reports.drain();
        for _ in reported.ended.iter().filter(|ended| ended.has_panicked) {
            let tenant = &self.arguments.tenant;
            tracing::error!(%tenant, "an attempt failed; it comes due again");
        }
        self.machine.attempts_reported(reported);
    }

    /// Arms the timer for the next due time, unless an armed one fires early enough.
    fn set_timer(&mut self, myself: &ActorRef<InboxMessage>, wait_min: Duration) {
        self.arguments.signals.set_next(self.machine.next_due(), self.machine.attachment());
        let Some(next) = self.machine.next_timer() else { return };
        if self.timer_at.is_some_and(|at| at <= next) {
            return;
        }
        let wait = next.since(self.arguments.store.environment().steady()).max(wait_min);
        self.timer_at = Some(next);
        drop(myself.send_after(wait, || InboxMessage::Timer));
    }

    fn perform(&mut self, myself: &ActorRef<InboxMessage>, effects: Vec<InboxEffect>) {
        let arguments = &self.arguments;
        for effect in effects {
            match effect {
                InboxEffect::Load => drop(tokio::spawn(load(myself.clone(), arguments.clone()))),
                InboxEffect::Commit(batch) => {
                    drop(tokio::spawn(commit(myself.clone(), arguments.clone(), batch)))
                }
                InboxEffect::Reject(request, error) => request.operation.reject(error),
                InboxEffect::AwaitPermit => {
                    drop(tokio::spawn(await_permit(myself.clone(), arguments.clone())))
                }
                InboxEffect::Deliver(dispatched) => {
                    deliver(arguments, &self.reports, dispatched);
                }
            }
        }
    }
}

/// Gives each attempt to a delivery worker.
fn deliver(arguments: &Arc<InboxArguments>, reports: &Arc<AttemptReports>, dispatched: Dispatched) {
    let Dispatched { subscription, attempts: begun, until } = dispatched;
    for (claimed, permit) in begun {
        let attempt = DeliveryAttempt {
            delivery: arguments.delivery.clone(),
            environment: arguments.store.environment().clone(),
            subscription: subscription.clone(),
            claimed,
            until,
            send_timeout: arguments.options.delivery.attempt_timeout,
            end: EndReport::new(reports.clone(), subscription.id, permit),
        };
        arguments.delivery.workers.make(Box::new(attempt));
    }
}

async fn await_permit(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>) {
    let permit = arguments.delivery.permits.acquire(&arguments.tenant).await;
    // An inbox that is gone needs no permit.
    let _ = inbox.cast(InboxMessage::Permit(permit));
}

/// Reports to the inbox if its task ends without a result, as it does in a panic.
struct CompletionGuard(Option<ActorRef<InboxMessage>>);

impl CompletionGuard {
    fn report(mut self, message: InboxMessage) {
        if let Some(inbox) = self.0.take() {
            // An inbox that is gone drops the message, which tells callers that the outcome is
            // unknown.
            let _ = inbox.cast(message);
        }
    }
}

impl Drop for CompletionGuard {
    fn drop(&mut self) {
        if let Some(inbox) = self.0.take() {
            let _ = inbox.cast(InboxMessage::TaskLost);
        }
    }
}

async fn load(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>) {
    let completion = CompletionGuard(Some(inbox));
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    // Pipelined, so that the load sees the ids of ordered commits that are not durable yet.
    let ordered = |_: &_| -> Ordered { Box::new(|| {}) };
    let load = arguments
        .store
        .run_pipelined(run, ordered, |tx| Box::pin(tables::inbox::load(tx, guard, keys)));
    let loaded = load.await.map_err(|error| match error {
        // A load changes nothing, so its outcome is not unknown.
        TableError::Store(StoreError::MaybeCommitted(reason)) => {
            StoreError::fatal(Fault::DeadlinePassed, reason).into()
        }
        other => other,
    });
    completion.report(InboxMessage::Loaded(loaded));
}

async fn commit(inbox: ActorRef<InboxMessage>, arguments: Arc<InboxArguments>, batch: InboxBatch) {
    let order = Arc::new(OrderNotice { inbox: inbox.clone(), is_closed: Mutex::new(false) });
    let completion = CompletionGuard(Some(inbox));
    let result = run_batch(&arguments, &batch, &order).await;
    let is_ordered = order.close();
    let message = match result {
        Ok(applied) => {
            let signals = &arguments.signals;
            metrics::histogram!("triggers_inbox_batch_events").record(batch.events() as f64);
            signals.note(arguments.store.environment().monotonic(), applied.activity);
            let due = applied.due.values().copied().chain(applied.first_lease_end.flatten());
            if let Some(first) = due.min() {
                signals.expect(first);
            }
            if applied.activity.made_available > 0 {
                signals.committed.notify_waiters();
            }
            let message = if is_ordered {
                InboxMessage::Durable
            } else {
                InboxMessage::Committed(Box::new(applied), batch.finished())
            };
            // Before the report: the answered caller's next request may go into the next batch.
            batch.answer();
            message
        }
        Err(error) if is_ordered => InboxMessage::DurabilityUnknown(Box::new(batch), error),
        Err(error) => InboxMessage::Failed(Box::new(batch), error),
    };
    completion.report(message);
}

/// Tells the inbox that a batch is ordered: once, and never after the batch has ended.
struct OrderNotice {
    inbox: ActorRef<InboxMessage>,
    is_closed: Mutex<bool>,
}

impl OrderNotice {
    /// The callback that runs once the batch is ordered.
    fn callback(self: &Arc<Self>, applied: Applied, finished: Finished) -> Ordered {
        let notice = self.clone();
        Box::new(move || {
            let mut is_closed = lock(&notice.is_closed);
            if !std::mem::replace(&mut *is_closed, true) {
                // An inbox that is gone needs no notice.
                let _ = notice.inbox.cast(InboxMessage::Ordered(Box::new(applied), finished));
            }
        })
    }

    /// Sends no notice from now on; whether one was sent.
    fn close(&self) -> bool {
        std::mem::replace(&mut *lock(&self.is_closed), true)
    }
}

async fn run_batch(
    arguments: &InboxArguments,
    batch: &InboxBatch,
    order: &Arc<OrderNotice>,
) -> Result<Applied, TableError> {
    let _permit = arguments.commit_permits.acquire().await.expect("the semaphore is never closed");
    if batch.is_abandoned() {
        let reason = "no caller waits for the batch any more";
        return Err(StoreError::fatal(Fault::DeadlinePassed, reason).into());
    }
    let run = Run::idempotent(Instant::now() + arguments.options.commit_timeout);
    let (guard, keys) = (&arguments.guard, &arguments.keys);
    let ordered = |applied: &Applied| -> Ordered {
        if !batch.is_pipelined() {
            return Box::new(|| {});
        }
        order.callback(applied.clone(), batch.finished())
    };
    let applied = arguments
        .store
        .run_pipelined(run, ordered, |tx| Box::pin(batch.apply(tx, guard, keys)))
        .await;
    if applied.is_err() && is_planted(Bug::AnsweredBeforeCommit) {
        return batch.supposed().map_or(applied, Ok);
    }
    applied
}
