//! Checks that the history of one event is linearizable: the answers of concurrent operations equal
//! those of some order in which each operation takes effect at one moment between begin and end.
//!
//! The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the
//! memoization of Lowe ("Testing for Linearizability", 2017): depth first over configurations, each
//! a set of placed operations and a state.
//! Invariants: `LINEAR-1` an operation that ended before another began is placed before it; equal
//! times are no order; `LINEAR-2` each answered operation is placed exactly once, an unanswered one
//! at most once, however late; `LINEAR-3` no configuration is visited twice, and no more than
//! [`CONFIGURATIONS_MAX`]: a history that needs more is reported as undecided, never as passed;
//! `LINEAR-4` the search skips an order only if another one is as good: an operation that changes
//! nothing is placed as soon as its answer is right, and of equal operations that may be next, the
//! one that ended first is placed; `LINEAR-5` the search draws no randomness, so that a history
//! always has the same result.
//! The check does not cover payloads, idempotency keys, lease tokens or the order of events. It
//! shares no code with the product.

mod specification;

pub use specification::{Action, EventState, Seen, Spontaneous, step};

use std::collections::BTreeSet;
use std::fmt;

/// Upper bound on the configurations visited for one history.
pub const CONFIGURATIONS_MAX: usize = 500_000;

/// One operation on the event; times are microseconds of simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventOperation {
    /// Time at which the client sent the request.
    pub begin: u64,
    /// Time at which the client had the answer; ignored if there was none.
    pub end: u64,
    pub action: Action,
    pub seen: Seen,
}

/// Why a history is not linearizable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// In order of their begin.
    pub operations: Vec<EventOperation>,
    /// The longest order that fits the answers: the index of each operation, or none for a change
    /// without a client, with the state after it.
    pub prefix: Vec<(Option<usize>, EventState)>,
    /// The search was given up after [`CONFIGURATIONS_MAX`], so that nothing was shown.
    pub is_undecided: bool,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.is_undecided {
            true => "undecided: too many orders",
            false => "not linearizable: no order fits the answers",
        };
        writeln!(f, "{verdict}; operations:")?;
        let line = |at: usize| {
            format!("[{at}] {:?}: {:?}", self.operations[at].action, self.operations[at].seen)
        };
        for (at, EventOperation { begin, end, .. }) in self.operations.iter().enumerate() {
            let end = if *end == u64::MAX { "?".to_owned() } else { end.to_string() };
            writeln!(f, "  {} ({begin}..{end} us)", line(at))?;
        }
        writeln!(f, "longest order that fits:")?;
        for (step, state) in &self.prefix {
            writeln!(f, "  {} -> {state:?}", step.map_or("without a client".to_owned(), line))?;
        }
        let placed: BTreeSet<usize> = self.prefix.iter().filter_map(|(step, _)| *step).collect();
        let state = self.prefix.last().map_or(EventState::Absent, |(_, state)| *state);
        let mut open = enabled(&self.operations, |at| placed.contains(&at));
        open.retain(|at| self.operations[*at].seen != Seen::Unknown);
        let open: Vec<String> = open.into_iter().map(line).collect();
        write!(f, "then, in {state:?}, one of: {}", open.join(", "))
    }
}

/// A configuration and the step that led to it.
struct SearchNode {
    parent: usize,
    step: Option<usize>,
    state: EventState,
    /// One bit for each operation.
    placed: Vec<u64>,
    answered: usize,
}

impl SearchNode {
    fn has(&self, at: usize) -> bool {
        self.placed[at / 64] >> (at % 64) & 1 == 1
    }
}

