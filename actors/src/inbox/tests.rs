//! The inbox machine against a model of the store that commits, fails, forgets to answer and moves the head by itself.
//! The shell is tested through the router, in `tests/it`.

use super::batch::{Batch, Committed, Finished};
use super::dispatch::Dispatcher;
use super::dispatch::tests::row;
use super::machine::{BatchLimits, InboxEffect, InboxMachine, Request, Requester};
use super::request::{Answer, BrokerError, IdempotencyRequest, NewEvent, Refusal, Write, WriteResult};
use crate::delivery::Slots;
use crate::options::DeliveryOptions;
use bytes::Bytes;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use triggers_protocol::{Environment, EventId, EventStatus, EventType};
use triggers_store::kv::{Fault, StoreError};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Applied, Command, Counts, Outcome};
use triggers_store::tables::inbox::InboxState;

const LIMITS: BatchLimits = BatchLimits {
    events_max: 4,
    bytes_max: 100,
    idempotency_retention: Duration::from_secs(60),
    attempt_time: Duration::from_secs(25),
    disable_after: Duration::from_secs(3_600),
    subscriptions_max: 3,
};

/// A requester that counts its answers.
#[derive(Debug, Clone)]
struct Caller {
    number: usize,
    waiting: bool,
}

impl Requester for Caller {
    fn is_waiting(&self) -> bool {
        self.waiting
    }
}

fn event(key: Option<u8>) -> NewEvent {
    NewEvent {
        event_type: EventType::parse("a.b").unwrap(),
        timestamp: None,
        payload: Bytes::from_static(b"{}"),
        metadata: std::sync::Arc::default(),
        idempotency: key.map(|key| IdempotencyRequest { hash: [key; 16], request_digest: [0; 32] }),
    }
}

fn append(number: usize, keys: &[Option<u8>]) -> Request<Caller> {
    Request {
        writes: keys.iter().map(|key| Write::Append(Box::new(event(*key)))).collect(),
        bytes: 10 * keys.len(),
        waiting_events_max: None,
        requester: Some(Caller { number, waiting: true }),
    }
}

fn empty() -> InboxState {
    InboxState { last_id: EventId::ZERO, first_lease_end: None, counts: Counts::default(), subscriptions: Vec::new() }
}

/// A store that has what the machine knows.
fn empty_after(machine: &InboxMachine<Caller>) -> InboxState {
    InboxState { last_id: machine.last_id(), ..empty() }
}

fn applied(outcomes: Vec<Outcome>, received: i64) -> Applied {
    let mut counts = Counts::default();
    counts.add(EventStatus::Received, received);
    Applied { outcomes, counts, first_lease_end: None, due: BTreeMap::new() }
}

fn machine() -> InboxMachine<Caller> {
    machine_with(LIMITS)
}

fn machine_with(limits: BatchLimits) -> InboxMachine<Caller> {
    let dispatcher = Dispatcher::new(DeliveryOptions::default().dispatch_limits(), Slots::new(10, usize::MAX));
    InboxMachine::new(Environment::system(), limits, dispatcher)
}

fn ready() -> InboxMachine<Caller> {
    let mut machine = machine();
    assert!(matches!(machine.submit(append(0, &[None]))[..], [InboxEffect::Load]));
    let mut effects = machine.loaded(Ok(empty()));
    let Some(InboxEffect::Commit(batch)) = effects.pop() else { panic!("no batch after the load") };
    finish(&mut machine, batch);
    machine
}

/// What a batch that is durable tells the machine and its callers.
fn ended(batch: Batch<Caller>, mut applied: Applied) -> (Committed, Finished, Vec<(Caller, Answer)>) {
    let (mut committed, finished) = batch.told(&applied);
    committed.news = batch.news(&mut applied.outcomes);
    (committed, finished, batch.answers(&applied.outcomes))
}

