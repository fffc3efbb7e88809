//! Checks that the history of one event is linearizable: that the answers which clients got, some of them at the same time,
//! are those of some order of the operations in which each took effect at one moment between its begin and its end.
//!
//! The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memoization of Lowe
//! ("Testing for Linearizability", 2017): depth first over configurations, each a set of placed operations and a state.
//! Invariants: `LINEAR-1` an operation that ended before another began is placed before it; equal times are no order;
//! `LINEAR-2` each answered operation is placed exactly once, one without an answer at most once, however late;
//! `LINEAR-3` no configuration is looked at twice, nor more than [`CONFIGURATIONS_MAX`] of them: a history that needs more
//! is a violation called undecided, never a pass; `LINEAR-4` only orders are left out for which there is one as good: an
//! answer that changes nothing is placed as soon as it is right, and of those alike that may be next only the one that ended
//! first; `LINEAR-5` it draws no randomness: a history always gives the same account.
//! It is not a check across events, nor of payloads, idempotency keys, lease tokens or the order of the queue: an answer that
//! depends on a token is right in the states named in [`step`]. It shares no code with what it checks.

mod specification;

pub use specification::{Action, Seen, Spontaneous, State, step};

use std::collections::BTreeSet;
use std::fmt;

/// How many configurations are looked at for one history.
pub const CONFIGURATIONS_MAX: usize = 500_000;

/// One operation; times in microseconds of simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// When the client sent it.
    pub begin: u64,
    /// When the client had the answer; `u64::MAX`, and not looked at, if there was none.
    pub end: u64,
    /// What was asked for.
    pub action: Action,
    /// What was told.
    pub seen: Seen,
}

/// Why a history is not right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The operations, in order of their begin.
    pub operations: Vec<Operation>,
    /// The longest order that is right: what was placed, by index (none: it happened without a client), and the state after.
    pub prefix: Vec<(Option<usize>, State)>,
    /// It needs more than [`CONFIGURATIONS_MAX`], so that nothing was shown.
    pub is_undecided: bool,
}

impl std::error::Error for Violation {}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_undecided {
            "undecided: too many orders"
        } else {
            "not linearizable: no order is right"
        };
        writeln!(f, "{verdict}; operations:")?;
        let line = |at: usize| {
            format!("[{at}] {:?}: {:?}", self.operations[at].action, self.operations[at].seen)
        };
        for (at, Operation { begin, end, .. }) in self.operations.iter().enumerate() {
            let end = if *end == u64::MAX { "?".to_owned() } else { end.to_string() };
            writeln!(f, "  {} ({begin}..{end} us)", line(at))?;
        }
        writeln!(f, "longest order that is right:")?;
        for (step, state) in &self.prefix {
            writeln!(f, "  {} -> {state:?}", step.map_or("without a client".to_owned(), line))?;
        }
        let placed: BTreeSet<usize> = self.prefix.iter().filter_map(|(step, _)| *step).collect();
        let state = self.prefix.last().map_or(State::Absent, |(_, state)| *state);
        let open = enabled(&self.operations, |at| placed.contains(&at));
        let open: Vec<_> = open
            .into_iter()
            .filter(|at| self.operations[*at].seen != Seen::Unknown)
            .map(line)
            .collect();
        write!(f, "then, in {state:?}, one of: {}", open.join(", "))
    }
}

/// A configuration, and how it was reached.
struct Node {
    parent: usize,
    step: Option<usize>,
    state: State,
    /// A bit an operation.
    placed: Vec<u64>,
    answered: usize,
}

impl Node {
    fn has(&self, at: usize) -> bool {
        self.placed[at / 64] >> (at % 64) & 1 == 1
    }
}