/// Checks that the history of one event, which is absent at first, is linearizable. Returns a
/// [`Counterexample`] if it is not, or if the search takes too long.
pub fn check(history: &[EventOperation], spontaneous: Spontaneous) -> Result<(), Counterexample> {
    let operations = in_order(history);
    let answered = operations.iter().filter(|operation| operation.seen != Seen::Unknown).count();
    let placed = vec![0; operations.len().div_ceil(64)];
    let mut seen = BTreeSet::from([(placed.clone(), EventState::Absent)]);
    let mut nodes =
        vec![SearchNode { parent: 0, step: None, state: EventState::Absent, placed, answered: 0 }];
    let (mut open, mut best) = (vec![0], 0);
    while let Some(parent) = open.pop() {
        if nodes[parent].answered == answered {
            return Ok(());
        }
        if nodes[parent].answered > nodes[best].answered {
            best = parent;
        }
        let next = next_steps(&operations, spontaneous, &nodes[parent]);
        // The last one is visited first: operations in order of time, then spontaneous changes.
        for (step, state) in next.into_iter().rev() {
            let (mut placed, mut answered) = (nodes[parent].placed.clone(), nodes[parent].answered);
            if let Some(at) = step {
                placed[at / 64] |= 1 << (at % 64);
                answered += usize::from(operations[at].seen != Seen::Unknown);
            }
            if seen.insert((placed.clone(), state)) {
                open.push(nodes.len());
                nodes.push(SearchNode { parent, step, state, placed, answered });
            }
        }
        if nodes.len() > CONFIGURATIONS_MAX {
            let prefix = path_to(&nodes, best);
            return Err(Counterexample { prefix, operations, is_undecided: true });
        }
    }
    Err(Counterexample { prefix: path_to(&nodes, best), operations, is_undecided: false })
}

fn in_order(history: &[EventOperation]) -> Vec<EventOperation> {
    let mut operations = history.to_vec();
    for operation in &mut operations {
        operation.end = match operation.seen {
            Seen::Unknown => u64::MAX,
            _ => operation.end.max(operation.begin),
        };
    }
    operations.sort_by_key(|operation| (operation.begin, operation.end));
    operations
}

/// The operations that may be next: no other open operation ended before they began (`LINEAR-1`).
fn enabled(operations: &[EventOperation], is_placed: impl Fn(usize) -> bool) -> Vec<usize> {
    let open: Vec<usize> = (0..operations.len()).filter(|at| !is_placed(*at)).collect();
    let first_end = open.iter().map(|at| operations[*at].end).min().unwrap_or(u64::MAX);
    open.into_iter().take_while(|at| operations[*at].begin <= first_end).collect()
}

/// The steps that may be next, with the state after each (`LINEAR-4`).
fn next_steps(
    operations: &[EventOperation],
    spontaneous: Spontaneous,
    node: &SearchNode,
) -> Vec<(Option<usize>, EventState)> {
    let enabled = enabled(operations, |at| node.has(at));
    let after = |at: usize| step(node.state, operations[at].action, operations[at].seen);
    let changes_nothing = |at: usize| match operations[at].seen {
        Seen::Unknown => false,
        Seen::Done => matches!(operations[at].action, Action::Lease | Action::Extend),
        Seen::Conflict | Seen::Gone | Seen::NotFound | Seen::Status(_) => true,
    };
    if let Some(at) =
        enabled.iter().find(|at| changes_nothing(**at) && after(**at).next().is_some())
    {
        return vec![(Some(*at), node.state)];
    }
    let mut next_steps = Vec::new();
    for at in &enabled {
        let EventOperation { action, seen, end, .. } = operations[*at];
        let mut alike = enabled
            .iter()
            .filter(|at| operations[**at].action == action && operations[**at].seen == seen);
        if alike.all(|other| (end, at) <= (operations[*other].end, other)) {
            let is_useful = |next: &EventState| seen != Seen::Unknown || *next != node.state;
            next_steps.extend(after(*at).filter(is_useful).map(|next| (Some(*at), next)));
        }
    }
    next_steps.extend(spontaneous.after(node.state).map(|state| (None, state)));
    next_steps
}

fn path_to(nodes: &[SearchNode], mut at: usize) -> Vec<(Option<usize>, EventState)> {
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