/// Commits a batch whose every command succeeds.
fn finish(machine: &mut InboxMachine<Caller>, batch: Batch<Caller>) -> Vec<InboxEffect<Caller>> {
    let received = machine.received() + i64::try_from(batch.events()).unwrap();
    let outcomes: Vec<Outcome> = batch.commands.iter().map(appended).collect();
    let (committed, finished, answers) = ended(batch, applied(outcomes, received));
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    machine.committed(committed, finished)
}

fn appended(command: &Command) -> Outcome {
    match command {
        Command::Append(append) => Outcome::Appended(append.id),
        Command::Expire { .. } => Outcome::Expired(0),
        _ => Outcome::NotFound,
    }
}

fn commit_of(mut effects: Vec<InboxEffect<Caller>>) -> Batch<Caller> {
    match effects.pop() {
        Some(InboxEffect::Commit(batch)) => batch,
        other => panic!("no batch but {other:?}"),
    }
}

#[test]
fn what_arrives_during_a_commit_goes_into_the_next_one() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    for number in 2..5 {
        assert!(machine.submit(append(number, &[None])).is_empty());
    }
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.commands.len(), 3);
    assert!(finish(&mut machine, second).is_empty());
}

#[test]
fn arrivals_wait_for_what_is_under_way_and_for_nothing_else() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7)])));
    // What the inbox asks itself comes in all the time; it does not go before them again and again.
    machine.submit(append(2, &[None]));
    machine.arrive(vec![append(3, &[Some(7)]), append(4, &[None])]);
    assert!(machine.proceed().is_empty());
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.commands.len(), 3, "INBOX-3: the key is free by then");
    machine.arrive(vec![append(5, &[None])]);
    assert_eq!(commit_of(finish(&mut machine, second)).commands.len(), 1);
}

/// Gives a batch its place in the order; what is done then.
fn order(machine: &mut InboxMachine<Caller>, batch: &Batch<Caller>) -> Vec<InboxEffect<Caller>> {
    let received = machine.received() + i64::try_from(batch.events()).unwrap();
    let (committed, finished) = batch.told(&applied(batch.commands.iter().map(appended).collect(), received));
    machine.ordered(committed, finished)
}

#[test]
fn a_large_batch_begins_before_the_one_in_order_is_durable() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7), None])));
    machine.arrive(vec![append(2, &[Some(7)]), append(3, &[Some(7)])]);
    let second = commit_of(order(&mut machine, &first));
    assert!(second.last_id == first.minted_id && second.commands.len() == 1, "it comes after the first: {second:?}");
    machine.arrive(vec![append(4, &[None]), append(5, &[None])]);
    assert!(order(&mut machine, &second).is_empty(), "INBOX-1: two are in flight");
    assert_eq!(commit_of(machine.settled()).commands.len(), 2);
}

#[test]
fn a_small_batch_waits_until_the_one_in_order_is_durable() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None; 4])));
    machine.arrive(vec![append(2, &[None])]);
    assert!(order(&mut machine, &first).is_empty() && machine.is_under_way());
    assert_eq!(commit_of(machine.settled()).commands.len(), 1);
}

#[test]
fn a_batch_is_in_the_pipeline_if_more_waits_and_it_is_nobody_elses_concern() {
    let mut machine = ready();
    let mut first = commit_of(machine.submit(append(1, &[None])));
    assert!(!first.is_pipelined(), "nothing waits");
    for number in 2..5 {
        machine.submit(append(number, &[None; 2]));
    }
    first = commit_of(finish(&mut machine, first));
    assert!(first.is_pipelined() && first.commands.len() == 4);
    first.commands.push(Command::Expire { at: triggers_protocol::Timestamp::from_millis(1), seed: 0 });
    assert!(!first.is_pipelined());
}

#[test]
fn webhooks_are_claimed_in_the_pipeline_too() {
    let mut machine = machine_with(BatchLimits { events_max: 40, bytes_max: 10_000, ..LIMITS });
    machine.submit(append(1, &[None]));
    let subscription = row(1, 5);
    let id = subscription.id;
    let subscriptions = vec![(subscription, None)];
    let first = commit_of(machine.loaded(Ok(InboxState { subscriptions, ..empty() })));
    machine.arrive(vec![append(2, &[None; 20])]);
    let mut due = applied(first.commands.iter().map(appended).collect(), 1);
    due.due.insert(id, triggers_protocol::Timestamp::from_millis(1));
    let (committed, finished) = first.told(&due);
    let second = commit_of(machine.ordered(committed, finished));
    assert!(matches!(second.commands.last(), Some(Command::Claim(_))) && second.events() == 20);
    assert!(!second.is_pipelined(), "INBOX-7: what it claims is sent when it is durable");
}

