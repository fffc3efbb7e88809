//! The partition actor: opens, closes and restarts the inboxes of one owned partition.
//!
//! Told by: the router and the [`crate::sweeper`] (`Open`), its own timers (`Tidy`, `Wake`) and task (`Pointers`), and ractor
//! when an inbox or the sweeper ends. Tells: inboxes (stop, tick). Supervised by [`crate::partitions`].
//! Invariants: `PARTITION-A-1` at most one open inbox a tenant is in the table; `PARTITION-A-2` an inbox is closed only
//! through its admission, which closes only while nothing is in flight; `PARTITION-A-3` a tenant whose inbox fails more
//! often than allowed is refused until the window has passed, and disturbs no other tenant.

mod agenda;
mod table;

pub(crate) use table::InboxTable;

use crate::admission::Admission;
use crate::gate::Gate;
use crate::inbox::handle::{Arrivals, InboxHandle};
use crate::inbox::request::BrokerError;
use crate::inbox::signals::InboxSignals;
use crate::inbox::{Delivery, Inbox, InboxArguments};
use crate::options::BrokerOptions;
use crate::supervision::RestartIntensity;
use crate::sweeper::{Sweeper, SweeperArguments, SweeperMessage};
use agenda::{Agenda, ENTRIES_READ_MAX};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::RactorMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{PartitionId, TenantId};
use triggers_store::kv::{Run, Store};
use triggers_store::tables::fence::Guard;
use triggers_store::tables::inbox;
use triggers_store::tables::keys::TenantKeys;

/// How often a partition looks for what is due in closed inboxes.
const WAKE_PERIOD: Duration = Duration::from_secs(1);
/// Inboxes opened for that at a time.
const WAKES_MAX: usize = 100;

/// The shell's type.
pub(crate) struct Partition;

/// A message to a partition.
#[derive(RactorMessage)]
pub(crate) enum PartitionMessage {
    /// Open the tenant's inbox, or give the open one.
    Open(TenantId, oneshot::Sender<Result<Arc<InboxHandle>, BrokerError>>),
    /// Close inboxes that have been idle for long.
    Tidy,
    /// Open inboxes that have something to do.
    Wake,
    /// The wake-up pointers were read, or could not be.
    Pointers(Option<Vec<(u64, TenantId)>>),
}

/// What a partition needs to start.
#[derive(Clone)]
pub(crate) struct PartitionArguments {
    pub(crate) guard: Arc<Guard>,
    pub(crate) table: Arc<InboxTable>,
    /// Whether no webhook is to be begun, because the partition is about to move.
    pub(crate) is_quiescing: Arc<AtomicBool>,
    pub(crate) shared: Arc<Shared>,
}

/// What all partitions of a node have in common.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) options: Arc<BrokerOptions>,
    pub(crate) commit_slots: Arc<Semaphore>,
    pub(crate) delivery: Arc<Delivery>,
    /// Inboxes that one partition may have open.
    pub(crate) inboxes_max: usize,
}

pub(crate) struct PartitionState {
    arguments: PartitionArguments,
    failures: BTreeMap<TenantId, RestartIntensity>,
    agenda: Agenda,
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
        // Inboxes of an earlier life of this partition ended with it.
        arguments.table.close_all();
        let period = arguments.shared.options.inbox_idle_timeout / 2;
        drop(
            myself.send_interval(period.max(Duration::from_millis(10)), || PartitionMessage::Tidy),
        );
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
                // A router that is gone finds the inbox open next time.
                let _ = reply.send(opened);
            }
            PartitionMessage::Tidy => state.tidy(),
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
                state.inbox_failed(&actor, &error.to_string())
            }
            SupervisionEvent::ActorTerminated(actor, ..) => {
                drop(state.arguments.table.remove_actor(actor.get_id()))
            }
            _ => {}
        }
        Ok(())
    }
}

impl PartitionState {
    fn now(&self) -> Duration {
        self.arguments.shared.store.environment().monotonic()
    }

    async fn open(
        &mut self,
        myself: &ActorRef<PartitionMessage>,
        tenant: TenantId,
    ) -> Result<Arc<InboxHandle>, BrokerError> {
        if let Some(open) = self.arguments.table.get(&tenant) {
            return Ok(open);
        }
        let now = self.now();
        if self.failures.get_mut(&tenant).is_some_and(|failures| !failures.allows(now)) {
            return Err(BrokerError::NodeBusy);
        }
        if self.arguments.table.len() >= self.arguments.shared.inboxes_max {
            let (closed, inbox) =
                self.arguments.table.close_least_recently_used().ok_or(BrokerError::NodeBusy)?;
            if let Some(next) = inbox.signals.next() {
                self.agenda.note(next, closed);
            }
        }
        let handle = Arc::new(self.spawn(myself, &tenant).await?);
        self.arguments.table.insert(tenant, handle.clone());
        metrics::gauge!("triggers_inboxes_open").increment(1.0);
        Ok(handle)
    }

