//! What one event may do, one operation after the other: the specification that a linearizable history keeps to.
//!
//! Invariants: `LINEAR-S-1` an event that is there is in one state, and one that was removed stays removed; `LINEAR-S-2` an
//! answer other than `Done` changes nothing; `LINEAR-S-3` of the answers only that to a refusal leaves it open which
//! state is next.
//! It knows nothing of tokens, leases and attempts: an answer that depends on them is right in the states named in [`step`].

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Accept the event.
    Append,
    /// Mark it as delivered.
    Acknowledge,
    /// Remove it.
    Delete,
    /// Make it wait again.
    Replay,
    /// Give it back after a failed attempt.
    Refuse,
    /// Tell its status.
    Read,
}

/// What the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The write succeeded.
    Done,
    /// Not in this status, or not with this token.
    Conflict,
    /// Removed before.
    Gone,
    /// Never there.
    NotFound,
    /// A read found it in this state.
    Status(State),
    /// No answer: it took effect at some time after its begin, or never.
    Unknown,
}

/// The state of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not accepted yet.
    Absent,
    /// Accepted, and neither delivered nor given up.
    Waiting,
    /// Acknowledged, or taken by its webhooks.
    Delivered,
    /// Given up.
    Failed,
    /// Removed.
    Deleted,
}

/// What may happen to the event between operations, without any client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spontaneous {
    /// A waiting event may be delivered.
    pub delivers: bool,
    /// A waiting event may fail.
    pub fails: bool,
    /// A delivered or failed event may be removed.
    pub expires: bool,
}

impl Spontaneous {
    /// What an event in `state` may become.
    pub(super) fn after(self, state: State) -> impl Iterator<Item = State> {
        let next = match state {
            State::Waiting => {
                [self.delivers.then_some(State::Delivered), self.fails.then_some(State::Failed)]
            }
            State::Delivered | State::Failed => [self.expires.then_some(State::Deleted), None],
            State::Absent | State::Deleted => [None, None],
        };
        next.into_iter().flatten()
    }
}

/// The specification: the states in which `action`, answered with `seen`, may leave an event in `state`; none if wrong.
pub fn step(state: State, action: Action, seen: Seen) -> impl Iterator<Item = State> {
    use State::{Absent, Deleted, Delivered, Failed, Waiting};
    let done = match (action, state) {
        (Action::Append, Absent) | (Action::Replay, Delivered | Failed) => [Some(Waiting), None],
        (Action::Acknowledge, Waiting | Delivered | Failed) => [Some(Delivered), None],
        (Action::Delete, Waiting | Delivered | Failed) => [Some(Deleted), None],
        (Action::Refuse, Waiting) => [Some(Waiting), Some(Failed)],
        _ => [None, None],
    };
    let is_refused = match (action, seen) {
        (Action::Append, _) => false,
        (_, Seen::NotFound) => state == Absent,
        (_, Seen::Gone) => state == Deleted,
        (Action::Read, Seen::Status(status)) => state == status,
        (Action::Acknowledge | Action::Refuse, Seen::Conflict) => {
            matches!(state, Waiting | Delivered | Failed)
        }
        (Action::Replay, Seen::Conflict) => state == Waiting,
        _ => false,
    };
    let same = (is_refused || seen == Seen::Unknown).then_some(state);
    let done = if matches!(seen, Seen::Done | Seen::Unknown) { done } else { [None, None] };
    done.into_iter().chain([same]).flatten()
}
