//! The inbox's logic: which requests wait, which batch goes next, which ids it gets. No I/O.
//!
//! The shell passes in requests and the ends of loads and batches; the machine returns
//! [`InboxEffect`]s. [`super::dispatch`] schedules the webhooks. A batch is *ordered* once every
//! later transaction sees it, and *durable* once it survives a crash.
//! Invariants: `INBOX-1` a batch begins when the one before is ordered, so commit order is id order
//! and no cursor ever skips an event; at most two are in flight; `INBOX-2` ids are minted after
//! every id that the store may know; after an unknown outcome the head is loaded again before
//! anything is minted; `INBOX-3` an idempotency key is in flight at most once; `INBOX-4` a request
//! is answered exactly once, by an effect of this machine or by the batch that carries it;
//! `INBOX-5` counts equal the store's as of the last ordered commit; `INBOX-6` requests that name
//! the same event go into different batches, in their order, and so do requests that choose their
//! events and requests that name them; `INBOX-7` nothing is sent to an endpoint before its claim is
//! durable. A violation panics, and the supervisor builds the inbox anew from the store.

mod plan;

use super::batch::{Finished, InboxBatch};
use super::delivery_attempt::{EndedAttempt, Reported};
use super::dispatch::{Dispatched, Dispatcher, Now};
use super::positions::QueuePositions;
use super::request::{OwnWork, Request};
use super::signals::Attachment;
use crate::delivery::permits::DeliveryPermit;
use crate::error::BrokerError;
use crate::options::BrokerOptions;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Environment, EventId, Timestamp};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Applied, Notice, OperationLimits};
use triggers_store::tables::inbox::{Counts, InboxState};

/// Time after which a commit of unknown outcome no longer takes effect.
const LATE_COMMIT: Duration = Duration::from_secs(10);

/// What the shell must do.
#[derive(Debug)]
pub(crate) enum InboxEffect {
    /// Load the tenant's state and report it to the machine.
    Load,
    /// Run this batch and report its end to the machine.
    Commit(InboxBatch),
    /// Tell the caller that its request failed.
    Reject(Request, BrokerError),
    /// Send these webhooks and report to the machine when each attempt is over.
    Deliver(Dispatched),
    /// Wait for a delivery permit and pass it to the machine.
    AwaitPermit,
}

/// Limits of batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) operations: OperationLimits,
}

