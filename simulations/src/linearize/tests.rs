//! Tests with histories written by hand, with histories generated from the specification, and
//! against a search without shortcuts.

use super::Action::{
    Acknowledge, Append, Delete, Extend, Lease, Nack, Read, Recover, Replay, ReplayFailed,
};
use super::EventState::{Absent, Delivered, Failed, Waiting};
use super::Seen::{Conflict, Done, Gone, NotFound, Status, Unknown};
use super::*;
use proptest::prelude::*;

type Row = (u64, u64, Action, Seen);

const ACTIONS: [Action; 10] =
    [Append, Acknowledge, Delete, Replay, Nack, Read, Lease, Extend, ReplayFailed, Recover];
const SEEN: [Seen; 8] =
    [Done, Conflict, Gone, NotFound, Status(Waiting), Status(Delivered), Status(Failed), Unknown];
const NEVER: Spontaneous = Spontaneous { may_deliver: false, may_fail: false, may_expire: false };
const APPENDED: Row = (0, 1, Append, Done);

fn history(rows: &[Row]) -> Vec<EventOperation> {
    rows.iter()
        .map(|&(begin, end, action, seen)| EventOperation { begin, end, action, seen })
        .collect()
}

fn with(spontaneous: Spontaneous, rows: &[Row]) -> bool {
    check(&history(rows), spontaneous).is_ok()
}

fn holds(rows: &[Row]) -> bool {
    with(NEVER, rows)
}

#[test]
fn right_one_after_the_other() {
    assert!(holds(&[]));
    assert!(holds(&[(0, 1, Read, NotFound), (2, 3, Append, Done), (4, 5, Read, Status(Waiting))]));
    assert!(holds(&[
        APPENDED,
        (2, 3, Acknowledge, Done),
        (4, 5, Acknowledge, Done),
        (6, 7, Delete, Done)
    ]));
    assert!(holds(&[
        APPENDED,
        (2, 3, Delete, Done),
        (4, 5, Delete, Gone),
        (6, 7, Read, Gone),
        (8, 9, Replay, Gone)
    ]));
    assert!(holds(&[
        APPENDED,
        (2, 3, Nack, Done),
        (4, 5, Replay, Conflict),
        (6, 7, Read, Status(Waiting))
    ]));
    assert!(holds(&[APPENDED, (2, 3, Nack, Done), (4, 5, Nack, Conflict), (6, 7, Replay, Done)]));
    assert!(holds(&[
        APPENDED,
        (2, 3, Lease, Done),
        (4, 5, Extend, Done),
        (6, 7, Acknowledge, Done),
        (8, 9, Extend, Conflict)
    ]));
    assert!(holds(&[
        (0, 1, Acknowledge, NotFound),
        (2, 3, Delete, NotFound),
        (4, 5, Nack, NotFound)
    ]));
}

#[test]
fn wrong_one_after_the_other() {
    assert!(!holds(&[APPENDED, (2, 3, Read, NotFound)]));
    assert!(!holds(&[APPENDED, (2, 3, Append, Done)]));
    assert!(!holds(&[APPENDED, (2, 3, Acknowledge, Done), (4, 5, Read, Status(Waiting))]));
    assert!(!holds(&[APPENDED, (2, 3, Delete, Done), (4, 5, Acknowledge, Done)]));
    assert!(!holds(&[APPENDED, (2, 3, Delete, Done), (4, 5, Delete, Done)]));
    assert!(!holds(&[APPENDED, (2, 3, Replay, Done)]));
    let delivered = [APPENDED, (2, 3, Acknowledge, Done), (4, 5, ReplayFailed, Done)];
    assert!(!holds(&[&delivered[..], &[(6, 7, Read, Status(Waiting))]].concat()));
    let failed = [APPENDED, (2, 3, Nack, Done), (4, 5, ReplayFailed, Done)];
    assert!(!holds(&[&failed[..], &[(6, 7, Read, Status(Failed))]].concat()));
    assert!(!holds(&[APPENDED, (2, 3, Delete, Conflict)]));
    assert!(!holds(&[APPENDED, (2, 3, Read, Done)]));
    assert!(!holds(&[APPENDED, (2, 3, Acknowledge, Done), (4, 5, Lease, Done)]));
    assert!(!holds(&[APPENDED, (2, 3, Acknowledge, Done), (4, 5, Extend, Done)]));
    assert!(!holds(&[APPENDED, (2, 3, Delete, Done), (4, 5, Lease, Done)]));
    assert!(!holds(&[(0, 1, Delete, Gone)]));
    // The nack made the event fail or not: no two reads may see both.
    let nacked = [APPENDED, (2, 3, Nack, Done)];
    assert!(!holds(
        &[&nacked[..], &[(4, 5, Read, Status(Failed)), (6, 7, Read, Status(Waiting))]].concat()
    ));
    assert!(!holds(
        &[&nacked[..], &[(4, 5, Read, Status(Waiting)), (6, 7, Read, Status(Failed))]].concat()
    ));
}

