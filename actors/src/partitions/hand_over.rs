//! Handing a partition over to another member, without an error that a client could see.
//!
//! ```text
//! prepare (does it want it?) ▸ rest: no webhook begins, those on their way end ▸ park what is asked ▸ wait for what is
//! under way ▸ one transaction: the fence is the other's ▸ serve (the other begins) ▸ what was parked goes there
//! ```
//! Invariants: `HAND-OVER-1` the partition has an owner at every moment: the fence changes from one to the other;
//! `HAND-OVER-2` a move that cannot be finished in time is given up before the fence changes, and everything goes on here;
//! `HAND-OVER-3` after the fence has changed, or may have, nothing is served here any more: the view tells whose it is.

use crate::cluster::directory::Directory;
use crate::cluster::peer_of;
use crate::cluster::transport::PeerTransport;
use crate::inbox::signals::Attachment;
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
/// For webhooks on their way; those that take longer are sent again by the new owner.
const REST_MAX: Duration = Duration::from_secs(3);
const REST_POLL: Duration = Duration::from_millis(20);
/// What waits in front of the gate waits no longer than this before the fence changes.
const PARK_MAX: Duration = Duration::from_secs(1);
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);
const SERVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What moves need.
#[derive(Clone)]
pub(crate) struct Movers {
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) directory: Directory,
    /// Moves at the same time.
    pub(crate) transfers_in_flight_max: usize,
}

/// Hands a partition over; the fence of its owner if that is not this node any more.
pub(crate) async fn hand_over(
    movers: &Movers,
    store: &Store,
    handle: &PartitionHandle,
    to: &str,
) -> Option<Fence> {
    let began = store.environment().monotonic();
    let partition = handle.id();
    let prepare = PeerRequest::Prepare { incarnation: to.to_owned() };
    if !ask(movers, to, prepare, PREPARE_TIMEOUT).await {
        return None;
    }
    handle.is_quiescing.store(true, Ordering::Relaxed);
    rest(handle).await;
    let parks = !is_planted(Bug::DrainWithoutParking);
    if parks {
        handle.gate.park();
    }
    let moved = if !parks || handle.gate.emptied(Instant::now() + PARK_MAX).await {
        transfer(store, handle, to).await
    } else {
        tracing::info!(%partition, to, "a partition does not come to rest; it is handed over later");
        Ok(None)
    };
    handle.is_quiescing.store(false, Ordering::Relaxed);
    let fence = match moved {
        Ok(Some(fence)) => fence,
        Ok(None) => {
            handle.gate.open();
            return None;
        }
        Err(error) => {
            tracing::warn!(%partition, to, %error, "whether a partition was handed over is not known");
            // `HAND-OVER-3`: the epoch is one that only this move can have made.
            return Some(Fence { epoch: handle.guard.fence.epoch + 1, incarnation: to.to_owned() });
        }
    };
    let serve = PeerRequest::Serve { incarnation: to.to_owned(), partition, epoch: fence.epoch };
    // One that did not hear of it finds out by its next view.
    let is_served = ask(movers, to, serve, SERVE_TIMEOUT).await;
    movers.directory.note([(partition, &fence)]);
    let took = store.environment().monotonic().saturating_sub(began);
    metrics::counter!("triggers_partition_moves_total").increment(1);
    metrics::histogram!("triggers_partition_move_seconds").record(took.as_secs_f64());
    tracing::info!(%partition, to, epoch = fence.epoch, is_served, took_ms = took.as_millis() as u64, "handed over");
    Some(fence)
}

/// Waits until no webhook is on its way, but not for ever.
async fn rest(handle: &PartitionHandle) {
    let until = Instant::now() + REST_MAX;
    while handle.table.is_any_busy() && Instant::now() < until {
        sleep(REST_POLL).await;
    }
}

/// None if the partition is still this node's for certain.
async fn transfer(
    store: &Store,
    handle: &PartitionHandle,
    to: &str,
) -> Result<Option<Fence>, TableError> {
    let run = Run::idempotent(Instant::now() + TRANSFER_TIMEOUT);
    let guard = &handle.guard;
    match store.run(run, |tx| Box::pin(fence::transfer(tx, guard, to))).await {
        Ok(fence) => Ok(Some(fence)),
        Err(TableError::NotOwner { owner, epoch }) => Ok(Some(Fence { epoch, incarnation: owner })),
        Err(error @ TableError::Store(StoreError::MaybeCommitted(_))) => Err(error),
        Err(error) => {
            tracing::warn!(partition = %handle.id(), to, %error, "a partition could not be handed over");
            Ok(None)
        }
    }
}

async fn ask(movers: &Movers, to: &str, request: PeerRequest, timeout: Duration) -> bool {
    let reply = movers.transport.call(peer_of(to), request.encode(), timeout).await;
    reply.ok().and_then(|reply| PeerReply::decode(&reply).ok()) == Some(PeerReply::Done)
}

impl crate::partition::InboxTable {
    /// Whether any inbox has webhooks on their way.
    fn is_any_busy(&self) -> bool {
        self.any(|inbox| !inbox.signals.is_below(Attachment::Busy))
    }
}
