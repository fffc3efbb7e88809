//! Transfers a partition to another node, without an error that a client could see.
//!
//! ```text
//! prepare (the other node agrees) ─▶ quiesce (webhooks in flight end) ─▶ park requests at the gate
//! ─▶ wait for requests in flight ─▶ one transaction moves the fence ─▶ the other node serves
//! ─▶ parked requests are forwarded to it
//! ```
//! Invariants: `TRANSFER-1` the partition always has an owner: the fence changes from one node to
//! the other in one transaction, and to a node that all peers with a link to this node have a link
//! to as well; `TRANSFER-2` a transfer that cannot finish in time is abandoned
//! before the fence changes, and this node continues to serve; `TRANSFER-3` once the fence has
//! changed, or may have, this node serves the partition no more; the next view shows its owner.

use crate::cluster::directory::Directory;
use crate::cluster::{LinkState, PeerTransport, peer_of};
use crate::partition::PartitionHandle;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use triggers_protocol::peer::{PeerReply, PeerRequest};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_store::kv::{Run, Store, StoreError};
use triggers_store::tables::TableError;
use triggers_store::tables::fence;
use triggers_store::tables::rows::Fence;

const PREPARE_TIMEOUT: Duration = Duration::from_secs(1);
/// Wait for webhooks in flight; the new owner sends the ones that take longer again.
const QUIESCE_MAX: Duration = Duration::from_secs(3);
const QUIESCE_POLL: Duration = Duration::from_millis(20);
/// Upper bound on how long requests are parked at the gate before the fence changes.
const PARK_MAX: Duration = Duration::from_secs(1);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(2);
const SERVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What transfers need; cheap to clone.
#[derive(Clone)]
pub(crate) struct TransferContext {
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) directory: Directory,
    /// Transfers in flight at the same time.
    pub(crate) in_flight_max: usize,
}

impl TransferContext {
    /// Transfers a partition to the incarnation `to`. Returns the fence of the new owner; none if
    /// this node continues to serve.
    pub(super) async fn run(
        &self,
        store: &Store,
        handle: &PartitionHandle,
        to: &str,
    ) -> Option<Fence> {
        let began = store.environment().monotonic();
        let partition = handle.id();
        let links = self.transport.links().into_iter();
        let linked = links.filter(|(peer, state)| *state == LinkState::Up && peer != peer_of(to));
        let peers = linked.map(|(peer, _)| peer).collect();
        let prepare = PeerRequest::Prepare { incarnation: to.to_owned(), peers };
        if !self.ask(to, prepare, PREPARE_TIMEOUT).await {
            return None;
        }
        handle.served.is_quiescing.store(true, Ordering::Relaxed);
        let moved = park_and_move_fence(store, handle, to).await;
        handle.served.is_quiescing.store(false, Ordering::Relaxed);
        let fence = match moved {
            Ok(Some(fence)) => fence,
            Ok(None) => {
                handle.served.gate.open();
                return None;
            }
            Err(error) => {
                tracing::warn!(%partition, to, %error, "the outcome of a transfer is unknown");
                // `TRANSFER-3`: only this transfer can have written the next epoch.
                let epoch = handle.served.guard.fence.epoch + 1;
                return Some(Fence { epoch, incarnation: to.to_owned() });
            }
        };
        let (incarnation, epoch) = (to.to_owned(), fence.epoch);
        let serve = PeerRequest::Serve { incarnation, partition, epoch };
        // A node that missed this call learns of the transfer from its next view.
        let is_served = self.ask(to, serve, SERVE_TIMEOUT).await;
        self.directory.note([(partition, &fence)]);
        let took = store.environment().monotonic().saturating_sub(began);
        metrics::counter!("triggers_partition_transfers_total").increment(1);
        metrics::histogram!("triggers_partition_transfer_seconds").record(took.as_secs_f64());
        let took_ms = took.as_millis() as u64;
        tracing::info!(%partition, to, epoch, is_served, took_ms, "a partition was transferred");
        Some(fence)
    }

    async fn ask(&self, to: &str, request: PeerRequest, timeout: Duration) -> bool {
        let reply = self.transport.call(peer_of(to), request.encode(), timeout).await;
        reply.ok().and_then(|reply| PeerReply::decode(&reply).ok()) == Some(PeerReply::Done)
    }
}

/// Quiesces the partition, parks requests at its gate and moves the fence once nothing is in
/// flight. None if this node certainly still owns the partition.
async fn park_and_move_fence(
    store: &Store,
    handle: &PartitionHandle,
    to: &str,
) -> Result<Option<Fence>, TableError> {
    let until = Instant::now() + QUIESCE_MAX;
    while handle.served.inboxes.has_webhooks_in_flight() && Instant::now() < until {
        sleep(QUIESCE_POLL).await;
    }
    if !is_planted(Bug::DrainWithoutParking) {
        handle.served.gate.park();
        if !handle.served.gate.emptied(Instant::now() + PARK_MAX).await {
            tracing::info!(partition = %handle.id(), to, "requests stay in flight; transfer later");
            return Ok(None);
        }
    }
    let run = Run::idempotent(Instant::now() + TRANSACTION_TIMEOUT);
    let guard = &handle.served.guard;
    match store.run(run, |tx| Box::pin(fence::transfer(tx, guard, to))).await {
        Ok(fence) => Ok(Some(fence)),
        Err(TableError::NotOwner { owner, epoch }) => Ok(Some(Fence { epoch, incarnation: owner })),
        Err(error @ TableError::Store(StoreError::MaybeCommitted(_))) => Err(error),
        Err(error) => {
            let partition = handle.id();
            tracing::warn!(%partition, to, %error, "a partition could not be transferred");
            Ok(None)
        }
    }
}
