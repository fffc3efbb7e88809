//! The partition actor: opens, closes and restarts the inboxes of one owned partition.
//!
//! Messages come from the router and the [`sweeper`] (`Open`), from its timers (`CloseIdle`,
//! `Wake`) and from its task that reads wake-up pointers (`Pointers`). Supervised by
//! [`crate::partition_supervisor`].
//! Invariants: `PARTITION-A-1` the inbox table has at most one open inbox of a tenant;
//! `PARTITION-A-2` an inbox is closed only through its admission, which closes only while nothing
//! is in flight; `PARTITION-A-3` requests of a tenant whose inbox fails too often are rejected
//! until the restart window has passed; other tenants are not affected.

mod agenda;
mod inbox_table;
mod routing;
mod sweeper;

pub(crate) use inbox_table::InboxTable;
pub(crate) use routing::{PartitionHandle, RoutingTable, ServedPartition};

use crate::admission::Admission;
use crate::delivery::Delivery;
use crate::error::BrokerError;
use crate::inbox::handle::{Arrivals, InboxHandle};
use crate::inbox::signals::InboxSignals;
use crate::inbox::{Inbox, InboxArguments};
use crate::options::BrokerOptions;
use crate::supervision::RestartIntensity;
use agenda::{Agenda, ENTRIES_READ_MAX};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use routing::PartitionMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use sweeper::{Sweeper, SweeperArguments, SweeperMessage};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use triggers_protocol::TenantId;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::inbox;
use triggers_store::tables::keys::TenantKeys;

/// Time between two checks for closed inboxes that have something due.
const WAKE_PERIOD: Duration = Duration::from_secs(1);
/// Inboxes opened at one such check.
const WAKES_MAX: usize = 100;

/// The type of the actor.
pub(crate) struct Partition;

/// What a partition needs to start. A partition that is restarted keeps all of it.
#[derive(Clone)]
pub(crate) struct PartitionArguments {
    pub(crate) served: ServedPartition,
    pub(crate) context: Arc<PartitionContext>,
}

/// What all partitions of a node share.
pub(crate) struct PartitionContext {
    pub(crate) store: Store,
    pub(crate) options: Arc<BrokerOptions>,
    /// One permit for each commit in flight.
    pub(crate) commit_permits: Arc<Semaphore>,
    pub(crate) delivery: Arc<Delivery>,
    /// Inboxes that one partition may have open.
    pub(crate) inboxes_max: usize,
}

pub(crate) struct PartitionState {
    arguments: PartitionArguments,
    failures: BTreeMap<TenantId, RestartIntensity>,
    agenda: Agenda,
}

impl PartitionArguments {
    /// The handle to the partition's actor.
    pub(crate) fn handle(&self, actor: ActorRef<PartitionMessage>) -> PartitionHandle {
        PartitionHandle { actor, served: self.served.clone() }
    }
}

impl Actor for Partition {
    type Msg = PartitionMessage;
    type State = PartitionState;
    type Arguments = PartitionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<PartitionMessage>,
        arguments: PartitionArguments,
    ) -> Result<PartitionState, ActorProcessingErr> {
        // The inboxes of a failed actor of this partition have ended with it.
        arguments.served.inboxes.close_all();
        let period = arguments.context.options.inbox_idle_timeout / 2;
        let period = period.max(Duration::from_millis(10));
        drop(myself.send_interval(period, || PartitionMessage::CloseIdle));
        drop(myself.send_interval(WAKE_PERIOD, || PartitionMessage::Wake));
        start_sweeper(&myself, &arguments).await?;
        Ok(PartitionState { arguments, failures: BTreeMap::new(), agenda: Agenda::default() })
    }

    async fn handle(
        &self,
        myself: ActorRef<PartitionMessage>,
        message: PartitionMessage,
        state: &mut PartitionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PartitionMessage::Open(tenant, reply) => {
                let opened = state.open(&myself, tenant).await;
                // The router may have stopped waiting; the inbox stays open for the next request.
                let _ = reply.send(opened);
            }
            PartitionMessage::CloseIdle => state.close_idle(),
            PartitionMessage::Wake => state.wake(&myself).await,
            PartitionMessage::Pointers(pointers) => state.agenda.read(pointers),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PartitionMessage>,
        event: SupervisionEvent,
        state: &mut PartitionState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error)
                if actor.is_message_type_of::<SweeperMessage>() == Some(true) =>
            {
                tracing::error!(%error, "a sweeper failed; it starts again");
                start_sweeper(&myself, &state.arguments).await?;
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                state.inbox_failed(&actor, &error.to_string());
            }
            SupervisionEvent::ActorTerminated(actor, ..) => {
                drop(state.arguments.served.inboxes.remove_actor(actor.get_id()));
            }
            _ => {}
        }
        Ok(())
    }
}

impl PartitionState {
    fn now(&self) -> Duration {
        self.arguments.context.store.environment().monotonic()
    }