#[test]
fn at_the_same_time() {
    assert!(holds(&[(0, 9, Append, Done), (1, 2, Read, NotFound), (3, 4, Read, Status(Waiting))]));
    assert!(!holds(&[(0, 9, Append, Done), (1, 2, Read, Status(Waiting)), (3, 4, Read, NotFound)]));
    assert!(holds(&[
        APPENDED,
        (2, 9, Delete, Done),
        (3, 8, Acknowledge, Done),
        (4, 9, Read, Status(Delivered))
    ]));
    assert!(!holds(&[APPENDED, (2, 4, Delete, Done), (5, 8, Acknowledge, Done)]));
    assert!(holds(&[APPENDED, (2, 6, Delete, Done), (5, 8, Acknowledge, Done)]));
    // One of two concurrent deletions is the first.
    assert!(holds(&[APPENDED, (2, 5, Delete, Gone), (3, 6, Delete, Done)]));
    assert!(!holds(&[APPENDED, (2, 5, Delete, Done), (3, 6, Delete, Done)]));
    // Equal times do not order operations (`LINEAR-1`).
    assert!(holds(&[APPENDED, (1, 1, Read, NotFound)]));
}

#[test]
fn without_an_answer() {
    let lost = [APPENDED, (2, u64::MAX, Delete, Unknown)];
    assert!(holds(&[&lost[..], &[(4, 5, Read, Status(Waiting)), (90, 91, Read, Gone)]].concat()));
    assert!(holds(
        &[&lost[..], &[(4, 5, Read, Status(Waiting)), (90, 91, Read, Status(Waiting))]].concat()
    ));
    assert!(!holds(&[&lost[..], &[(4, 5, Read, Gone), (90, 91, Read, Status(Waiting))]].concat()));
    assert!(!holds(&[APPENDED, (2, 3, Read, Gone), (4, u64::MAX, Delete, Unknown)]));
    // The end of an unanswered operation is ignored, and it takes effect at most once.
    assert!(holds(&[
        (0, 1, Append, Unknown),
        (2, 3, Read, NotFound),
        (4, 5, Read, Status(Waiting))
    ]));
    let replayed = [
        APPENDED,
        (2, 3, Acknowledge, Done),
        (4, 5, Replay, Unknown),
        (6, 7, Read, Status(Waiting)),
    ];
    let again = [(8, 9, Acknowledge, Done), (10, 11, Read, Status(Waiting))];
    assert!(holds(&replayed) && !holds(&[&replayed[..], &again[..]].concat()));
}

#[test]
fn without_a_client() {
    let (may_deliver, may_fail, may_expire) = (
        Spontaneous { may_deliver: true, ..NEVER },
        Spontaneous { may_fail: true, ..NEVER },
        Spontaneous { may_fail: true, may_expire: true, ..NEVER },
    );
    let delivered = [APPENDED, (2, 3, Read, Status(Waiting)), (4, 5, Read, Status(Delivered))];
    assert!(with(may_deliver, &delivered) && !with(may_fail, &delivered) && !holds(&delivered));
    let failed = [
        APPENDED,
        (2, 3, Read, Status(Failed)),
        (4, 5, Replay, Done),
        (6, 7, Read, Status(Failed)),
    ];
    assert!(with(may_fail, &failed) && !with(may_deliver, &failed) && !holds(&failed));
    let gone = [APPENDED, (2, 3, Delete, Gone)];
    assert!(with(may_expire, &gone) && !with(may_fail, &gone));
    assert!(!with(may_expire, &[APPENDED, (2, 3, Read, Status(Delivered))]));
}

#[test]
fn a_counterexample_shows_the_longest_order_that_fits() {
    let rows = [
        (4, 5, Read, Status(Waiting)),
        APPENDED,
        (2, 3, Acknowledge, Done),
        (3, u64::MAX, Delete, Unknown),
    ];
    let violation = check(&history(&rows), NEVER).unwrap_err();
    assert_eq!(violation.prefix, [(Some(0), Waiting), (Some(1), Delivered)]);
    assert!(!violation.is_undecided);
    let expected = "not linearizable: no order fits the answers; operations:
  [0] Append: Done (0..1 us)
  [1] Acknowledge: Done (2..3 us)
  [2] Delete: Unknown (3..? us)
  [3] Read: Status(Waiting) (4..5 us)
longest order that fits:
  [0] Append: Done -> Waiting
  [1] Acknowledge: Done -> Delivered
then, in Delivered, one of: [3] Read: Status(Waiting)";
    assert_eq!(violation.to_string(), expected);
}

/// Sixty concurrent operations with different times are decided, also with an impossible answer.
#[test]
fn many_concurrent_operations_are_decided() {
    let kinds =
        [(Acknowledge, Done), (Replay, Done), (Nack, Done), (Acknowledge, Done), (Replay, Unknown)];
    let mut rows = vec![APPENDED];
    rows.extend((0..60).map(|at| {
        let (action, seen) = kinds[at as usize % kinds.len()];
        (2 + at, 1000 + at * 7 % 60, action, seen)
    }));
    rows.push((2000, 2001, Read, Status(Delivered)));
    assert_eq!(check(&history(&rows), NEVER).map_err(|violation| violation.to_string()), Ok(()));
    rows.push((2002, 2003, Read, NotFound));
    let violation = check(&history(&rows), NEVER).unwrap_err();
    assert!(!violation.is_undecided, "{violation}");
}