#[test]
fn a_batch_is_worth_waiting_for_while_few_of_many_are_back() {
    let mut machine = machine_with(BatchLimits { events_max: 100, bytes_max: 10_000, ..LIMITS });
    for number in 0..20 {
        machine.submit(append(number, &[None]));
    }
    let batch = commit_of(machine.loaded(Ok(empty())));
    finish(&mut machine, batch);
    assert!(machine.would_gain(0) && machine.would_gain(9) && !machine.would_gain(10));
    let batch = commit_of(machine.submit(append(20, &[None])));
    finish(&mut machine, batch);
    assert!(!machine.would_gain(0), "nobody else is expected");
}

#[test]
fn nothing_is_loaded_while_it_is_not_known_what_is_durable() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(1)])));
    machine.submit(append(2, &[Some(2), None]));
    let second = commit_of(order(&mut machine, &first));
    let failed = |machine: &mut InboxMachine<Caller>, batch, number| {
        let error = StoreError::MaybeCommitted(String::new());
        let effects = machine.failed(batch, error.into());
        assert!(
            matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::Unknown)) if caller.number == number)
        );
        effects
    };
    machine.submit(append(3, &[Some(3)]));
    assert_eq!(failed(&mut machine, second, 2).len(), 1, "the first one may still become durable");
    let effects = machine.lost(first, StoreError::MaybeCommitted(String::new()).into());
    assert!(matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::Unknown)) if caller.number == 1));
    assert!(matches!(effects[1], InboxEffect::Load));
    assert_eq!(commit_of(machine.loaded(Ok(empty_after(&machine)))).commands.len(), 1);
}

#[test]
fn two_requests_for_one_event_go_into_two_batches() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    for write in [Write::Acknowledge(EventId::ZERO, None), Write::Delete(EventId::ZERO)] {
        let mut request = append(2, &[]);
        request.writes.push(write);
        machine.submit(request);
    }
    let second = commit_of(finish(&mut machine, first));
    assert!(matches!(second.commands[..], [Command::Acknowledge { .. }]));
    assert!(matches!(commit_of(finish(&mut machine, second)).commands[..], [Command::Delete { .. }]));
}

#[test]
fn a_request_larger_than_a_batch_goes_alone() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    machine.submit(append(2, &[None; 9]));
    machine.submit(append(3, &[None]));
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.commands.len(), 9);
    assert_eq!(commit_of(finish(&mut machine, second)).commands.len(), 1);
}

#[test]
fn a_key_in_flight_is_refused_until_it_is_answered() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7)])));
    machine.submit(append(2, &[Some(7), None]));
    let second = commit_of(finish(&mut machine, first));
    let outcomes: Vec<Outcome> = second.commands.iter().map(appended).collect();
    let (committed, finished, answers) = ended(second, applied(outcomes, 2));
    let Ok(results) = &answers[0].1 else { panic!("the request failed") };
    assert_eq!(results[0], WriteResult::Refused(Refusal::KeyInFlight));
    assert!(matches!(results[1], WriteResult::Accepted(_)));
    machine.committed(committed, finished);
    let third = commit_of(machine.submit(append(3, &[Some(7)])));
    assert_eq!(third.commands.len(), 1);
}

#[test]
fn the_quota_counts_what_is_stored_and_what_is_on_its_way() {
    let mut machine = ready();
    let mut request = append(1, &[None; 4]);
    request.waiting_events_max = Some(3);
    let batch = commit_of(machine.submit(request));
    assert_eq!(batch.commands.len(), 2, "one is stored already, so two more fit");
    let mut request = append(2, &[None]);
    request.waiting_events_max = Some(3);
    machine.submit(request);
    let next = commit_of(finish(&mut machine, batch));
    assert!(next.commands.is_empty());
}

