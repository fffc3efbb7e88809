//! Batches that begin when the one before has its place in the order of commits.

use super::super::dispatch::tests::row;
use super::*;

/// A store that has what the machine knows.
fn empty_after(machine: &InboxMachine) -> InboxState {
    InboxState { last_id: machine.last_id(), ..empty() }
}

/// Gives a batch its place in the order.
fn order(machine: &mut InboxMachine, batch: &InboxBatch) -> Vec<InboxEffect> {
    let applied = accepted(machine, batch);
    machine.ordered(applied, batch.finished())
}

#[test]
fn a_large_batch_begins_before_the_one_in_order_is_durable() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7), None])));
    machine.arrive(vec![append(2, &[Some(7)]), append(3, &[Some(7)])]);
    let second = commit_of(order(&mut machine, &first));
    assert!(
        second.plan.last_id == first.plan.minted_id && second.events() == 1,
        "it comes after the first: {second:?}"
    );
    machine.arrive(vec![append(4, &[None]), append(5, &[None])]);
    assert!(order(&mut machine, &second).is_empty(), "INBOX-1: two are in flight");
    assert_eq!(commit_of(machine.durable()).requests.len(), 2);
}

#[test]
fn a_small_batch_waits_until_the_one_in_order_is_durable() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[None; 4])));
    machine.arrive(vec![append(2, &[None])]);
    assert!(order(&mut machine, &first).is_empty() && machine.is_under_way());
    assert_eq!(commit_of(machine.durable()).requests.len(), 1);
}

#[test]
fn a_batch_is_pipelined_if_more_waits_and_it_has_no_notices() {
    let mut machine = ready();
    let mut first = commit_of(machine.submit(append(1, &[None])));
    assert!(!first.is_pipelined(), "nothing waits");
    for number in 2..5 {
        machine.submit(append(number, &[None; 2]));
    }
    first = commit_of(finish(&mut machine, first));
    assert!(first.is_pipelined() && first.events() == 4);
    first.requests[0].request = Request::own(OwnWork::Expire);
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
    let mut due = accepted(&machine, &first);
    due.due.insert(id, Timestamp::from_millis(1));
    let second = commit_of(machine.ordered(due, first.finished()));
    assert!(matches!(own_work(&second)[..], [.., Some(OwnWork::Claim { .. })]));
    assert_eq!(second.events(), 20);
    assert!(!second.is_pipelined(), "INBOX-7: what it claims is sent when it is durable");
}

#[test]
fn nothing_is_loaded_while_durability_is_unknown() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(1)])));
    machine.submit(append(2, &[Some(2), None]));
    let second = commit_of(order(&mut machine, &first));
    let unknown = || StoreError::MaybeCommitted(String::new()).into();
    machine.submit(append(3, &[Some(3)]));
    let effects = machine.failed(second, unknown());
    assert_eq!(effects.len(), 1, "the first one may still become durable");
    assert_eq!(rejection_of(effects), BrokerError::Unknown);
    let effects = machine.durability_unknown(first, unknown());
    assert!(matches!(effects[1], InboxEffect::Load));
    assert_eq!(rejection_of(effects), BrokerError::Unknown);
    assert_eq!(commit_of(machine.loaded(Ok(empty_after(&machine)))).requests.len(), 1);
}
