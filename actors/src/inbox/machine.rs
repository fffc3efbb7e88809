//! The inbox's logic: what is gathered, which batch goes next, which ids it gets, who is refused. No I/O.
//!
//! The shell tells it of requests and of finished loads and batches; it answers with [`InboxEffect`]s.
//! Invariants: `INBOX-1` a batch begins when the one before has its place in the order of commits, so commit order is id order and
//! no cursor ever skips an event; two at most are in flight;
//! `INBOX-2` ids are minted after every id that the store may know; after an outcome that is not known the head is loaded
//! again before anything is minted; `INBOX-3` an idempotency key is in flight at most once; `INBOX-4` a request is answered
//! exactly once, by an effect of this machine or by the batch that carries it; `INBOX-5` counts equal the store's as of
//! the last commit in order; `INBOX-6` requests that name the same event go into different batches, in their order, and so do
//! requests that choose their events and requests that name them; `INBOX-7` nothing is sent to anybody before what it is about is
//! durable. A broken one panics: the supervisor builds the inbox anew from the store.
//! What is pushed, and when, is [`super::dispatch`]'s part of it.
//! On a crash everything gathered is dropped unanswered, and callers see an unknown outcome.

mod commands;
mod plan;

use super::batch::{Batch, Committed, Finished, Planned, PushNews, Slot};
use super::dispatch::{Dispatched, Dispatcher, Now};
use super::request::{Answer, BrokerError, NewEvent, Refusal, Write};
use super::signals::Attachment;
use crate::delivery;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Environment, EventId, SubscriptionId, Timestamp};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Command, Counts};
use triggers_store::tables::inbox::InboxState;

/// How long a commit of unknown outcome may still take effect.
const LATE_COMMIT: Duration = Duration::from_secs(10);

/// Somebody who waits for an answer.
pub(crate) trait Requester {
    /// Whether it still waits: not gone, and its deadline not passed.
    fn is_waiting(&self) -> bool;
}

/// A request with the one who waits for it.
#[derive(Debug)]
pub(crate) struct Request<R> {
    pub(crate) writes: Vec<Write>,
    /// Payload bytes in all.
    pub(crate) bytes: usize,
    /// How many events may wait (received or queued) before appends are refused.
    pub(crate) waiting_events_max: Option<u64>,
    /// None if the inbox asks itself.
    pub(crate) requester: Option<R>,
}

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum InboxEffect<R> {
    /// Load the tenant's state and tell the machine.
    Load,
    /// Run this batch and tell the machine.
    Commit(Batch<R>),
    /// Answer.
    Reply(R, Answer),
    /// Send these webhooks, and tell the machine when each is over.
    Deliver(Dispatched),
    /// Wait for a slot for a webhook and tell the machine.
    AwaitSlot,
}

/// Limits of batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) idempotency_retention: Duration,
    /// How long after its claim something must be heard of an attempt to a subscription.
    pub(crate) attempt_time: Duration,
    pub(crate) disable_after: Duration,
    pub(crate) subscriptions_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of the store; the next request loads it.
    Unloaded,
    Loading,
    Ready,
    Committing,
}

pub(crate) struct InboxMachine<R> {
    environment: Environment,
    limits: BatchLimits,
    phase: Phase,
    last_id: EventId,
    counts: Counts,
    waiting: VecDeque<Planned<R>>,
    /// Batches that have their place in the order and are not known to be durable.
    unsettled: usize,
    /// What nobody has looked at yet.
    arrived: Vec<Request<R>>,
    /// When leases are to be ended.
    first_lease_end: Option<Timestamp>,
    /// Whether that is on its way already.
    expiring: bool,
    keys_in_flight: HashSet<[u8; 16]>,
    dispatcher: Dispatcher,
    /// When everything is to be loaded again, because a commit of unknown outcome may still have come after the last load.
    reload_at: Option<Timestamp>,
    /// Whether claims go alone, because a batch with one has failed: what is wrong with it must not hold up appends.
    claims_alone: bool,
}

