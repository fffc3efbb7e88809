//! The inbox machine: step by step, in a pipeline ([`pipeline`]), and against a model of the store
//! that commits, fails, loses answers and moves the head by itself ([`model`]). The shell is tested
//! through the router, in `tests/it`.

mod model;
mod pipeline;

use super::batch::InboxBatch;
use super::dispatch::Dispatcher;
use super::machine::{BatchLimits, InboxEffect, InboxMachine};
use super::request::{OwnWork, PendingOperation, Request};
use crate::delivery::permits::DeliveryPermits;
use crate::error::BrokerError;
use crate::options::BrokerOptions;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_protocol::{Environment, EventId, EventStatus, TenantId, Timestamp};
use triggers_store::kv::{BoxFuture, Fault, Prefetch, StoreError, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Activity, Applied, Batch, LeaseSearches, OperationLimits};
use triggers_store::tables::inbox::{Counts, InboxState};
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::{Footprint, Selection, Stamp};
use triggers_store::tables::webhook_marks::WebhookMarks;

const LIMITS: BatchLimits = BatchLimits {
    events_max: 4,
    bytes_max: 100,
    operations: OperationLimits {
        idempotency_retention: Duration::from_secs(60),
        attempt_time: Duration::from_secs(25),
        disable_after: Duration::from_secs(3_600),
        subscriptions_max: 3,
        lease_scan_rows_max: 2_000,
    },
};

/// What the callers were told, by their numbers: whether the operation was answered, or its error.
type Told = Arc<Mutex<Vec<(usize, Result<(), BrokerError>)>>>;

/// An operation without a transaction, whose caller is a number.
#[derive(Debug)]
struct Call {
    number: usize,
    is_waiting: bool,
    told: Told,
}

impl PendingOperation for Call {
    fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    fn has_outcome(&self) -> bool {
        true
    }

    fn prefetch(&self, _: &mut Prefetch, _: &TenantKeys, _: &OperationLimits, _: &Stamp) {}

    fn apply<'a>(
        &'a self,
        _: &'a mut Batch<'_>,
        _: &'a mut dyn Transaction,
        _: &'a Stamp,
    ) -> BoxFuture<'a, Result<(), TableError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn answer(self: Box<Self>) {
        self.told.lock().unwrap().push((self.number, Ok(())));
    }

    fn reject(self: Box<Self>, error: BrokerError) {
        self.told.lock().unwrap().push((self.number, Err(error)));
    }
}

fn call(number: usize, footprint: Footprint) -> Request {
    let operation = Box::new(Call { number, is_waiting: true, told: Told::default() });
    Request { operation, footprint, own: None, rejected: Vec::new() }
}

/// A request whose caller has gone.
fn abandoned(number: usize, request: Request, told: &Told) -> Request {
    let operation = Box::new(Call { number, is_waiting: false, told: told.clone() });
    Request { operation, ..request }
}

fn append(number: usize, keys: &[Option<u8>]) -> Request {
    let with_keys = keys.iter().enumerate();
    let with_keys = with_keys.filter_map(|(index, key)| Some((index, [(*key)?; 16])));
    let footprint = Footprint {
        bytes: 10 * keys.len(),
        new_events: keys.len(),
        keys: with_keys.collect(),
        ..Footprint::new(Selection::New, keys.len())
    };
    call(number, footprint)
}

fn empty() -> InboxState {
    InboxState {
        last_id: EventId::ZERO,
        first_lease_end: None,
        counts: Counts::default(),
        subscriptions: Vec::new(),
        webhook_marks: WebhookMarks::new(),
    }
}

fn applied(last_id: EventId, received: i64) -> Applied {
    let mut counts = Counts::default();
    counts.add(EventStatus::Received, received);
    Applied {
        last_id,
        counts,
        first_lease_end: None,
        due: BTreeMap::new(),
        notices: Vec::new(),
        activity: Activity::default(),
        searches: LeaseSearches::default(),
        webhook_marks: WebhookMarks::new(),
    }
}

fn machine() -> InboxMachine {
    machine_with(LIMITS)
}

fn machine_with(limits: BatchLimits) -> InboxMachine {
    let tenant = TenantId::parse("acme").unwrap();
    let permits = DeliveryPermits::new(10, usize::MAX).of(tenant, Arc::default());
    let limits_of_webhooks = BrokerOptions::default().delivery.dispatch_limits();
    let dispatcher = Dispatcher::new(limits_of_webhooks, permits);
    InboxMachine::new(Environment::system(), limits, dispatcher)
}

fn ready() -> InboxMachine {
    let mut machine = machine();
    assert!(matches!(machine.submit(append(0, &[None]))[..], [InboxEffect::Load]));
    let batch = commit_of(machine.loaded(Ok(empty())));
    finish(&mut machine, batch);
    machine
}

/// What a batch changes whose every event is accepted.
fn accepted(machine: &InboxMachine, batch: &InboxBatch) -> Applied {
    let received = machine.counts().get(EventStatus::Received);
    applied(batch.plan.minted_id, received + i64::try_from(batch.events()).unwrap())
}

/// Commits a batch whose every event is accepted.
fn finish(machine: &mut InboxMachine, batch: InboxBatch) -> Vec<InboxEffect> {
    let applied = accepted(machine, &batch);
    machine.committed(applied, batch.finished())
}

fn commit_of(mut effects: Vec<InboxEffect>) -> InboxBatch {
    match effects.pop() {
        Some(InboxEffect::Commit(batch)) => batch,
        other => panic!("no batch but {other:?}"),
    }
}

fn own_work(batch: &InboxBatch) -> Vec<Option<OwnWork>> {
    batch.requests.iter().map(|planned| planned.request.own).collect()
}

