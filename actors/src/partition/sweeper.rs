//! The sweeper: looks through the tenants of a partition, now and then, for what has reached its age, and has it removed.
//!
//! Told by: its own timer. Tells: the inboxes of tenants in which there is something to remove, through which every write
//! of a tenant goes. Supervised by [`super::Partition`], which starts it again.
//! Invariants: `SWEEPER-1` an inbox is opened for it only if a read has found something; `SWEEPER-2` it has one request under
//! way at a time, each a small transaction, so that it never holds up what tenants ask for; `SWEEPER-3` it goes through all
//! tenants, [`TENANTS_PAGE`] by [`TENANTS_PAGE`], whatever becomes of one of them.
//! It remembers nothing: what it did not get to is found again the next time.

use super::PartitionHandle;
use crate::options::BrokerOptions;
use crate::router;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::TenantId;
use triggers_store::kv::{Run, Store};

use triggers_store::tables::inbox;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{Sweep, Swept, is_sweep_due};

/// Tenants read at a time.
const TENANTS_PAGE: usize = 100;
/// Between two requests to one tenant.
const PAUSE: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The shell's type.
pub(super) struct Sweeper;

/// A message to a sweeper.
#[derive(ractor_cluster::RactorMessage)]
pub(super) enum SweeperMessage {
    /// Go through all tenants.
    Sweep,
}

/// What a sweeper needs.
pub(super) struct SweeperArguments {
    pub(super) partition: PartitionHandle,
    pub(super) store: Store,
    pub(super) options: Arc<BrokerOptions>,
}

impl Actor for Sweeper {
    type Msg = SweeperMessage;
    type State = SweeperArguments;
    type Arguments = SweeperArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SweeperMessage>,
        arguments: SweeperArguments,
    ) -> Result<SweeperArguments, ActorProcessingErr> {
        again(&myself, &arguments);
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<SweeperMessage>,
        message: SweeperMessage,
        state: &mut SweeperArguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SweeperMessage::Sweep => state.sweep_all().await,
        }
        again(&myself, state);
        Ok(())
    }
}

/// Sets the timer: half the interval to the whole of it, so that partitions do not sweep at the same time.
fn again(myself: &ActorRef<SweeperMessage>, arguments: &SweeperArguments) {
    let half = arguments.options.sweep_interval / 2;
    let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    let wait = half + Duration::from_millis(arguments.store.environment().below(spread));
    drop(myself.send_after(wait, || SweeperMessage::Sweep));
}

impl SweeperArguments {
    async fn sweep_all(&self) {
        let mut after: Option<TenantId> = None;
        loop {
            let (guard, last) = (&self.partition.guard, after.as_ref());
            let run = Run::idempotent(Instant::now() + TIMEOUT);
            let read = self
                .store
                .run(run, |tx| Box::pin(inbox::tenants(tx, guard, last, TENANTS_PAGE)))
                .await;
            let tenants = match read {
                Ok(tenants) => tenants,
                Err(error) => {
                    tracing::warn!(partition = %guard.partition, %error, "tenants could not be read to be swept");
                    return;
                }
            };
            for tenant in &tenants {
                if let Err(error) = self.sweep_tenant(tenant).await {
                    tracing::warn!(%tenant, %error, "a tenant could not be swept; it is the next time");
                }
            }
            if tenants.len() < TENANTS_PAGE {
                return;
            }
            after = tenants.into_iter().next_back();
        }
    }

    async fn sweep_tenant(&self, tenant: &TenantId) -> Result<(), crate::BrokerError> {
        let keys = TenantKeys::new(self.partition.id(), tenant);
        let (guard, keys) = (&self.partition.guard, &keys);
        let at = self.store.environment().now();
        let retention = self.options.idempotency_retention;
        let run = Run::idempotent(Instant::now() + TIMEOUT);
        let is_due =
            self.store.run(run, |tx| Box::pin(is_sweep_due(tx, guard, keys, at, retention)));
        if !is_due.await? {
            return Ok(());
        }
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let Swept { removed, has_more } =
                router::execute_in(&self.partition, tenant, Sweep, deadline).await?;
            metrics::counter!("triggers_swept_total").increment(removed as u64);
            if !has_more {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
