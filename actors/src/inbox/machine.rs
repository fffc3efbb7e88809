//! The inbox's logic: what is gathered, which batch goes next, which ids it gets, who is refused. No I/O.
//!
//! The shell tells it of requests and of finished loads and batches; it answers with [`InboxEffect`]s.
//! Invariants: `INBOX-1` at most one batch is in flight, so commit order is id order and no cursor ever skips an event;
//! `INBOX-2` ids are minted after every id that the store may know; after an outcome that is not known the head is loaded
//! again before anything is minted; `INBOX-3` an idempotency key is in flight at most once; `INBOX-4` a request is answered
//! exactly once, by an effect of this machine or by the batch that carries it; `INBOX-5` counts equal the store's as of
//! the last commit; `INBOX-6` requests that name the same event go into different batches, in their order. A broken one panics: the supervisor builds the inbox anew from the store.
//! On a crash everything gathered is dropped unanswered, and callers see an unknown outcome.

use super::request::{Answer, BrokerError, NewEvent, Refusal, Write, WriteResult};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use triggers_protocol::{Environment, EventId, EventStatus, Timestamp};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Append, Command, Counts, IdempotencyKey, Outcome};
use triggers_store::tables::inbox::InboxState;

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
    pub(crate) requester: R,
}

impl<R> Request<R> {
    /// The events that it names.
    fn names(&self) -> impl Iterator<Item = EventId> {
        self.writes.iter().filter_map(|write| match write {
            Write::Append(_) => None,
            Write::Acknowledge(id) | Write::Delete(id) => Some(*id),
        })
    }
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
}

/// Limits of batches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) idempotency_retention: Duration,
}

/// Requests that go into one transaction.
#[derive(Debug)]
pub(crate) struct Batch<R> {
    /// The id that the first one here was minted after.
    pub(crate) last_id: EventId,
    /// The last id minted here; `last_id` if none was.
    pub(crate) minted_id: EventId,
    pub(crate) commands: Vec<Command>,
    requests: Vec<Planned<R>>,
}

/// A request in a batch: one slot for each of its writes.
#[derive(Debug)]
struct Planned<R> {
    request: Request<R>,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    /// The write is the batch's command of this number.
    Command(usize),
    /// The write was refused when the request came in.
    Refused(Refusal),
}

/// What the batch's completion tells the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) last_id: EventId,
    pub(crate) delta: Counts,
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
    /// Events gathered or in flight that would add to those waiting.
    appending: u64,
    keys_in_flight: HashSet<[u8; 16]>,
}

impl<R: Requester> InboxMachine<R> {
    pub(crate) fn new(environment: Environment, limits: BatchLimits) -> Self {
        Self {
            environment,
            limits,
            phase: Phase::Unloaded,
            last_id: EventId::ZERO,
            counts: Counts::default(),
            waiting: VecDeque::new(),
            appending: 0,
            keys_in_flight: HashSet::new(),
        }
    }

    /// A request came in.
    pub(crate) fn submit(&mut self, request: Request<R>) -> Vec<InboxEffect<R>> {
        let planned = self.admit(request);
        self.waiting.push_back(planned);
        self.proceed()
    }

    /// The tenant's state was loaded, or could not be.
    pub(crate) fn loaded(&mut self, result: Result<InboxState, BrokerError>) -> Vec<InboxEffect<R>> {
        assert_eq!(self.phase, Phase::Loading, "INBOX-2: a load was not asked for");
        match result {
            Ok(state) => {
                assert!(state.last_id >= self.last_id, "INBOX-2: the store has lost minted ids");
                (self.last_id, self.counts) = (state.last_id, state.counts);
                self.phase = Phase::Ready;
                self.proceed()
            }
            Err(error) => {
                self.phase = Phase::Unloaded;
                let refused: Vec<_> = self.waiting.drain(..).collect();
                refused.into_iter().map(|planned| self.refuse(planned, error.clone())).collect()
            }
        }
    }

    /// A batch is durable and its requests are answered.
    pub(crate) fn committed(&mut self, committed: Committed, finished: Finished) -> Vec<InboxEffect<R>> {
        assert_eq!(self.phase, Phase::Committing, "INBOX-1: a batch finished that was not in flight");
        assert!(committed.last_id >= self.last_id, "INBOX-2: ids went back");
        self.last_id = committed.last_id;
        self.counts.merge(&committed.delta);
        self.release(finished);
        self.phase = Phase::Ready;
        self.proceed()
    }

