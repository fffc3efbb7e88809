//! The specification of one event: what each operation may answer, and the states it leads to.
//!
//! Invariants: `LINEAR-S-1` an event has one state, and a deleted event stays deleted; `LINEAR-S-2`
//! an answer other than `Done` changes nothing; `LINEAR-S-3` only the answer to a nack leaves open
//! which state is next.
//! The specification knows no tokens, leases or attempts. An answer that depends on them is
//! accepted in the states named in [`step`].

/// The operation that a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Append,
    Acknowledge,
    Delete,
    /// Make a delivered or failed event wait again.
    Replay,
    /// Make the event wait again if it has failed.
    ReplayFailed,
    /// Make the event wait again if a subscription has missed it.
    Recover,
    /// Give the event back after a failed attempt.
    Nack,
    Lease,
    Extend,
    Read,
}

/// The answer that the client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Done,
    /// The status or the token does not allow the operation.
    Conflict,
    Gone,
    NotFound,
    /// A read found the event in this state.
    Status(EventState),
    /// No answer: the operation took effect at some time after its begin, or never.
    Unknown,
}

/// The state of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventState {
    /// Not accepted yet.
    Absent,
    /// Accepted, and neither delivered nor failed.
    Waiting,
    /// Acknowledged, or accepted by its webhooks.
    Delivered,
    /// Ran out of attempts.
    Failed,
    /// Removed by a client, or expired.
    Deleted,
}

/// Changes of state that may happen between operations, without a client. Only waiting events are
/// delivered or fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spontaneous {
    pub may_deliver: bool,
    pub may_fail: bool,
    /// Delivered and failed events may be removed.
    pub may_expire: bool,
}

impl Spontaneous {
    /// The states that an event in `state` may change to.
    pub(super) fn after(self, state: EventState) -> impl Iterator<Item = EventState> {
        let next = match state {
            EventState::Waiting => [
                self.may_deliver.then_some(EventState::Delivered),
                self.may_fail.then_some(EventState::Failed),
            ],
            EventState::Delivered | EventState::Failed => {
                [self.may_expire.then_some(EventState::Deleted), None]
            }
            EventState::Absent | EventState::Deleted => [None, None],
        };
        next.into_iter().flatten()
    }
}

/// The states that an event in `state` may have after `action` was answered with `seen`; none if
/// the answer is wrong.
pub fn step(state: EventState, action: Action, seen: Seen) -> impl Iterator<Item = EventState> {
    use EventState::{Absent, Deleted, Delivered, Failed, Waiting};
    let done = match (action, state) {
        (Action::Append, Absent) => [Some(Waiting), None],
        (Action::Append, Waiting | Delivered | Failed | Deleted) => [None, None],
        (_, Absent | Deleted) => [None, None],
        (Action::Acknowledge, Waiting | Delivered | Failed) => [Some(Delivered), None],
        (Action::Delete, Waiting | Delivered | Failed) => [Some(Deleted), None],
        (Action::Replay | Action::Recover, Delivered | Failed) | (Action::ReplayFailed, Failed) => {
            [Some(Waiting), None]
        }
        (Action::Nack, Waiting) => [Some(Waiting), Some(Failed)],
        (Action::Lease | Action::Extend, Waiting) => [Some(Waiting), None],
        (Action::Replay | Action::Recover, Waiting)
        | (Action::ReplayFailed, Waiting | Delivered) => [None, None],
        (Action::Nack | Action::Lease | Action::Extend, Delivered | Failed) => [None, None],
        // The answer to a successful read is a status.
        (Action::Read, Waiting | Delivered | Failed) => [None, None],
    };
    let is_unchanged = match (action, seen) {
        (_, Seen::Unknown) => true,
        // The request is about all failed events, so it also succeeds when this one has not failed.
        (Action::ReplayFailed, seen) => seen == Seen::Done && state != Failed,
        (Action::Recover, seen) => seen == Seen::Done,
        (_, Seen::Done) | (Action::Append | Action::Lease, _) => false,
        (_, Seen::NotFound) => state == Absent,
        (_, Seen::Gone) => state == Deleted,
        (Action::Acknowledge | Action::Nack | Action::Extend, Seen::Conflict) => {
            matches!(state, Waiting | Delivered | Failed)
        }
        (Action::Replay, Seen::Conflict) => state == Waiting,
        (Action::Delete | Action::Read, Seen::Conflict) => false,
        (Action::Read, Seen::Status(status)) => state == status,
        (_, Seen::Status(_)) => false,
    };
    let done = if matches!(seen, Seen::Done | Seen::Unknown) { done } else { [None, None] };
    done.into_iter().chain([is_unchanged.then_some(state)]).flatten()
}