impl From<&BrokerOptions> for BatchLimits {
    fn from(options: &BrokerOptions) -> Self {
        Self {
            events_max: options.batch_events_max,
            bytes_max: options.batch_bytes_max,
            operations: OperationLimits {
                idempotency_retention: options.idempotency_retention,
                attempt_time: options.claim_time(),
                disable_after: options.delivery.disable_after,
                subscriptions_max: options.delivery.subscriptions_max,
                lease_scan_rows_max: options.lease_scan_rows_max,
            },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of the store; the next request loads it.
    Unloaded,
    Loading,
    Ready,
    Committing,
}

pub(crate) struct InboxMachine {
    environment: Environment,
    limits: BatchLimits,
    phase: Phase,
    last_id: EventId,
    counts: Counts,
    waiting: VecDeque<Request>,
    /// Batches that are ordered and not yet known to be durable.
    ordered: usize,
    /// Requests that are not yet checked for idempotency keys in flight.
    arrived: Vec<Request>,
    /// Time at which leases are to be ended.
    first_lease_end: Option<Timestamp>,
    /// The inbox's own request to end leases is waiting or in flight.
    is_expiring: bool,
    keys_in_flight: HashSet<[u8; 16]>,
    dispatcher: Dispatcher,
    positions: QueuePositions,
    /// Time of the next load, because a commit of unknown outcome may take effect after the last
    /// load.
    reload_at: Option<Timestamp>,
    /// Claims go alone, because a batch with one has failed: a broken claim must not hold up
    /// appends.
    claims_alone: bool,
    /// Time of the last plan: stamps never go back, so webhooks keep their order.
    last_plan: Timestamp,
}

impl InboxMachine {
    pub(crate) fn new(
        environment: Environment,
        limits: BatchLimits,
        dispatcher: Dispatcher,
    ) -> Self {
        Self {
            environment,
            limits,
            phase: Phase::Unloaded,
            last_id: EventId::ZERO,
            counts: Counts::default(),
            waiting: VecDeque::new(),
            ordered: 0,
            arrived: Vec::new(),
            first_lease_end: None,
            is_expiring: false,
            keys_in_flight: HashSet::new(),
            dispatcher,
            positions: QueuePositions::default(),
            reload_at: None,
            claims_alone: false,
            last_plan: Timestamp::EPOCH,
        }
    }

    /// A request came in.
    #[cfg(test)]
    pub(crate) fn submit(&mut self, request: Request) -> Vec<InboxEffect> {
        self.admit(request);
        self.proceed()
    }

    /// Requests came in, in this order. They are admitted when the load or batch under way, if any,
    /// has ended, so that the keys it held are free by then.
    pub(crate) fn arrive(&mut self, requests: Vec<Request>) {
        self.arrived.extend(requests);
    }

    /// Whether a load or a batch is under way, so that requests can only wait. While a batch
    /// becomes durable the next one begins only if waiting would not make it much larger.
    pub(crate) fn is_under_way(&self) -> bool {
        match (self.phase, self.ordered) {
            (Phase::Loading | Phase::Committing, _) => true,
            (Phase::Unloaded, ordered) => ordered > 0,
            (Phase::Ready, 0) => false,
            (Phase::Ready, 1) => !self.would_be_large(),
            (Phase::Ready, _) => true,
        }
    }

    /// The timer fired, or the partition knows of something that may be due.
    pub(crate) fn timer(&mut self) -> Vec<InboxEffect> {
        let now = self.now().wall;
        let is_due = self.first_lease_end.is_some_and(|end| end <= now);
        if self.phase == Phase::Ready && self.reload_at.is_some_and(|at| at <= now) {
            (self.phase, self.reload_at) = (Phase::Unloaded, None);
        }
        let is_unknown = self.phase == Phase::Unloaded;
        if !self.is_expiring && (is_due || is_unknown) {
            self.is_expiring = true;
            self.admit(Request::own(OwnWork::Expire));
        }
        self.proceed()
    }

    /// Attempts have ended or have outcomes to store. The caller goes on with
    /// [`InboxMachine::proceed`].
    pub(crate) fn attempts_reported(&mut self, reported: Reported) {
        let now = self.now();
        for EndedAttempt { subscription, measured, .. } in reported.ended {
            self.dispatcher.ended(subscription, measured, now);
        }
        self.arrived.extend(reported.requests);
    }

    /// The permit that the inbox waited for; none if the node gives no more.
    pub(crate) fn granted(&mut self, permit: Option<DeliveryPermit>) -> Vec<InboxEffect> {
        self.dispatcher.granted(permit);
        self.proceed()
    }

    /// What closing the inbox would lose, besides requests.
    pub(crate) fn attachment(&self) -> Attachment {
        match (self.dispatcher.is_busy(), self.dispatcher.is_attached()) {
            (true, _) => Attachment::Busy,
            (false, true) => Attachment::Attached,
            (false, false) => Attachment::Free,
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.environment.steady(), monotonic: self.environment.monotonic() }
    }

    #[cfg(test)]
    pub(crate) fn last_id(&self) -> EventId {
        self.last_id
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Time at which [`InboxMachine::timer`] has something to do.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        let now = self.now();
        let webhooks = match self.phase {
            Phase::Unloaded if self.ordered == 0 => return Some(now.wall),
            Phase::Ready if self.ordered == 0 => self.dispatcher.next(now),
            // Work that is due sooner is handled when the load or batch under way has ended.
            Phase::Unloaded | Phase::Loading | Phase::Ready | Phase::Committing => {
                self.dispatcher.next(now).filter(|next| *next > now.wall)
            }
        };
        [self.first_lease_end, self.reload_at, webhooks].into_iter().flatten().min()
    }

    /// Time at which the partition must open this inbox again if it is closed now.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        if matches!(self.phase, Phase::Unloaded | Phase::Loading) {
            return Some(Timestamp::EPOCH);
        }
        let first_lease_end = self.first_lease_end.filter(|_| !is_planted(Bug::IdleForgetsLeases));
        [first_lease_end, self.reload_at, self.dispatcher.next_due(self.now())]
            .into_iter()
            .flatten()
            .min()
    }

