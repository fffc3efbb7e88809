//! The sweeper: regularly scans the tenants of a partition for rows that have reached their age and
//! has them removed.
//!
//! Its timer starts a sweep. It asks the inboxes of tenants to remove rows, because every write of
//! a tenant passes through its inbox. The partition supervises it and starts it again.
//! Invariants: `SWEEPER-1` the sweeper opens an inbox only after a read has found something to
//! remove; `SWEEPER-2` it has one small request in flight at a time, so it does not delay clients;
//! `SWEEPER-3` it scans all tenants, [`TENANTS_PAGE`] at a time, even if some of them fail. It
//! keeps no state: the next sweep finds what this one has missed.

use super::PartitionHandle;
use crate::options::BrokerOptions;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::TenantId;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::inbox;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{Sweep, Swept, is_sweep_due};

/// Tenants of one read.
const TENANTS_PAGE: usize = 100;
/// Pause between two requests to one tenant.
const PAUSE: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The type of the actor.
pub(super) struct Sweeper;

/// A message to a sweeper.
#[derive(ractor_cluster::RactorMessage)]
pub(super) enum SweeperMessage {
    /// Sweep all tenants.
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
        schedule(&myself, &arguments);
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
        schedule(&myself, state);
        Ok(())
    }
}

/// Sets the timer to a random time between half the interval and the interval, so that partitions
/// do not sweep at the same time.
fn schedule(myself: &ActorRef<SweeperMessage>, arguments: &SweeperArguments) {
    let half = arguments.options.sweep_interval / 2;
    let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    let wait = half + Duration::from_millis(arguments.store.environment().below(spread));
    drop(myself.send_after(wait, || SweeperMessage::Sweep));
}

impl SweeperArguments {
    async fn sweep_all(&self) {
        let mut after: Option<TenantId> = None;
        loop {
            let (guard, last) = (&self.partition.served.guard, after.as_ref());
            let run = Run::idempotent(Instant::now() + TIMEOUT);
            let read = self
                .store
                .run(run, |tx| Box::pin(inbox::tenants(tx, guard, last, TENANTS_PAGE)))
                .await;
            let tenants = match read {
                Ok(tenants) => tenants,
                Err(error) => {
                    let partition = guard.partition;
                    tracing::warn!(%partition, %error, "tenants could not be read for a sweep");
                    return;
                }
            };
            for tenant in &tenants {
                if let Err(error) = self.sweep_tenant(tenant).await {
                    tracing::warn!(%tenant, %error, "a tenant could not be swept; will try again");
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
        let (guard, keys) = (&self.partition.served.guard, &keys);
        let at = self.store.environment().now();
        let retention = self.options.idempotency_retention;
        let run = Run::idempotent(Instant::now() + TIMEOUT);
        let is_due =
            self.store.run(run, |tx| Box::pin(is_sweep_due(tx, guard, keys, at, retention)));
        if !is_due.await? {
            return Ok(());
        }
        let mut sweep = Sweep::default();
        loop {
            let deadline = Instant::now() + TIMEOUT;
            let Swept { removed, has_more, removed_to } =
                self.partition.execute(tenant, sweep, deadline).await?;
            sweep = Sweep { after: removed_to };
            metrics::counter!("triggers_swept_total").increment(removed as u64);
            if !has_more {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