#[test]
fn the_quota_holds_in_an_inbox_that_was_just_opened_and_a_repeated_key_passes_it() {
    let mut machine = machine();
    let mut request = append(1, &[None, Some(3)]);
    request.waiting_events_max = Some(1);
    assert!(matches!(machine.submit(request)[..], [InboxEffect::Load]));
    let mut counts = Counts::default();
    counts.add(EventStatus::Received, 1);
    let batch = commit_of(machine.loaded(Ok(InboxState { counts, ..empty() })));
    let [Command::Append(keyed)] = &batch.commands[..] else { panic!("{:?}", batch.commands) };
    assert!(keyed.idempotency.is_some() && keyed.over_quota, "only the store knows whether the key was used before");
}

#[test]
fn work_behind_a_live_request_is_dropped_as_well() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    machine.submit(append(2, &[None]));
    let mut gone = append(3, &[None]);
    gone.requester = Some(Caller { number: 3, waiting: false });
    machine.submit(gone);
    let effects = finish(&mut machine, first);
    assert!(matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::DeadlinePassed)) if caller.number == 3));
    assert_eq!(commit_of(effects).commands.len(), 1);
}

#[test]
fn work_whose_requester_is_gone_is_dropped_before_the_commit() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    let mut gone = append(2, &[Some(1)]);
    gone.requester = Some(Caller { number: 2, waiting: false });
    machine.submit(gone);
    machine.submit(append(3, &[Some(1)]));
    let effects = finish(&mut machine, first);
    assert!(matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::DeadlinePassed)) if caller.number == 2));
}

#[test]
fn a_moved_head_is_loaded_and_the_same_requests_get_new_ids() {
    let mut machine = ready();
    let batch = commit_of(machine.submit(append(1, &[None])));
    let old = batch.minted_id;
    let moved = EventId::mint(old, old.created_at(), [9; 16]);
    let effects = machine.failed(batch, TableError::HeadMoved { actual: moved });
    assert!(matches!(effects[..], [InboxEffect::Load]));
    let again = commit_of(machine.loaded(Ok(InboxState { last_id: moved, ..empty() })));
    assert!(again.minted_id > moved);
    assert!(finish(&mut machine, again).is_empty());
}

#[test]
fn leases_that_have_run_out_are_ended_once_at_a_time() {
    let mut machine = machine();
    machine.submit(append(1, &[None]));
    let past = triggers_protocol::Timestamp::from_millis(1);
    let state = InboxState { first_lease_end: Some(past), ..empty() };
    let batch = commit_of(machine.loaded(Ok(state)));
    assert!(machine.tick().is_empty(), "it waits for the batch in flight");
    assert!(machine.tick().is_empty());
    let ending = commit_of(finish(&mut machine, batch));
    assert!(matches!(ending.commands[..], [Command::Expire { .. }]));
    let (committed, finished, answers) = ended(
        ending,
        Applied {
            outcomes: vec![Outcome::Expired(1)],
            counts: Counts::default(),
            first_lease_end: Some(None),
            due: BTreeMap::new(),
        },
    );
    assert!(answers.is_empty(), "nobody asked");
    machine.committed(committed, finished);
    assert!(machine.next_tick().is_none() && machine.tick().is_empty());
}

#[test]
fn requests_that_choose_and_requests_that_name_do_not_mix() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    let lease = super::request::LeaseRequest { limit: 1, event_types: Vec::new(), visibility: Duration::from_secs(1) };
    for writes in
        [vec![Write::Lease(lease.clone())], vec![Write::Lease(lease)], vec![Write::Acknowledge(EventId::ZERO, None)]]
    {
        let mut request = append(2, &[]);
        request.writes = writes;
        machine.submit(request);
    }
    let second = commit_of(finish(&mut machine, first));
    assert!(matches!(second.commands[..], [Command::Lease(_), Command::Lease(_)]));
    let third = commit_of(finish(&mut machine, second));
    assert!(matches!(third.commands[..], [Command::Acknowledge { .. }]));
}