    async fn spawn(
        &self,
        myself: &ActorRef<PartitionMessage>,
        tenant: &TenantId,
    ) -> Result<InboxHandle, BrokerError> {
        let PartitionArguments { guard, shared, .. } = &self.arguments;
        let options = &shared.options;
        let signals = Arc::new(InboxSignals::new());
        let arrivals = Arc::<Arrivals>::default();
        let arguments = InboxArguments {
            tenant: tenant.clone(),
            guard: guard.clone(),
            keys: Arc::new(TenantKeys::new(guard.partition, tenant)),
            store: shared.store.clone(),
            options: options.clone(),
            commit_slots: shared.commit_slots.clone(),
            signals: signals.clone(),
            arrivals: arrivals.clone(),
            delivery: shared.delivery.clone(),
            is_quiescing: self.arguments.is_quiescing.clone(),
        };
        let spawned = Inbox::spawn_linked(None, Inbox, arguments, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| {
            tracing::error!(%tenant, %error, "an inbox did not start");
            BrokerError::NodeBusy
        })?;
        let admission = Admission::new(options.tenant_requests_max, options.tenant_bytes_max);
        Ok(InboxHandle::new(actor, admission, signals, arrivals, self.now()))
    }

    fn inbox_failed(&mut self, actor: &ActorCell, error: &str) {
        let Some(tenant) = self.arguments.table.remove_actor(actor.get_id()) else { return };
        let (now, options) = (self.now(), &self.arguments.shared.options);
        let failures = self
            .failures
            .entry(tenant.clone())
            .or_insert_with(|| RestartIntensity::new(options.restarts_max, options.restart_window));
        let restarts = failures.note_failure(now);
        metrics::counter!("triggers_inbox_failures_total").increment(1);
        tracing::error!(%tenant, error, restarts, "an inbox failed; the next request rebuilds it from the store");
        // It may have had something to do.
        self.agenda.note(self.arguments.shared.store.environment().now(), tenant);
    }

    /// Opens the inboxes that have something to do.
    async fn wake(&mut self, myself: &ActorRef<PartitionMessage>) {
        let now = self.arguments.shared.store.environment().now();
        if self.agenda.begin_reading(now) && !is_planted(Bug::TakeoverForgetsDue) {
            tokio::spawn(read_pointers(myself.clone(), self.arguments.clone()));
        }
        for tenant in self.agenda.take_due(now, WAKES_MAX.min(self.arguments.shared.inboxes_max)) {
            match self.open(myself, tenant.clone()).await {
                Ok(inbox) => {
                    inbox.touch(self.now());
                    inbox.tick();
                }
                Err(_) => self.agenda.note(now.plus(WAKE_PERIOD), tenant),
            }
        }
    }

    fn tidy(&mut self) {
        let now = self.now();
        let since = now.saturating_sub(self.arguments.shared.options.inbox_idle_timeout);
        for (next, tenant) in self.arguments.table.close_idle(since) {
            self.agenda.note(next, tenant);
        }
        self.failures.retain(|_, failures| !failures.is_calm(now));
    }
}

async fn start_sweeper(
    myself: &ActorRef<PartitionMessage>,
    arguments: &PartitionArguments,
) -> Result<(), ActorProcessingErr> {
    let PartitionArguments { guard, table, is_quiescing, shared } = arguments.clone();
    // It asks on behalf of the partition itself, for which there is no gate.
    let partition =
        PartitionHandle { actor: myself.clone(), guard, table, gate: Arc::default(), is_quiescing };
    let sweeper = SweeperArguments {
        partition,
        store: shared.store.clone(),
        options: shared.options.clone(),
    };
    Sweeper::spawn_linked(None, Sweeper, sweeper, myself.get_cell()).await?;
    Ok(())
}

async fn read_pointers(partition: ActorRef<PartitionMessage>, arguments: PartitionArguments) {
    let run = Run::idempotent(Instant::now() + arguments.shared.options.commit_timeout);
    let guard = &arguments.guard;
    let pointers = arguments
        .shared
        .store
        .run(run, |tx| Box::pin(inbox::wakes(tx, guard, ENTRIES_READ_MAX)))
        .await;
    if let Err(error) = &pointers {
        tracing::warn!(partition = %guard.partition, %error, "wake-up pointers could not be read");
    }
    // A partition that is gone needs none.
    let _ = partition.cast(PartitionMessage::Pointers(pointers.ok()));
}

/// The way to an owned partition, as the routing table has it.
pub(crate) struct PartitionHandle {
    pub(crate) actor: ActorRef<PartitionMessage>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) table: Arc<InboxTable>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) is_quiescing: Arc<AtomicBool>,
}

impl PartitionHandle {
    pub(crate) fn id(&self) -> PartitionId {
        self.guard.partition
    }
}