    /// A batch failed; its requests are not answered yet.
    pub(crate) fn failed(&mut self, batch: Batch<R>, error: TableError) -> Vec<InboxEffect<R>> {
        assert_eq!(self.phase, Phase::Committing, "INBOX-1: a batch failed that was not in flight");
        if let TableError::HeadMoved { .. } = error {
            // Nothing of it is stored. The same requests go again, with ids after the head as it is now.
            for planned in batch.requests.into_iter().rev() {
                self.waiting.push_front(planned);
            }
            self.phase = Phase::Loading;
            return vec![InboxEffect::Load];
        }
        let error = BrokerError::from(error);
        let mut effects: Vec<_> =
            batch.requests.into_iter().map(|planned| self.refuse(planned, error.clone())).collect();
        self.phase = Phase::Unloaded;
        effects.extend(self.proceed());
        effects
    }

    /// Loads if nothing is known, or plans the next batch if none is in flight.
    fn proceed(&mut self) -> Vec<InboxEffect<R>> {
        let mut effects = self.drop_abandoned();
        match self.phase {
            _ if self.waiting.is_empty() => {}
            Phase::Unloaded => {
                self.phase = Phase::Loading;
                effects.push(InboxEffect::Load);
            }
            Phase::Ready => effects.extend(self.plan()),
            Phase::Loading | Phase::Committing => {}
        }
        effects
    }

    /// Drops work whose requester is gone or too late, before it costs a commit.
    fn drop_abandoned(&mut self) -> Vec<InboxEffect<R>> {
        let mut effects = Vec::new();
        while self.phase == Phase::Ready
            && self.waiting.front().is_some_and(|planned| !planned.request.requester.is_waiting())
        {
            let planned = self.waiting.pop_front().expect("its front was looked at just above");
            effects.push(self.refuse(planned, BrokerError::DeadlinePassed));
        }
        effects
    }

    /// Decides what can be decided on arrival: keys in flight, and the quota.
    fn admit(&mut self, request: Request<R>) -> Planned<R> {
        let waiting = |status| u64::try_from(self.counts.get(status)).unwrap_or(0);
        let mut room = request.waiting_events_max.map_or(u64::MAX, |max| {
            let taken = waiting(EventStatus::Received) + waiting(EventStatus::Queued) + self.appending;
            max.saturating_sub(taken)
        });
        let mut own_keys = HashSet::new();
        let mut slots = Vec::with_capacity(request.writes.len());
        for write in &request.writes {
            slots.push(match write {
                Write::Append(event) => self.admit_append(event, &mut room, &mut own_keys),
                // The number is set when the batch is planned.
                Write::Acknowledge(_) | Write::Delete(_) => Slot::Command(0),
            });
        }
        Planned { request, slots }
    }

    fn admit_append(&mut self, event: &NewEvent, room: &mut u64, own_keys: &mut HashSet<[u8; 16]>) -> Slot {
        if let Some(key) = &event.idempotency {
            // Within one request a repeated key is a repeated event, which the transaction answers as a replay.
            if self.keys_in_flight.contains(&key.hash) && !own_keys.contains(&key.hash) {
                return Slot::Refused(Refusal::KeyInFlight);
            }
        }
        if *room == 0 {
            return Slot::Refused(Refusal::QuotaExceeded);
        }
        if let Some(key) = &event.idempotency {
            own_keys.insert(key.hash);
            self.keys_in_flight.insert(key.hash);
        }
        *room -= 1;
        self.appending += 1;
        Slot::Command(0)
    }

    /// Takes whole requests until the batch is full. At least one goes, however large.
    fn plan(&mut self) -> Option<InboxEffect<R>> {
        let now = self.environment.now();
        let mut batch =
            Batch { last_id: self.last_id, minted_id: self.last_id, commands: Vec::new(), requests: Vec::new() };
        let (mut bytes, mut named) = (0, HashSet::new());
        while let Some(next) = self.waiting.front() {
            let full = batch.commands.len() + next.request.writes.len() > self.limits.events_max
                || bytes + next.request.bytes > self.limits.bytes_max
                || next.request.names().any(|id| named.contains(&id));
            if full && !batch.requests.is_empty() {
                break;
            }
            named.extend(next.request.names());
            let planned = self.waiting.pop_front().expect("its front was looked at just above");
            bytes += planned.request.bytes;
            self.add_to(&mut batch, planned, now);
        }
        self.phase = Phase::Committing;
        Some(InboxEffect::Commit(batch))
    }