    async fn open(
        &mut self,
        myself: &ActorRef<PartitionMessage>,
        tenant: TenantId,
    ) -> Result<Arc<InboxHandle>, BrokerError> {
        let inboxes = &self.arguments.served.inboxes;
        if let Some(open) = inboxes.get(&tenant) {
            return Ok(open);
        }
        let now = self.now();
        if self.failures.get_mut(&tenant).is_some_and(|failures| !failures.allows(now)) {
            return Err(BrokerError::NodeBusy);
        }
        if inboxes.len() >= self.arguments.context.inboxes_max {
            let (closed, inbox) =
                inboxes.close_least_recently_used().ok_or(BrokerError::NodeBusy)?;
            if let Some(next) = inbox.signals.next() {
                self.agenda.note(next, closed);
            }
        }
        let handle = Arc::new(self.spawn(myself, &tenant).await?);
        self.arguments.served.inboxes.insert(tenant, handle.clone());
        Ok(handle)
    }

    async fn spawn(
        &self,
        myself: &ActorRef<PartitionMessage>,
        tenant: &TenantId,
    ) -> Result<InboxHandle, BrokerError> {
        let PartitionArguments { served, context } = &self.arguments;
        let options = &context.options;
        let signals = Arc::new(InboxSignals::new());
        let arrivals = Arc::<Arrivals>::default();
        let arguments = InboxArguments {
            tenant: tenant.clone(),
            guard: served.guard.clone(),
            keys: Arc::new(TenantKeys::new(served.guard.partition, tenant)),
            store: context.store.clone(),
            options: options.clone(),
            commit_permits: context.commit_permits.clone(),
            signals: signals.clone(),
            arrivals: arrivals.clone(),
            delivery: context.delivery.clone(),
            is_quiescing: served.is_quiescing.clone(),
        };
        let spawned = Inbox::spawn_linked(None, Inbox, arguments, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| {
            tracing::error!(%tenant, %error, "an inbox did not start");
            BrokerError::NodeBusy
        })?;
        let admission = Admission::new(options.tenant_requests_max, options.tenant_bytes_max);
        let used_ms = AtomicU64::default();
        let handle = InboxHandle { actor, admission, signals, arrivals, used_ms };
        handle.touch(self.now());
        Ok(handle)
    }

    fn inbox_failed(&mut self, actor: &ActorCell, error: &str) {
        let Some(tenant) = self.arguments.served.inboxes.remove_actor(actor.get_id()) else {
            return;
        };
        let (now, options) = (self.now(), &self.arguments.context.options);
        let failures = self
            .failures
            .entry(tenant.clone())
            .or_insert_with(|| RestartIntensity::new(options.restarts_max, options.restart_window));
        let may_restart = failures.note_failure(now);
        metrics::counter!("triggers_inbox_failures_total").increment(1);
        tracing::error!(%tenant, error, may_restart, "an inbox failed");
        // The failed inbox may have had something due.
        self.agenda.note(self.arguments.context.store.environment().steady(), tenant);
    }

    /// Opens closed inboxes that have something due.
    async fn wake(&mut self, myself: &ActorRef<PartitionMessage>) {
        let now = self.arguments.context.store.environment().steady();
        if self.agenda.begin_reading(now) && !is_planted(Bug::TakeoverForgetsDue) {
            let after = self.agenda.last_read();
            tokio::spawn(read_pointers(myself.clone(), self.arguments.clone(), after));
        }
        let wakes_max = WAKES_MAX.min(self.arguments.context.inboxes_max);
        for tenant in self.agenda.pop_due(now, wakes_max) {
            match self.open(myself, tenant.clone()).await {
                Ok(inbox) => {
                    inbox.touch(self.now());
                    inbox.wake();
                }
                Err(_) => self.agenda.note(now.plus(WAKE_PERIOD), tenant),
            }
        }
    }

    fn close_idle(&mut self) {
        let now = self.now();
        let since = now.saturating_sub(self.arguments.context.options.inbox_idle_timeout);
        for (next, tenant) in self.arguments.served.inboxes.close_idle(since) {
            self.agenda.note(next, tenant);
        }
        self.failures.retain(|_, failures| !failures.is_calm(now));
    }
}

async fn start_sweeper(
    myself: &ActorRef<PartitionMessage>,
    arguments: &PartitionArguments,
) -> Result<(), ActorProcessingErr> {
    let sweeper = SweeperArguments {
        partition: arguments.handle(myself.clone()),
        store: arguments.context.store.clone(),
        options: arguments.context.options.clone(),
    };
    Sweeper::spawn_linked(None, Sweeper, sweeper, myself.get_cell()).await?;
    Ok(())
}

async fn read_pointers(
    partition: ActorRef<PartitionMessage>,
    arguments: PartitionArguments,
    after: Option<(u64, TenantId)>,
) {
    let PartitionArguments { served, context } = &arguments;
    let guard = &served.guard;
    let run = Run::idempotent(Instant::now() + context.options.commit_timeout);
    let pointers = context
        .store
        .run(run, |tx| Box::pin(inbox::wakes(tx, guard, after.as_ref(), ENTRIES_READ_MAX)))
        .await;
    if let Err(error) = &pointers {
        tracing::warn!(partition = %guard.partition, %error, "wake-up pointers could not be read");
    }
    // A partition that has stopped needs none.
    let _ = partition.cast(PartitionMessage::Pointers(pointers.ok()));
}