/// Asserts that the first effect rejects a request, and returns the error that its caller gets.
fn rejection_of(effects: Vec<InboxEffect>) -> BrokerError {
    match effects.into_iter().next() {
        Some(InboxEffect::Reject(_, error)) => error,
        other => panic!("no rejection but {other:?}"),
    }
}

#[test]
fn requests_that_arrive_during_a_commit_go_into_the_next_one() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    for number in 2..5 {
        assert!(machine.submit(append(number, &[None])).is_empty());
    }
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.requests.len(), 3);
    assert!(finish(&mut machine, second).is_empty());
}

#[test]
fn arrivals_wait_for_the_batch_under_way_and_for_nothing_else() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7)])));
    // The inbox's own requests come all the time; they do not pass the arrivals again and again.
    machine.submit(append(2, &[None]));
    machine.arrive(vec![append(3, &[Some(7)]), append(4, &[None])]);
    assert!(machine.proceed().is_empty());
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.events(), 3, "INBOX-3: the key is free by then");
    machine.arrive(vec![append(5, &[None])]);
    assert_eq!(commit_of(finish(&mut machine, second)).requests.len(), 1);
}

#[test]
fn two_requests_for_one_event_go_into_two_batches() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    for number in 2..4 {
        machine.submit(call(number, Footprint::naming(EventId::ZERO)));
    }
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.requests.len(), 1);
    assert_eq!(commit_of(finish(&mut machine, second)).requests.len(), 1);
}

#[test]
fn a_request_larger_than_a_batch_goes_alone() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    machine.submit(append(2, &[None; 9]));
    machine.submit(append(3, &[None]));
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.events(), 9);
    assert_eq!(commit_of(finish(&mut machine, second)).events(), 1);
}

#[test]
fn a_key_in_flight_is_rejected_until_it_is_answered() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7)])));
    machine.submit(append(2, &[Some(7), None]));
    let second = commit_of(finish(&mut machine, first));
    let ids = &second.requests[0].stamp.ids;
    assert!(ids[0].is_none() && ids[1].is_some(), "INBOX-3: {ids:?}");
    finish(&mut machine, second);
    let third = commit_of(machine.submit(append(3, &[Some(7)])));
    assert_eq!(third.events(), 1);
}

#[test]
fn a_plan_has_the_counts_as_of_the_last_commit_and_a_stamp_of_its_own_for_each_request() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None; 2])));
    machine.submit(append(2, &[None]));
    machine.submit(append(3, &[None]));
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.plan.counts.waiting(), 3, "INBOX-5");
    let nonces: Vec<_> = second.requests.iter().map(|planned| planned.stamp.nonce).collect();
    assert_ne!(nonces[0], nonces[1], "OP-2");
}

#[test]
fn requests_whose_caller_is_gone_are_dropped_before_the_commit() {
    for keys in [&[None][..], &[Some(1)]] {
        let mut machine = ready();
        let told = Told::default();
        let first = commit_of(machine.submit(append(1, &[None])));
        machine.submit(append(2, &[None]));
        machine.submit(abandoned(3, append(3, keys), &told));
        let mut effects = finish(&mut machine, first);
        assert_eq!(commit_of(vec![effects.pop().unwrap()]).requests.len(), 1);
        let InboxEffect::Reject(request, error) = effects.pop().unwrap() else { panic!() };
        request.operation.reject(error);
        assert_eq!(*told.lock().unwrap(), [(3, Err(BrokerError::DeadlinePassed))]);
    }
}

#[test]
fn a_moved_head_is_loaded_and_the_same_requests_get_new_ids() {
    let mut machine = ready();
    let batch = commit_of(machine.submit(append(1, &[None])));
    let old = batch.plan.minted_id;
    let moved = EventId::mint(old, old.created_at(), [9; 16]);
    let effects = machine.failed(batch, TableError::HeadMoved { actual: moved });
    assert!(matches!(effects[..], [InboxEffect::Load]));
    let again = commit_of(machine.loaded(Ok(InboxState { last_id: moved, ..empty() })));
    assert!(again.plan.minted_id > moved);
    assert!(finish(&mut machine, again).is_empty());
}

#[test]
fn leases_that_have_run_out_are_ended_once_at_a_time() {
    let mut machine = machine();
    machine.submit(append(1, &[None]));
    let past = Timestamp::from_millis(1);
    let state = InboxState { first_lease_end: Some(past), ..empty() };
    let batch = commit_of(machine.loaded(Ok(state)));
    assert!(machine.timer().is_empty(), "it waits for the batch in flight");
    assert!(machine.timer().is_empty());
    let ending = commit_of(finish(&mut machine, batch));
    assert_eq!(own_work(&ending), [Some(OwnWork::Expire)]);
    let applied = Applied { first_lease_end: Some(None), ..accepted(&machine, &ending) };
    machine.committed(applied, ending.finished());
    assert!(machine.next_timer().is_none() && machine.timer().is_empty());
}

#[test]
fn requests_that_choose_and_requests_that_name_do_not_mix() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None])));
    machine.submit(call(2, Footprint::new(Selection::Lease, 1)));
    machine.submit(call(3, Footprint::new(Selection::Lease, 1)));
    machine.submit(call(4, Footprint::naming(EventId::ZERO)));
    let second = commit_of(finish(&mut machine, first));
    assert_eq!(second.requests.len(), 2, "INBOX-6");
    let third = commit_of(finish(&mut machine, second));
    assert_eq!(third.requests.len(), 1, "INBOX-6");
}

#[test]
#[should_panic(expected = "INBOX-2")]
fn ids_that_went_back_end_the_actor() {
    let mut machine = ready();
    let batch = commit_of(machine.submit(append(1, &[None])));
    machine.committed(applied(EventId::ZERO, 1), batch.finished());
}