    fn add_to(&self, batch: &mut Batch<R>, mut planned: Planned<R>, now: Timestamp) {
        for (write, slot) in planned.request.writes.iter().zip(&mut planned.slots) {
            let Slot::Command(number) = slot else { continue };
            *number = batch.commands.len();
            batch.commands.push(match write {
                Write::Append(event) => {
                    batch.minted_id = EventId::mint(batch.minted_id, now, self.environment.bytes());
                    Command::Append(Box::new(self.append(event, batch.minted_id, now)))
                }
                Write::Acknowledge(id) => Command::Acknowledge { id: *id, at: now },
                Write::Delete(id) => Command::Delete { id: *id, at: now },
            });
        }
        batch.requests.push(planned);
    }

    fn append(&self, event: &NewEvent, id: EventId, now: Timestamp) -> Append {
        Append {
            id,
            event_type: event.event_type.clone(),
            timestamp: event.timestamp.unwrap_or_else(|| id.created_at()),
            payload: event.payload.clone(),
            metadata: event.metadata.clone(),
            idempotency: event.idempotency.map(|key| IdempotencyKey {
                hash: key.hash,
                request_digest: key.request_digest,
                now,
                expires_at: now.plus(self.limits.idempotency_retention),
            }),
        }
    }

    fn refuse(&mut self, planned: Planned<R>, error: BrokerError) -> InboxEffect<R> {
        let mut finished = Finished::default();
        finished.note(&planned);
        self.release(finished);
        InboxEffect::Reply(planned.request.requester, Err(error))
    }

    fn release(&mut self, finished: Finished) {
        assert!(finished.appends <= self.appending, "INBOX-4: more appends finished than were taken");
        self.appending -= finished.appends;
        for key in finished.keys {
            assert!(self.keys_in_flight.remove(&key), "INBOX-3: a key finished that was not in flight");
        }
    }
}

/// What finished requests no longer hold.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    appends: u64,
    keys: HashSet<[u8; 16]>,
}

impl Finished {
    fn note<R>(&mut self, planned: &Planned<R>) {
        for (write, slot) in planned.request.writes.iter().zip(&planned.slots) {
            if let (Write::Append(event), Slot::Command(_)) = (write, slot) {
                self.appends += 1;
                self.keys.extend(event.idempotency.map(|key| key.hash));
            }
        }
    }
}

impl<R> Batch<R> {
    /// Events that the batch would add.
    pub(crate) fn events(&self) -> usize {
        self.commands.iter().filter(|command| matches!(command, Command::Append(_))).count()
    }

    /// Turns the outcomes of a committed batch into what the machine is told and what each requester is answered.
    pub(crate) fn finish(self, outcomes: &[Outcome], delta: Counts) -> (Committed, Finished, Vec<(R, Answer)>) {
        let appended = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended(_)));
        let last_id = if appended { self.minted_id } else { self.last_id };
        let mut finished = Finished::default();
        let mut answers = Vec::with_capacity(self.requests.len());
        for planned in self.requests {
            finished.note(&planned);
            let results = planned.slots.iter().map(|slot| match *slot {
                Slot::Refused(refusal) => WriteResult::Refused(refusal),
                Slot::Command(number) => result_of(&self.commands[number], &outcomes[number]),
            });
            let results = results.collect();
            answers.push((planned.request.requester, Ok(results)));
        }
        (Committed { last_id, delta }, finished, answers)
    }
}

fn result_of(command: &Command, outcome: &Outcome) -> WriteResult {
    match (command, outcome) {
        (Command::Append(append), Outcome::Appended(_)) => accepted(append.to_event(), false),
        (Command::Append(append), Outcome::Replayed { id, event }) => {
            // If the first event was deleted since, the repeated request itself says what it was.
            let from_request = || {
                let mut event = append.to_event();
                if event.timestamp == event.id.created_at() {
                    event.timestamp = id.created_at();
                }
                event.id = *id;
                event
            };
            accepted(event.as_deref().cloned().unwrap_or_else(from_request), true)
        }
        (_, Outcome::KeyReused) => WriteResult::Refused(Refusal::KeyReused),
        (_, Outcome::Acknowledged(event)) => WriteResult::Acknowledged(event.clone()),
        (_, Outcome::Deleted) => WriteResult::Deleted,
        (_, Outcome::Gone) => WriteResult::Gone,
        (_, Outcome::NotFound) => WriteResult::NotFound,
        (_, Outcome::Appended(_) | Outcome::Replayed { .. }) => {
            unreachable!("INBOX-4: only an append is answered as appended or replayed")
        }
    }
}

fn accepted(event: triggers_protocol::Event, replayed: bool) -> WriteResult {
    WriteResult::Accepted(Box::new(super::request::Accepted { event, replayed }))
}
