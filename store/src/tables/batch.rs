//! A batch: one transaction that applies several operations of a tenant, each with its own reply.
//!
//! - `BATCH-1`: the ids of a batch are greater than the tenant's last one, and the head moves with
//!   them.
//! - `BATCH-2`: a second run after an unknown outcome finds its own rows and replies the same.
//! - `BATCH-3`: every counter changes together with the queue row that it counts.
//! - `BATCH-4`: a rejected operation (unknown event, reused key) does not affect the others.
//! - `BATCH-5`: operations of different kinds name no common event in a batch, because a second run
//!   could not tell what the first one did. [`Selection`](super::operations::Selection) restricts
//!   operations that name no events.

mod attempts;
mod audit;
mod events;
mod leases;
mod wake;
mod webhooks;

pub use audit::Initiator;
pub(super) use audit::host;
pub use leases::{EVERY_TYPE, FilterId, LeasePosition, LeaseSearches};
pub(super) use leases::{Failure, end_leased_attempt, holds};
pub(super) use webhooks::{
    AttemptEnd, INTERRUPTED, TRANSACTION_BYTES_AIMED, end_attempt, jittered, withdraw_attempt,
};

use super::TableError;
use super::fence::Guard;
use super::inbox::{self, Counts};
use super::keys::TenantKeys;
use super::lease_rows::LeaseRows;
use super::rows::{Head, RecentLeases, Row, SubscriptionRow};
use super::subscriptions;
use super::webhook_marks::WebhookMarks;
use crate::kv::{Prefetch, Transaction};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, EventType, SubscriptionId, Timestamp};

/// Options of the node that operations follow.
#[derive(Debug, Clone, Copy)]
pub struct OperationLimits {
    /// How long idempotency keys are kept.
    pub idempotency_retention: Duration,
    /// Time after its claim at which a delivery attempt without a result counts as interrupted.
    pub attempt_time: Duration,
    /// How long every attempt to a subscription may fail before it is disabled.
    pub disable_after: Duration,
    /// Subscriptions that a tenant may have.
    pub subscriptions_max: u32,
    /// Rows that one step of a lease scans for events that it selects.
    pub lease_scan_rows_max: usize,
}

/// What the inbox knows when it plans a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchPlan {
    /// Last id of the tenant, after which the batch's ids were minted.
    pub last_id: EventId,
    /// The last id minted for the batch; `last_id` if it mints none.
    pub minted_id: EventId,
    /// Time of the wall clock: the events of the batch were accepted at this time.
    pub received_at: Timestamp,
    /// Counts of the tenant when the batch was planned, by which quotas are checked.
    pub counts: Counts,
    /// Options that the operations follow.
    pub limits: OperationLimits,
}

/// A delivery attempt that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Event to send to the endpoint.
    pub event: Event,
    /// Identity of the attempt.
    pub token: u64,
}

/// What a delivery attempt says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointHealth {
    /// The endpoint accepts events.
    Good,
    /// The endpoint answers, but did not accept this event.
    Alive,
    /// The endpoint does not answer, or reports that it is unavailable.
    Bad,
    /// The attempt says nothing about it.
    Unknown,
}

/// A change that the inbox needs to schedule webhooks, once the batch is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Attempts to a subscription have begun.
    Claimed {
        /// Target of the attempts.
        subscription: SubscriptionId,
        /// The attempts, in the order in which they were due.
        attempts: Vec<Claimed>,
        /// Time at which the subscription's next webhook is due.
        next: Option<Timestamp>,
        /// Time at which an attempt without a result counts as interrupted.
        until: Timestamp,
    },
    /// The result of an attempt is stored.
    Completed {
        /// Target of the attempt.
        subscription: SubscriptionId,
        /// Time at which the next attempt is due, if there is one.
        due: Option<Timestamp>,
        /// The subscription's row after the batch; none if it is gone.
        row: Option<Arc<SubscriptionRow>>,
        /// What the attempt says about the endpoint.
        health: EndpointHealth,
    },
    /// Webhooks of a subscription that is not active were given up.
    GaveUp {
        /// Target of the webhooks.
        subscription: SubscriptionId,
        /// Time at which there is more to give up; none if nothing is left.
        next: Option<Timestamp>,
        /// The subscription's row is gone.
        is_removed: bool,
    },
    /// A subscription was created or changed.
    SubscriptionChanged(Box<SubscriptionRow>),
    /// A subscription was deleted; its webhooks are still to be given up.
    SubscriptionDeleted(SubscriptionId),
}

