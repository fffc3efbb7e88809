//! Batches that begin when the one before has its place in the order of commits.

use super::super::dispatch::tests::row;
use super::*;

/// A store that has what the machine knows.
fn empty_after(machine: &InboxMachine<Caller>) -> InboxState {
    InboxState { last_id: machine.last_id(), ..empty() }
}

/// Gives a batch its place in the order; what is done then.
fn order(machine: &mut InboxMachine<Caller>, batch: &Batch<Caller>) -> Vec<InboxEffect<Caller>> {
    let received = machine.received() + i64::try_from(batch.events()).unwrap();
    let (committed, finished) =
        batch.told(&applied(batch.commands.iter().map(appended).collect(), received));
    machine.ordered(committed, finished)
}

#[test]
fn a_large_batch_begins_before_the_one_in_order_is_durable() {
    let mut machine = ready();
    let first = commit_of(machine.submit(append(1, &[Some(7), None])));
    machine.arrive(vec![append(2, &[Some(7)]), append(3, &[Some(7)])]);
    let second = commit_of(order(&mut machine, &first));
    assert!(
        second.last_id == first.minted_id && second.commands.len() == 1,
        "it comes after the first: {second:?}"
    );
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
    first
        .commands
        .push(Command::Expire { at: triggers_protocol::Timestamp::from_millis(1), seed: 0 });
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
    assert!(
        matches!(&effects[0], InboxEffect::Reply(caller, Err(BrokerError::Unknown)) if caller.number == 1)
    );
    assert!(matches!(effects[1], InboxEffect::Load));
    assert_eq!(commit_of(machine.loaded(Ok(empty_after(&machine)))).commands.len(), 1);
}