/// The same search without memoization and shortcuts.
fn plain(open: &[EventOperation], state: EventState, spontaneous: Spontaneous) -> bool {
    if open.iter().all(|operation| operation.seen == Unknown) {
        return true;
    }
    (0..open.len()).any(|at| {
        let (next, mut rest) = (open[at], open.to_vec());
        rest.remove(at);
        rest.iter().all(|other| other.seen == Unknown || other.end >= next.begin)
            && step(state, next.action, next.seen).any(|state| plain(&rest, state, spontaneous))
    }) || spontaneous.after(state).any(|state| plain(open, state, spontaneous))
}

fn any_spontaneous() -> impl Strategy<Value = Spontaneous> {
    any::<[bool; 3]>().prop_map(|[may_deliver, may_fail, may_expire]| Spontaneous {
        may_deliver,
        may_fail,
        may_expire,
    })
}

fn any_operation() -> impl Strategy<Value = EventOperation> {
    (0..70_u64, 0..40_u64, 0..ACTIONS.len(), 0..SEEN.len()).prop_map(
        |(begin, length, action, seen)| {
            let (action, seen) = (ACTIONS[action], SEEN[seen]);
            EventOperation { begin, end: begin + length, action, seen }
        },
    )
}

/// The random choices for one operation.
#[derive(Debug, Clone, Copy)]
struct Draw {
    action: usize,
    /// Time since the operation before.
    pause: u64,
    /// Length of the operation before its effect.
    before: u64,
    /// Length of the operation after its effect.
    after: u64,
    /// Picks the answer.
    answer: usize,
    /// Picks what happens beside the operation.
    other: u8,
}

/// Runs the specification, and returns each operation with times around the moment of its effect.
fn run(draws: &[Draw], spontaneous: Spontaneous) -> Vec<EventOperation> {
    let (mut state, mut now, mut history) = (Absent, 30, Vec::new());
    for &Draw { action, pause, before, after, answer, other } in draws {
        now += pause;
        let (begin, action) = (now - before, ACTIONS[action]);
        if other % 4 == 0 {
            state = spontaneous.after(state).nth(answer % 2).unwrap_or(state);
        }
        let seen = SEEN.into_iter().filter(|seen| *seen != Unknown);
        let outcomes: Vec<_> =
            seen.flat_map(|seen| step(state, action, seen).map(move |next| (seen, next))).collect();
        let is_lost = other % 16 == 1;
        if !outcomes.is_empty() && !is_lost {
            let (seen, next) = outcomes[answer % outcomes.len()];
            state = next;
            let seen = if other % 16 == 2 { Unknown } else { seen };
            history.push(EventOperation { begin, end: now + after, action, seen });
        } else if is_lost {
            history.push(EventOperation { begin, end: u64::MAX, action, seen: Unknown });
        }
    }
    history
}

fn draws(actions: std::ops::Range<usize>, count: usize) -> impl Strategy<Value = Vec<Draw>> {
    let draw = (actions, 0..10_u64, 0..30_u64, 0..30_u64, 0..8_usize, any::<u8>()).prop_map(
        |(action, pause, before, after, answer, other)| Draw {
            action,
            pause,
            before,
            after,
            answer,
            other,
        },
    );
    prop::collection::vec(draw, 0..count)
}

proptest! {
    #[test]
    fn a_history_of_the_specification_passes(
        draws in draws(0..9, 61),
        spontaneous in any_spontaneous(),
    ) {
        let result = check(&run(&draws, spontaneous), spontaneous);
        prop_assert!(result.is_ok(), "{}", result.unwrap_err());
    }

    /// Without nacks and replays, and if events do not fail by themselves, no read sees a failed
    /// event.
    #[test]
    fn an_impossible_state_is_found(
        draws in draws(0..3, 61),
        begin in 0..400_u64,
        length in 0..400_u64,
    ) {
        let spontaneous = Spontaneous { may_deliver: true, may_fail: false, may_expire: true };
        let mut history = run(&draws, spontaneous);
        let (end, seen) = (begin + length, Status(Failed));
        history.push(EventOperation { begin, end, action: Read, seen });
        let violation = check(&history, spontaneous).unwrap_err();
        prop_assert!(!violation.is_undecided);
    }

    /// `LINEAR-4`, for histories of the specification with a few random operations.
    #[test]
    fn the_result_equals_that_of_a_plain_search(
        draws in draws(0..9, 9),
        others in prop::collection::vec(any_operation(), 0..3),
        spontaneous in any_spontaneous(),
    ) {
        let history = [run(&draws, spontaneous), others].concat();
        prop_assert_eq!(check(&history, spontaneous).is_ok(), plain(&history, Absent, spontaneous));
    }
}