    /// The load of the tenant's state has ended.
    pub(crate) fn loaded(&mut self, result: Result<InboxState, BrokerError>) -> Vec<InboxEffect> {
        assert_eq!(self.phase, Phase::Loading, "INBOX-2: no load was under way");
        match result {
            Ok(state) => {
                assert!(state.last_id >= self.last_id, "INBOX-2: the store has lost minted ids");
                (self.last_id, self.counts) = (state.last_id, state.counts);
                // What was never tried is due at the time in its id.
                self.environment.advance(state.last_id.created_at(), false);
                self.first_lease_end = state.first_lease_end;
                self.dispatcher.load(state.subscriptions);
                self.positions.load(state.webhook_marks, state.last_id);
                self.phase = Phase::Ready;
                self.proceed()
            }
            Err(error) => {
                self.phase = Phase::Unloaded;
                self.admit_arrived();
                let waiting = std::mem::take(&mut self.waiting);
                waiting.into_iter().map(|request| self.reject(request, error.clone())).collect()
            }
        }
    }

    /// A batch is durable and its requests are answered.
    pub(crate) fn committed(&mut self, applied: Applied, finished: Finished) -> Vec<InboxEffect> {
        let mut effects = self.apply_batch(applied, finished);
        effects.extend(self.proceed());
        effects
    }

    /// A batch is ordered. Its requests are answered once it is durable.
    pub(crate) fn ordered(&mut self, applied: Applied, finished: Finished) -> Vec<InboxEffect> {
        assert!(applied.notices.is_empty(), "INBOX-7: a notice before the batch is durable");
        let mut effects = self.apply_batch(applied, finished);
        self.ordered += 1;
        effects.extend(self.proceed());
        effects
    }

    /// One of the ordered batches is durable.
    pub(crate) fn durable(&mut self) -> Vec<InboxEffect> {
        assert!(self.ordered > 0, "INBOX-1: a batch became durable that was not in order");
        self.ordered -= 1;
        self.proceed()
    }

    /// Updates the machine to the state after a batch.
    fn apply_batch(&mut self, applied: Applied, finished: Finished) -> Vec<InboxEffect> {
        assert_eq!(self.phase, Phase::Committing, "INBOX-1: no batch was in flight");
        assert!(applied.last_id >= self.last_id, "INBOX-2: ids went back");
        self.last_id = applied.last_id;
        self.counts = applied.counts;
        self.positions.apply(applied.searches, applied.webhook_marks);
        if let Some(first) = applied.first_lease_end {
            self.first_lease_end = first;
        }
        let notices = applied.notices.into_iter();
        let effects = notices.filter_map(|notice| self.apply_notice(notice)).collect();
        // After the notices: a claim does not know of the webhooks that its batch has added.
        self.dispatcher.added(&applied.due);
        self.release(finished);
        self.phase = Phase::Ready;
        effects
    }

    fn apply_notice(&mut self, notice: Notice) -> Option<InboxEffect> {
        let now = self.now();
        match notice {
            Notice::Claimed { subscription, attempts, next, until } => {
                self.claims_alone = false;
                let dispatched = self.dispatcher.claimed(subscription, attempts, next, until);
                return dispatched.map(InboxEffect::Deliver);
            }
            Notice::Completed { subscription, due, row, health } => {
                if self.dispatcher.completed(subscription, due, row, health, now) {
                    metrics::counter!("triggers_webhook_breakers_opened_total").increment(1);
                }
            }
            Notice::GaveUp { subscription, next, is_removed } => {
                if is_removed {
                    self.positions.forget_subscription(subscription);
                }
                self.dispatcher.gave_up(subscription, next, is_removed)
            }
            Notice::SubscriptionChanged(row) => self.dispatcher.changed(*row),
            Notice::SubscriptionDeleted(subscription) => self.dispatcher.deleted(subscription),
        }
        None
    }

