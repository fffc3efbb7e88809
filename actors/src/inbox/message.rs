//! The messages of an inbox.

use super::batch::{Finished, InboxBatch};
use crate::delivery::permits::DeliveryPermit;
use triggers_store::tables::TableError;
use triggers_store::tables::batch::Applied;
use triggers_store::tables::inbox::InboxState;

/// A message to an inbox.
#[derive(ractor_cluster::RactorMessage)]
pub(crate) enum InboxMessage {
    /// Requests are among the arrivals, where there were none.
    Arrived,
    /// Delivery attempts of the inbox have outcomes to store or have ended, where there was no
    /// such report.
    AttemptsReported,
    /// The load of the tenant's state has ended.
    Loaded(Result<InboxState, TableError>),
    /// A batch that was not announced by `Ordered` is durable; its requests are being answered.
    Committed(Box<Applied>, Finished),
    /// A batch that was not announced by `Ordered` failed; its requests are not answered.
    Failed(Box<InboxBatch>, TableError),
    /// A batch is ordered: later transactions see it, but it is not durable yet.
    Ordered(Box<Applied>, Finished),
    /// A batch announced by `Ordered` is now durable; its requests are being answered.
    Durable,
    /// A batch announced by `Ordered` failed, or its outcome is unknown; its requests are not
    /// answered.
    DurabilityUnknown(Box<InboxBatch>, TableError),
    /// The armed timer fires: leases may have run out, or webhooks may be due.
    Timer,
    /// The permit that the inbox waited for; none if the node gives no more.
    Permit(Option<DeliveryPermit>),
    /// A task of the inbox ended without a result.
    TaskLost,
}