#[test]
#[should_panic(expected = "INBOX-2")]
fn ids_that_went_back_end_the_actor() {
    let mut machine = ready();
    let batch = commit_of(machine.submit(append(1, &[None])));
    let (_, finished, _) = ended(batch, applied(vec![Outcome::Appended(EventId::ZERO)], 1));
    let (counts, due) = (Counts::default(), BTreeMap::new());
    let committed = Committed { last_id: EventId::ZERO, counts, first_lease_end: None, due, news: Vec::new() };
    machine.committed(committed, finished);
}

/// What a run of the model does next.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        keys: Vec<Option<u8>>,
        waiting: bool,
    },
    Commit,
    Fail {
        stored_anyway: bool,
    },
    /// What is in flight has its place in the order.
    Order,
    /// The first one that has is durable, or nobody knows whether it is.
    Settle,
    Lose,
    LoadFails,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(prop::option::weighted(0.5, 0u8..4), 1..4);
    prop_oneof![
        4 => (keys, prop::bool::weighted(0.9)).prop_map(|(keys, waiting)| Step::Submit { keys, waiting }),
        4 => Just(Step::Commit),
        1 => any::<bool>().prop_map(|stored_anyway| Step::Fail { stored_anyway }),
        3 => Just(Step::Order),
        3 => Just(Step::Settle),
        1 => Just(Step::Lose),
        1 => Just(Step::LoadFails),
    ]
}

/// A store that knows ids and keys only.
#[derive(Default)]
struct Model {
    last_id: Option<EventId>,
    keys: BTreeMap<[u8; 16], EventId>,
    stored: BTreeSet<EventId>,
    answers: BTreeMap<usize, usize>,
    acknowledged: Vec<EventId>,
}

impl Model {
    fn state(&self) -> InboxState {
        let mut counts = Counts::default();
        counts.add(EventStatus::Received, i64::try_from(self.stored.len()).unwrap());
        InboxState { last_id: self.last_id.unwrap_or(EventId::ZERO), counts, ..empty() }
    }