    /// A batch failed; its requests are not answered yet.
    pub(crate) fn failed(&mut self, batch: InboxBatch, error: TableError) -> Vec<InboxEffect> {
        assert_eq!(self.phase, Phase::Committing, "INBOX-1: no batch was in flight");
        self.phase = Phase::Unloaded;
        let requests = batch.requests.into_iter().map(|planned| planned.request);
        if let TableError::HeadMoved { .. } = error {
            // Nothing of it is stored. The same requests go again, with ids after the present head.
            for request in requests.rev() {
                self.waiting.push_front(request);
            }
            return self.proceed();
        }
        let error = self.broker_error(error);
        let mut effects = Vec::new();
        for request in requests {
            self.claims_alone |= matches!(request.own, Some(OwnWork::Claim { .. }));
            effects.push(self.reject(request, error.clone()));
        }
        effects.extend(self.proceed());
        effects
    }

    /// An ordered batch is not known to be durable; its requests are not answered yet. A batch that
    /// has begun since goes on.
    pub(crate) fn durability_unknown(
        &mut self,
        batch: InboxBatch,
        error: TableError,
    ) -> Vec<InboxEffect> {
        assert!(self.ordered > 0, "INBOX-1: a batch failed that was not in order");
        self.ordered -= 1;
        self.positions.forget();
        if self.phase == Phase::Ready {
            self.phase = Phase::Unloaded;
        }
        let error = self.broker_error(error);
        // The batch has released the keys of its requests when it was ordered.
        let requests = batch.requests.into_iter();
        let mut effects: Vec<_> =
            requests.map(|planned| InboxEffect::Reject(planned.request, error.clone())).collect();
        effects.extend(self.proceed());
        effects
    }

    fn broker_error(&mut self, error: TableError) -> BrokerError {
        let error = BrokerError::from(error);
        if error == BrokerError::Unknown {
            self.reload_at = Some(self.now().wall.plus(LATE_COMMIT));
        }
        error
    }

    /// Loads if nothing is known, or plans the next batch if it is time for it.
    pub(crate) fn proceed(&mut self) -> Vec<InboxEffect> {
        let mut effects = Vec::new();
        if self.is_under_way() {
            return effects;
        }
        self.admit_arrived();
        if self.phase == Phase::Ready {
            let (work, wants_permit) = self.dispatcher.plan(self.now());
            work.into_iter().for_each(|work| self.admit(Request::own(work)));
            effects.extend(wants_permit.then_some(InboxEffect::AwaitPermit));
            effects.extend(self.plan());
        } else if !self.waiting.is_empty() {
            self.phase = Phase::Loading;
            effects.push(InboxEffect::Load);
        }
        effects
    }

    fn admit_arrived(&mut self) {
        for request in std::mem::take(&mut self.arrived) {
            self.admit(request);
        }
    }

    /// Adds a request to the waiting ones. Its appends whose idempotency key is in flight are
    /// rejected.
    fn admit(&mut self, mut request: Request) {
        let Request { footprint, rejected, .. } = &mut request;
        let mut own_keys = HashSet::new();
        footprint.keys.retain(|(index, key)| {
            // Within one request a repeated key is a repeated event, which is answered as a replay.
            let is_free = own_keys.contains(key) || self.keys_in_flight.insert(*key);
            if is_free {
                own_keys.insert(*key);
            } else {
                rejected.push(*index);
            }
            is_free
        });
        self.waiting.push_back(request);
    }

    fn reject(&mut self, request: Request, error: BrokerError) -> InboxEffect {
        let mut finished = Finished::default();
        finished.note(&request);
        self.release(finished);
        InboxEffect::Reject(request, error)
    }

    fn release(&mut self, finished: Finished) {
        self.is_expiring &= !finished.has_expired;
        for subscription in finished.asked {
            self.dispatcher.answered(subscription);
        }
        for key in finished.keys {
            assert!(
                self.keys_in_flight.remove(&key),
                "INBOX-3: a key finished that was not in flight"
            );
        }
    }
}