/// What a batch has changed, beside the replies of its operations.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The tenant's last id after the batch.
    pub last_id: EventId,
    /// The tenant's counts after the batch.
    pub counts: Counts,
    /// End of the tenant's first lease, if this batch may have changed it.
    pub first_lease_end: Option<Option<Timestamp>>,
    /// Subscriptions that got webhooks from this batch, each with the earliest due time.
    pub due: BTreeMap<SubscriptionId, Timestamp>,
    /// Notices for the inbox once the batch is durable.
    pub notices: Vec<Notice>,
    /// Numbers of changes, for metrics and wake-ups of consumers.
    pub activity: Activity,
    /// What the leases learned, for those to come.
    pub searches: LeaseSearches,
    /// Marks of subscriptions that this batch has changed.
    pub webhook_marks: WebhookMarks,
}

/// Numbers of changes that a batch made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activity {
    /// Number of accepted events.
    pub accepted: u32,
    /// Events acknowledged, or delivered to their last endpoint.
    pub delivered: u32,
    /// Changes that may have made events available to lease.
    pub made_available: u32,
}

/// One run of a batch: what its operations share until the transaction commits.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) keys: &'a TenantKeys,
    pub(super) limits: OperationLimits,
    plan: BatchPlan,
    head: Head,
    /// The head says that this batch's events exist already (`BATCH-2`).
    pub(super) is_repeated: bool,
    delta: Counts,
    pub(super) activity: Activity,
    pub(super) lease_ends_changed: bool,
    /// The lease rows, once they have been read.
    lease_rows: Option<LeaseRows>,
    /// Leases have ended, so the wake-up pointer may move to a later time.
    pub(super) leases_expired: bool,
    /// Events that the leases and claims of this batch chose, by the nonce of their command.
    pub(super) leased: Vec<(u64, Vec<EventId>)>,
    pub(super) searches: LeaseSearches,
    pub(super) ignores_positions: bool,
    known_marks: Arc<WebhookMarks>,
    changed_marks: WebhookMarks,
    pub(super) stored_subscriptions: u32,
    /// The active subscriptions, once they have been read.
    subscriptions: Option<Vec<SubscriptionRow>>,
    /// Ids of the active subscriptions that select events of a type, for the types seen so far.
    targets: BTreeMap<EventType, Vec<SubscriptionId>>,
    /// Rows of the subscriptions whose attempts this batch claims or completes, as of now.
    attempted: BTreeMap<SubscriptionId, Option<Arc<SubscriptionRow>>>,
    due: BTreeMap<SubscriptionId, Timestamp>,
    notices: Vec<Notice>,
    /// Events of attempts that this batch completes. Claims pass over them, so that a second run
    /// finds what the first run did.
    pub(super) completed: HashSet<EventId>,
    /// Payload bytes of the attempts that this batch has claimed.
    pub(super) claimed_bytes: usize,
}

impl<'a> Batch<'a> {
    /// Checks the fence and reads the tenant's head; the operations are applied next.
    ///
    /// # Errors
    /// [`TableError::NotOwner`]; [`TableError::HeadMoved`] if the stored last id is neither the
    /// plan's nor this batch's own; [`TableError::Store`].
    pub async fn begin(
        tx: &mut dyn Transaction,
        guard: &Guard,
        keys: &'a TenantKeys,
        plan: BatchPlan,
    ) -> Result<Self, TableError> {
        if !is_planted(Bug::FenceNotChecked) {
            guard.check(tx).await?;
        }
        let stored = tx.get(&keys.head()).await?;
        let head = stored.map(|bytes| Head::from_bytes(&bytes)).transpose()?.unwrap_or(Head::NEW);
        Ok(Self {
            keys,
            limits: plan.limits,
            plan,
            head,
            is_repeated: is_repeated(&head, plan)?,
            delta: Counts::default(),
            activity: Activity::default(),
            lease_ends_changed: false,
            lease_rows: None,
            leases_expired: false,
            leased: Vec::new(),
            searches: LeaseSearches::default(),
            ignores_positions: false,
            known_marks: Arc::default(),
            changed_marks: WebhookMarks::new(),
            stored_subscriptions: head.subscriptions,
            subscriptions: None,
            targets: BTreeMap::new(),
            attempted: BTreeMap::new(),
            due: BTreeMap::new(),
            notices: Vec::new(),
            completed: HashSet::new(),
            claimed_bytes: 0,
        })
    }