    fn apply(&mut self, batch: &Batch<Caller>) -> Result<(Vec<Outcome>, i64), TableError> {
        let stored = self.last_id.unwrap_or(EventId::ZERO);
        if stored != batch.last_id && !batch.commands.is_empty() {
            return Err(TableError::HeadMoved { actual: stored });
        }
        let mut outcomes = Vec::new();
        for command in &batch.commands {
            let Command::Append(append) = command else { panic!("only appends are submitted") };
            let known = append.idempotency.and_then(|key| self.keys.get(&key.hash).copied());
            outcomes.push(match known {
                Some(id) => Outcome::Replayed { id, event: None },
                None if append.over_quota => Outcome::QuotaExceeded,
                None => {
                    assert!(Some(append.id) > self.last_id, "INBOX-2: {} was minted late", append.id);
                    assert!(self.stored.insert(append.id));
                    self.keys.extend(append.idempotency.map(|key| (key.hash, append.id)));
                    Outcome::Appended(append.id)
                }
            });
        }
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Appended(_))) {
            self.last_id = Some(batch.minted_id);
        }
        Ok((outcomes, i64::try_from(self.stored.len()).unwrap()))
    }

    fn answered(&mut self, caller: &Caller, answer: &Answer) {
        *self.answers.entry(caller.number).or_default() += 1;
        for result in answer.iter().flatten() {
            if let WriteResult::Accepted(accepted) = result {
                assert!(self.stored.contains(&accepted.event.id), "an event was answered that is not stored");
                self.acknowledged.extend((!accepted.replayed).then_some(accepted.event.id));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_request_is_answered_once_and_ids_only_grow(steps in prop::collection::vec(step(), 1..60)) {
        let model = Rc::new(RefCell::new(Model::default()));
        let mut machine = machine();
        let (mut in_flight, mut loading, mut submitted) = (None, false, 0);
        let mut in_order = VecDeque::<(Batch<Caller>, Applied)>::new();
        let drain = steps.iter().cloned().chain(std::iter::repeat_n(Step::Commit, 200));
        for step in drain {
            let effects = match step {
                Step::Submit { keys, waiting } => {
                    let mut request = append(submitted, &keys);
                    request.requester = Some(Caller { number: submitted, waiting });
                    submitted += 1;
                    machine.submit(request)
                }
                Step::LoadFails if loading => {
                    loading = false;
                    machine.loaded(Err(BrokerError::DeadlinePassed))
                }
                Step::Commit | Step::LoadFails if loading => {
                    loading = false;
                    machine.loaded(Ok(model.borrow().state()))
                }
                Step::Commit | Step::LoadFails if in_flight.is_some() => {
                    let batch = in_flight.take().unwrap();
                    complete(&mut machine, &model, batch)
                }
                Step::Order => match in_flight.take() {
                    None => Vec::new(),
                    Some(batch) => {
                        let outcome = model.borrow_mut().apply(&batch);
                        match outcome {
                            Ok((outcomes, received)) => {
                                let applied = applied(outcomes, received);
                                let (committed, finished) = batch.told(&applied);
                                let effects = machine.ordered(committed, finished);
                                in_order.push_back((batch, applied));
                                effects
                            }
                            Err(error) => machine.failed(batch, error),
                        }
                    }
                },
                Step::Settle | Step::Commit | Step::LoadFails => match in_order.pop_front() {
                    None => Vec::new(),
                    Some((batch, applied)) => {
                        for (caller, answer) in batch.answers(&applied.outcomes) {
                            model.borrow_mut().answered(&caller, &answer);
                        }
                        machine.settled()
                    }
                },
                Step::Lose => match in_order.pop_front() {
                    None => Vec::new(),
                    Some((batch, _)) => machine.lost(batch, StoreError::MaybeCommitted(String::new()).into()),
                },
                Step::Fail { stored_anyway } => match in_flight.take() {
                    None => Vec::new(),
                    Some(batch) => {
                        if stored_anyway {
                            let _ = model.borrow_mut().apply(&batch);
                        }
                        let error = if stored_anyway {
                            StoreError::MaybeCommitted(String::new())
                        } else {
                            StoreError::fatal(Fault::Full, "")
                        };
                        machine.failed(batch, error.into())
                    }
                },
            };
            for effect in effects {
                match effect {
                    InboxEffect::Load => {
                        prop_assert!(!loading && in_flight.is_none() && in_order.is_empty(), "INBOX-2");
                        loading = true;
                    }
                    InboxEffect::Commit(batch) => {
                        prop_assert!(in_flight.is_none() && !loading && in_order.len() < 2, "INBOX-1");
                        in_flight = Some(batch);
                    }
                    InboxEffect::Reply(caller, answer) => model.borrow_mut().answered(&caller, &answer),
                    other => panic!("there are no subscriptions, but {other:?}"),
                }
            }
        }
        let model = model.borrow();
        prop_assert!(in_flight.is_none() && in_order.is_empty() && !loading, "work was left over");
        prop_assert_eq!(model.answers.len(), submitted);
        prop_assert!(model.answers.values().all(|&answers| answers == 1), "INBOX-4: {:?}", &model.answers);
        let distinct: BTreeSet<_> = model.acknowledged.iter().collect();
        prop_assert_eq!(distinct.len(), model.acknowledged.len(), "an id was given twice");
    }
}

fn complete(
    machine: &mut InboxMachine<Caller>,
    model: &Rc<RefCell<Model>>,
    batch: Batch<Caller>,
) -> Vec<InboxEffect<Caller>> {
    let outcome = model.borrow_mut().apply(&batch);
    match outcome {
        Ok((outcomes, received)) => {
            let (committed, finished, answers) = ended(batch, applied(outcomes, received));
            for (caller, answer) in &answers {
                model.borrow_mut().answered(caller, answer);
            }
            machine.committed(committed, finished)
        }
        Err(error) => machine.failed(batch, error),
    }
}
