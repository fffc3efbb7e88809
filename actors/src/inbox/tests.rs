//! The inbox machine, step by step; in a pipeline ([`pipeline`]); and against a model of the store that commits, fails, forgets to
//! answer and moves the head by itself ([`model`]). The shell is tested through the router, in `tests/it`.

mod model;
mod pipeline;

use super::batch::{Batch, Committed, Finished};
use super::dispatch::Dispatcher;
use super::machine::{BatchLimits, InboxEffect, InboxMachine, Request, Requester};
use super::request::{
    Answer, BrokerError, IdempotencyRequest, NewEvent, Refusal, Write, WriteResult,
};
use crate::delivery::DeliveryPermits;
use crate::options::BrokerOptions;
use bytes::Bytes;
use std::collections::BTreeMap;
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
    InboxState {
        last_id: EventId::ZERO,
        first_lease_end: None,
        counts: Counts::default(),
        subscriptions: Vec::new(),
    }
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
    let dispatcher = Dispatcher::new(
        BrokerOptions::default().delivery.dispatch_limits(),
        DeliveryPermits::new(10, usize::MAX),
    );
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
fn ended(
    batch: Batch<Caller>,
    mut applied: Applied,
) -> (Committed, Finished, Vec<(Caller, Answer)>) {
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
    assert!(matches!(
        commit_of(finish(&mut machine, second)).commands[..],
        [Command::Delete { .. }]
    ));
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
    assert!(
        keyed.idempotency.is_some() && keyed.over_quota,
        "only the store knows whether the key was used before"
    );
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
    assert!(
        matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::DeadlinePassed)) if caller.number == 3)
    );
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
    assert!(
        matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::DeadlinePassed)) if caller.number == 2)
    );
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
    let lease = super::request::LeaseRequest {
        limit: 1,
        event_types: Vec::new(),
        visibility: Duration::from_secs(1),
    };
    for writes in [
        vec![Write::Lease(lease.clone())],
        vec![Write::Lease(lease)],
        vec![Write::Acknowledge(EventId::ZERO, None)],
    ] {
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
    let committed =
        Committed { last_id: EventId::ZERO, counts, first_lease_end: None, due, news: Vec::new() };
    machine.committed(committed, finished);
}