    /// The marks that the inbox knows. Without them, reads of webhooks begin at the first key.
    pub fn use_marks(&mut self, marks: Arc<WebhookMarks>) {
        self.known_marks = marks;
    }

    /// Makes leases search from the beginning, whatever their stamps say.
    pub fn ignore_positions(&mut self) {
        self.ignores_positions = true;
    }

    /// Adds what every batch reads, and the subscriptions if the tenant has any.
    pub fn prefetch(
        reads: &mut Prefetch,
        guard: &Guard,
        keys: &TenantKeys,
        has_subscriptions: bool,
    ) {
        inbox::add_batch(reads, guard, keys);
        if has_subscriptions {
            reads.first(keys.subscriptions(), subscriptions::PAGE_ROWS);
        }
    }

    /// Writes the rows that all operations share: the head, the counters, the wake-up pointer.
    pub async fn finish(mut self, tx: &mut dyn Transaction) -> Result<Applied, TableError> {
        if self.is_repeated {
            self.suppose_all_due(tx).await?;
        }
        let mut head = self.head;
        if self.activity.accepted > 0 {
            head.last_id = self.plan.minted_id;
            let lead = head.last_id.created_at().since(self.plan.received_at);
            head.lead_ms = head.lead_ms.max(u64::try_from(lead.as_millis()).unwrap_or(u64::MAX));
        }
        head.subscriptions = self.stored_subscriptions;
        let first_lease_end = self.point(tx, &mut head).await?;
        if let Some(rows) = &mut self.lease_rows {
            rows.write(tx, self.keys);
        }
        if head != self.head {
            tx.set(&self.keys.head(), &head.to_bytes());
        }
        for status in EventStatus::ALL {
            match self.delta.get(status) {
                0 => {}
                delta => tx.add(&self.keys.counter(status), delta),
            }
        }
        if !self.leased.is_empty() {
            let recent = RecentLeases(std::mem::take(&mut self.leased));
            tx.set(&self.keys.recent_leases(), &recent.to_bytes());
        }
        // The counts are absolute, so that a second run after a commit returns the same.
        let counts = inbox::counts(tx, self.keys).await?;
        Ok(Applied {
            last_id: head.last_id,
            counts,
            first_lease_end,
            due: self.due,
            notices: self.notices,
            activity: self.activity,
            searches: self.searches,
            webhook_marks: self.changed_marks,
        })
    }

    /// Whether the tenant may have one more waiting event. The answer depends on the plan and on
    /// what this batch has accepted, so a second run decides alike.
    pub(super) fn has_room(&self, waiting_events_max: Option<u64>) -> bool {
        let waiting = self.plan.counts.waiting() + u64::from(self.activity.accepted);
        waiting_events_max.is_none_or(|max| waiting < max) || is_planted(Bug::QuotaNotChecked)
    }

    /// Time of the wall clock when the batch was planned.
    pub(super) fn received_at(&self) -> Timestamp {
        self.plan.received_at
    }

    /// The tenant's head before this batch.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Adds a notice for the inbox. Only operations whose footprint says so may do this.
    pub(super) fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// Whether this batch has committed before; fails if another batch has.
fn is_repeated(head: &Head, plan: BatchPlan) -> Result<bool, TableError> {
    if plan.minted_id == plan.last_id {
        return Ok(false);
    }
    match head.last_id {
        actual if actual == plan.last_id => Ok(false),
        actual if actual == plan.minted_id => Ok(true),
        actual => Err(TableError::HeadMoved { actual }),
    }
}