impl<R: Requester> InboxMachine<R> {
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
            unsettled: 0,
            arrived: Vec::new(),
            first_lease_end: None,
            expiring: false,
            keys_in_flight: HashSet::new(),
            dispatcher,
            reload_at: None,
            claims_alone: false,
        }
    }

    /// A request came in.
    pub(crate) fn submit(&mut self, request: Request<R>) -> Vec<InboxEffect<R>> {
        let planned = self.admit(request);
        self.waiting.push_back(planned);
        self.proceed()
    }

    /// Requests came in, in this order. They are looked at with what comes next: when the load or the batch that is under way
    /// has come to its end, if there is one, so that what this has held is free by then.
    pub(crate) fn arrive(&mut self, requests: Vec<Request<R>>) {
        self.arrived.extend(requests);
    }

    /// Whether a load or a batch is under way, so that requests can only wait. While a batch becomes durable the next one begins only
    /// if it would not gain much by waiting as well.
    pub(crate) fn is_under_way(&self) -> bool {
        match (self.phase, self.unsettled) {
            (Phase::Loading | Phase::Committing, _) => true,
            (Phase::Unloaded, unsettled) => unsettled > 0,
            (Phase::Ready, 0) => false,
            (Phase::Ready, 1) => !self.would_be_large(),
            (Phase::Ready, _) => true,
        }
    }

    /// Some time has passed, or the partition knows of something that may be due.
    pub(crate) fn tick(&mut self) -> Vec<InboxEffect<R>> {
        let now = self.environment.now();
        let is_due = self.first_lease_end.is_some_and(|end| end <= now);
        if self.phase == Phase::Ready && self.reload_at.is_some_and(|at| at <= now) {
            (self.phase, self.reload_at) = (Phase::Unloaded, None);
        }
        let is_unknown = self.phase == Phase::Unloaded;
        if !self.expiring && (is_due || is_unknown) {
            self.expiring = true;
            let planned = self.admit(Request::own(Write::Expire));
            self.waiting.push_back(planned);
        }
        self.proceed()
    }

    /// An attempt to a subscription is over.
    pub(crate) fn attempt_ended(&mut self, subscription: SubscriptionId) -> Vec<InboxEffect<R>> {
        self.dispatcher.ended(subscription);
        self.proceed()
    }

    /// The slot that was waited for; none if there will be no more.
    pub(crate) fn granted(
        &mut self,
        slot: Option<delivery::DeliveryPermit>,
    ) -> Vec<InboxEffect<R>> {
        self.dispatcher.granted(slot);
        self.proceed()
    }

    /// What would be lost if the inbox were closed, beside requests.
    pub(crate) fn attachment(&self) -> Attachment {
        match (self.dispatcher.is_busy(), self.dispatcher.is_attached()) {
            (true, _) => Attachment::Busy,
            (false, true) => Attachment::Attached,
            (false, false) => Attachment::Free,
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.environment.now(), monotonic: self.environment.monotonic() }
    }

    #[cfg(test)]
    pub(crate) fn last_id(&self) -> EventId {
        self.last_id
    }

    /// How many events wait, as the machine knows it.
    #[cfg(test)]
    pub(crate) fn received(&self) -> i64 {
        self.counts.get(triggers_protocol::EventStatus::Received)
    }

    /// When [`InboxMachine::tick`] has something to do.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        let now = self.now();
        let webhooks = match self.phase {
            Phase::Unloaded if self.unsettled == 0 => return Some(now.wall),
            Phase::Ready if self.unsettled == 0 => self.dispatcher.next(now),
            // Whatever is due by then is looked at when what is under way has come to its end.
            _ => self.dispatcher.next(now).filter(|next| *next > now.wall),
        };
        [self.first_lease_end, self.reload_at, webhooks].into_iter().flatten().min()
    }

    /// When somebody has to look after this tenant if this inbox is closed now.
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

    /// Whether anybody still waits for a request; the inbox waits for its own.
    fn is_waiting(planned: &Planned<R>) -> bool {
        planned.request.requester.as_ref().is_none_or(Requester::is_waiting)
    }

    /// The tenant's state was loaded, or could not be.
    pub(crate) fn loaded(
        &mut self,
        result: Result<InboxState, BrokerError>,
    ) -> Vec<InboxEffect<R>> {
        assert_eq!(self.phase, Phase::Loading, "INBOX-2: a load was not asked for");
        match result {
            Ok(state) => {
                assert!(state.last_id >= self.last_id, "INBOX-2: the store has lost minted ids");
                (self.last_id, self.counts) = (state.last_id, state.counts);
                self.first_lease_end = state.first_lease_end;
                self.dispatcher.load(state.subscriptions);
                self.phase = Phase::Ready;
                self.proceed()
            }
            Err(error) => {
                self.phase = Phase::Unloaded;
                self.admit_arrived();
                let refused: Vec<_> = self.waiting.drain(..).collect();
                refused
                    .into_iter()
                    .filter_map(|planned| self.refuse(planned, error.clone()))
                    .collect()
            }
        }
    }

    /// A batch is durable and its requests are answered.
    pub(crate) fn committed(
        &mut self,
        committed: Committed,
        finished: Finished,
    ) -> Vec<InboxEffect<R>> {
        let mut effects = self.take(committed, finished);
        effects.extend(self.proceed());
        effects
    }

    /// A batch has its place in the order: whatever begins now sees it, and comes after it. Its requests are answered when it is durable.
    pub(crate) fn ordered(
        &mut self,
        committed: Committed,
        finished: Finished,
    ) -> Vec<InboxEffect<R>> {
        assert!(committed.news.is_empty(), "INBOX-7: what is not durable has become news");
        let mut effects = self.take(committed, finished);
        self.unsettled += 1;
        effects.extend(self.proceed());
        effects
    }

    /// One of the batches in order is durable.
    pub(crate) fn settled(&mut self) -> Vec<InboxEffect<R>> {
        assert!(self.unsettled > 0, "INBOX-1: a batch became durable that was not in order");
        self.unsettled -= 1;
        self.proceed()
    }

    fn take(&mut self, committed: Committed, finished: Finished) -> Vec<InboxEffect<R>> {
        assert_eq!(
            self.phase,
            Phase::Committing,
            "INBOX-1: a batch finished that was not in flight"
        );
        assert!(committed.last_id >= self.last_id, "INBOX-2: ids went back");
        self.last_id = committed.last_id;
        self.counts = committed.counts;
        if let Some(first) = committed.first_lease_end {
            self.first_lease_end = first;
        }
        let mut effects = Vec::new();
        for news in committed.news {
            effects.extend(self.learn(news));
        }
        // Behind the news: a claim does not know of what its batch has added.
        self.dispatcher.added(&committed.due);
        self.release(finished);
        self.phase = Phase::Ready;
        effects
    }

    fn learn(&mut self, news: PushNews) -> Option<InboxEffect<R>> {
        let now = self.now();
        match news {
            PushNews::Claimed { subscription, attempts, next, until } => {
                self.claims_alone = false;
                let dispatched = self.dispatcher.claimed(subscription, attempts, (next, until));
                return dispatched.map(InboxEffect::Deliver);
            }
            PushNews::Settled { subscription, settled, health } => {
                if self.dispatcher.settled(subscription, *settled, health, now) {
                    metrics::counter!("triggers_webhook_breakers_opened_total").increment(1);
                }
            }
            PushNews::GaveUp { subscription, next, removed } => {
                self.dispatcher.gave_up(subscription, next, removed)
            }
            PushNews::Changed(row) => self.dispatcher.changed(*row),
            PushNews::Deleted(subscription) => self.dispatcher.deleted(subscription),
        }
        None
    }

    /// A batch failed; its requests are not answered yet.
    pub(crate) fn failed(&mut self, batch: Batch<R>, error: TableError) -> Vec<InboxEffect<R>> {
        assert_eq!(self.phase, Phase::Committing, "INBOX-1: a batch failed that was not in flight");
        self.phase = Phase::Unloaded;
        if let TableError::HeadMoved { .. } = error {
            // Nothing of it is stored. The same requests go again, with ids after the head as it is now.
            for planned in batch.requests.into_iter().rev() {
                self.waiting.push_front(planned);
            }
            return self.proceed();
        }
        let error = self.broker_error(error);
        self.claims_alone |=
            batch.commands.iter().any(|command| matches!(command, Command::Claim(_)));
        let mut effects: Vec<_> = batch
            .requests
            .into_iter()
            .filter_map(|planned| self.refuse(planned, error.clone()))
            .collect();
        effects.extend(self.proceed());
        effects
    }

    /// A batch that was in order is not durable, as far as is known; its requests are not answered yet. One that has begun since
    /// goes on.
    pub(crate) fn lost(&mut self, batch: Batch<R>, error: TableError) -> Vec<InboxEffect<R>> {
        assert!(self.unsettled > 0, "INBOX-1: a batch failed that was not in order");
        self.unsettled -= 1;
        if self.phase == Phase::Ready {
            self.phase = Phase::Unloaded;
        }
        let error = self.broker_error(error);
        // What they have held was given back when the batch got its place.
        let requesters = batch.requests.into_iter().filter_map(|planned| planned.request.requester);
        let mut effects: Vec<_> =
            requesters.map(|requester| InboxEffect::Reply(requester, Err(error.clone()))).collect();
        effects.extend(self.proceed());
        effects
    }

    fn broker_error(&mut self, error: TableError) -> BrokerError {
        let error = BrokerError::from(error);
        if error == BrokerError::Unknown {
            self.reload_at = Some(self.environment.now().plus(LATE_COMMIT));
        }
        error
    }

    /// Loads if nothing is known, or plans the next batch if it is time for it.
    pub(crate) fn proceed(&mut self) -> Vec<InboxEffect<R>> {
        let mut effects = Vec::new();
        if self.is_under_way() {
            return effects;
        }
        self.admit_arrived();
        if self.phase == Phase::Ready {
            self.dispatch(&mut effects);
            effects.extend(self.plan());
        } else if !self.waiting.is_empty() {
            self.phase = Phase::Loading;
            effects.push(InboxEffect::Load);
        }
        effects
    }

    /// Puts what is to be asked for webhooks among the requests.
    fn dispatch(&mut self, effects: &mut Vec<InboxEffect<R>>) {
        let (writes, wants_slot) = self.dispatcher.plan(self.now());
        for write in writes {
            let planned = self.admit(Request::own(write));
            self.waiting.push_back(planned);
        }
        effects.extend(wants_slot.then_some(InboxEffect::AwaitSlot));
    }

    fn admit_arrived(&mut self) {
        for request in std::mem::take(&mut self.arrived) {
            let planned = self.admit(request);
            self.waiting.push_back(planned);
        }
    }

    /// Refuses the appends whose idempotency key is in flight already.
    fn admit(&mut self, request: Request<R>) -> Planned<R> {
        let mut own_keys = HashSet::new();
        let mut slots = Vec::with_capacity(request.writes.len());
        for write in &request.writes {
            slots.push(match write {
                Write::Append(event) => self.admit_append(event, &mut own_keys),
                // The number is set when the batch is planned.
                _ => Slot::Command(0),
            });
        }
        Planned { request, slots }
    }

    fn admit_append(&mut self, event: &NewEvent, own_keys: &mut HashSet<[u8; 16]>) -> Slot {
        let Some(key) = &event.idempotency else { return Slot::Command(0) };
        // Within one request a repeated key is a repeated event, which the transaction answers as a replay.
        if self.keys_in_flight.contains(&key.hash) && !own_keys.contains(&key.hash) {
            return Slot::Refused(Refusal::KeyInFlight);
        }
        own_keys.insert(key.hash);
        self.keys_in_flight.insert(key.hash);
        Slot::Command(0)
    }

    fn refuse(&mut self, planned: Planned<R>, error: BrokerError) -> Option<InboxEffect<R>> {
        let mut finished = Finished::default();
        finished.note(&planned);
        self.release(finished);
        planned.request.requester.map(|requester| InboxEffect::Reply(requester, Err(error)))
    }

    fn release(&mut self, finished: Finished) {
        self.expiring &= !finished.expired;
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
