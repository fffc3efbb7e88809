//! What an inbox is told.

use super::batch::{Batch, Committed, Finished};
use super::handle::Reply;
use super::machine::Request;
use crate::delivery::DeliveryPermit;
use triggers_protocol::SubscriptionId;
use triggers_store::tables::TableError;
use triggers_store::tables::inbox::InboxState;

/// A message to an inbox.
#[derive(ractor_cluster::RactorMessage)]
pub(crate) enum InboxMessage {
    /// There are requests among the arrivals, where there were none.
    Arrived,
    /// A request of an attempt of its own.
    Write(Request<Reply>),
    /// The tenant's state was loaded, or could not be.
    Loaded(Result<InboxState, TableError>),
    /// A batch is durable; its requests are being answered.
    Committed(Box<Committed>, Finished),
    /// A batch failed; its requests are not answered.
    Failed(Box<Batch<Reply>>, TableError),
    /// A batch has its place in the order of commits.
    Ordered(Box<Committed>, Finished),
    /// One that had is durable; its requests are being answered.
    Settled,
    /// One that had failed; its requests are not answered.
    Unsettled(Box<Batch<Reply>>, TableError),
    /// Leases may have run out, or webhooks may be due.
    Tick,
    /// The slot that was waited for; none if there will be no more.
    Slot(Option<DeliveryPermit>),
    /// An attempt to this subscription did not start.
    AttemptLost(SubscriptionId),
    /// A task of the inbox ended without a result.
    Lost,
}