/// Checks that the history of one event, which is absent at first, is linearizable.
///
/// # Errors
/// A [`Violation`] if it is not, or if that takes too long to tell.
pub fn check(history: &[Operation], spontaneous: Spontaneous) -> Result<(), Violation> {
    let operations = in_order(history);
    let answered = operations.iter().filter(|operation| operation.seen != Seen::Unknown).count();
    let placed = vec![0; operations.len().div_ceil(64)];
    let mut seen = BTreeSet::from([(placed.clone(), State::Absent)]);
    let mut nodes = vec![Node { parent: 0, step: None, state: State::Absent, placed, answered: 0 }];
    let (mut open, mut best) = (vec![0], 0);
    while let Some(parent) = open.pop() {
        if nodes[parent].answered == answered {
            return Ok(());
        }
        if nodes[parent].answered > nodes[best].answered {
            best = parent;
        }
        // The last one is looked at first: operations in order of time, then what happens without them.
        for (step, state) in moves(&operations, spontaneous, &nodes[parent]).into_iter().rev() {
            let (mut placed, mut answered) = (nodes[parent].placed.clone(), nodes[parent].answered);
            if let Some(at) = step {
                placed[at / 64] |= 1 << (at % 64);
                answered += usize::from(operations[at].seen != Seen::Unknown);
            }
            if seen.insert((placed.clone(), state)) {
                open.push(nodes.len());
                nodes.push(Node { parent, step, state, placed, answered });
            }
        }
        if nodes.len() > CONFIGURATIONS_MAX {
            return Err(Violation { prefix: way(&nodes, best), operations, is_undecided: true });
        }
    }
    Err(Violation { prefix: way(&nodes, best), operations, is_undecided: false })
}

fn in_order(history: &[Operation]) -> Vec<Operation> {
    let mut operations = history.to_vec();
    for operation in &mut operations {
        operation.end = if operation.seen == Seen::Unknown {
            u64::MAX
        } else {
            operation.end.max(operation.begin)
        };
    }
    operations.sort_by_key(|operation| (operation.begin, operation.end));
    operations
}

/// The operations that may be next (`LINEAR-1`): none of the others ended before they began.
fn enabled(operations: &[Operation], is_placed: impl Fn(usize) -> bool) -> Vec<usize> {
    let open: Vec<usize> = (0..operations.len()).filter(|at| !is_placed(*at)).collect();
    let first_end = open.iter().map(|at| operations[*at].end).min().unwrap_or(u64::MAX);
    open.into_iter().take_while(|at| operations[*at].begin <= first_end).collect()
}

/// What may be next, and the state after it (`LINEAR-4`).
fn moves(
    operations: &[Operation],
    spontaneous: Spontaneous,
    node: &Node,
) -> Vec<(Option<usize>, State)> {
    let enabled = enabled(operations, |at| node.has(at));
    let after = |at: usize| step(node.state, operations[at].action, operations[at].seen);
    let changes_nothing = |at: usize| !matches!(operations[at].seen, Seen::Done | Seen::Unknown);
    if let Some(at) =
        enabled.iter().find(|at| changes_nothing(**at) && after(**at).next().is_some())
    {
        return vec![(Some(*at), node.state)];
    }
    let mut moves = Vec::new();
    for at in &enabled {
        let Operation { action, seen, end, .. } = operations[*at];
        let mut alike = enabled
            .iter()
            .filter(|at| operations[**at].action == action && operations[**at].seen == seen);
        if alike.all(|other| (end, at) <= (operations[*other].end, other)) {
            let is_of_use = |next: &State| seen != Seen::Unknown || *next != node.state;
            moves.extend(after(*at).filter(is_of_use).map(|next| (Some(*at), next)));
        }
    }
    moves.extend(spontaneous.after(node.state).map(|state| (None, state)));
    moves
}

fn way(nodes: &[Node], mut at: usize) -> Vec<(Option<usize>, State)> {
    let mut way = Vec::new();
    while at != 0 {
        way.push((nodes[at].step, nodes[at].state));
        at = nodes[at].parent;
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests;
