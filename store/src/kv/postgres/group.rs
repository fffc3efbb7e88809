//! Groups commits that do not touch each other's writes.
//!
//! Invariants:
//! - `POSTGRES-GROUP-1`: commits of a group are independent. None reads a key that another writes,
//!   and no two write the same key, unless both add to it.
//! - `POSTGRES-GROUP-2`: the first commit that does not fit starts the next group; none starves.

use crate::kv::overlay::Write;
use crate::kv::{KeyRange, StoreError};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;

/// The commit of one transaction, in the queue.
pub(super) struct PendingCommit {
    /// Keys that were read, with the value found.
    pub(super) keys: Vec<(Bytes, Option<Bytes>)>,
    /// Ranges that were read, with the digest of their content.
    pub(super) ranges: Vec<(KeyRange, Bytes)>,
    pub(super) cleared: Vec<KeyRange>,
    pub(super) writes: BTreeMap<Bytes, Write>,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// Independent commits that are sent together.
#[derive(Default)]
pub(super) struct CommitGroup {
    pub(super) commits: Vec<PendingCommit>,
    bytes: usize,
    /// All written keys; true if the key is only added to.
    written: BTreeMap<Bytes, bool>,
    cleared: Vec<KeyRange>,
}

impl CommitGroup {
    /// Moves as many independent commits as fit from `waiting`, in order, at least the first.
    pub(super) fn gather(
        waiting: &mut VecDeque<PendingCommit>,
        transactions_max: usize,
        bytes_max: usize,
    ) -> Self {
        let mut group = Self::default();
        let mut left = VecDeque::new();
        while let Some(commit) = waiting.pop_front() {
            let is_full = group.commits.len() >= transactions_max || group.bytes >= bytes_max;
            if is_full || !group.admits(&commit) {
                left.push_back(commit);
            } else {
                group.add(commit);
            }
        }
        *waiting = left;
        group
    }

    fn admits(&self, commit: &PendingCommit) -> bool {
        let reads = commit.keys.iter().all(|(key, _)| !self.changes(key))
            && commit.ranges.iter().all(|(range, _)| !self.changes_in(range));
        let clears = commit.cleared.iter().all(|range| !self.writes_in(range));
        let writes = commit.writes.iter().all(|(key, write)| {
            let both_add = |is_add: &bool| *is_add && matches!(write, Write::Add(_));
            !self.clears(key) && self.written.get(key).is_none_or(both_add)
        });
        reads && clears && writes
    }

    fn add(&mut self, commit: PendingCommit) {
        self.bytes += commit.bytes;
        for (key, write) in &commit.writes {
            self.written.insert(key.clone(), matches!(write, Write::Add(_)));
        }
        self.cleared.extend(commit.cleared.iter().cloned());
        self.commits.push(commit);
    }

    fn changes(&self, key: &Bytes) -> bool {
        self.written.contains_key(key) || self.clears(key)
    }

    fn clears(&self, key: &Bytes) -> bool {
        self.cleared.iter().any(|range| range.contains(key))
    }

    fn changes_in(&self, range: &KeyRange) -> bool {
        self.writes_in(range) || self.cleared.iter().any(|cleared| cleared.overlaps(range))
    }

    fn writes_in(&self, range: &KeyRange) -> bool {
        self.written.range::<[u8], _>(range.bounds()).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone)]
    struct Plan {
        keys: Vec<u8>,
        ranges: Vec<(u8, u8)>,
        cleared: Vec<(u8, u8)>,
        writes: BTreeMap<u8, u8>,
    }

    fn plan() -> impl Strategy<Value = Plan> {
        let some = || proptest::collection::vec(0u8..12, 0..2);
        let ranges = || proptest::collection::vec((0u8..12, 0u8..12), 0..2);
        let writes = proptest::collection::btree_map(0u8..12, 0u8..3, 0..3);
        (some(), ranges(), ranges(), writes).prop_map(|(keys, ranges, cleared, writes)| Plan {
            keys,
            ranges,
            cleared,
            writes,
        })
    }

    fn range((begin, end): (u8, u8)) -> KeyRange {
        KeyRange::new(vec![begin], vec![end])
    }

    fn commit(plan: &Plan, number: usize) -> PendingCommit {
        let write = |kind: u8| match kind {
            0 => Write::Set(Bytes::new()),
            1 => Write::Clear,
            _ => Write::Add(1),
        };
        let key = |key: u8| Bytes::from(vec![key]);
        PendingCommit {
            keys: plan.keys.iter().map(|read| (key(*read), None)).collect(),
            ranges: plan.ranges.iter().map(|read| (range(*read), Bytes::new())).collect(),
            // As from an overlay: never empty.
            cleared: plan
                .cleared
                .iter()
                .map(|cleared| range(*cleared))
                .filter(|range| !range.is_empty())
                .collect(),
            writes: plan
                .writes
                .iter()
                .map(|(written, kind)| (key(*written), write(*kind)))
                .collect(),
            bytes: number,
            answer: oneshot::channel().0,
        }
    }

    /// Keys that a commit reads, that it sets or clears, and that it adds to.
    fn touched(commit: &PendingCommit) -> [BTreeSet<u8>; 3] {
        let inside = |ranges: Vec<KeyRange>| {
            (0..12u8).filter(move |key| ranges.iter().any(|range| range.contains(&[*key])))
        };
        let written = |adds: bool| {
            let writes = commit
                .writes
                .iter()
                .filter(move |(_, write)| matches!(write, Write::Add(_)) == adds);
            writes.map(|(key, _)| key[0])
        };
        let reads = commit.keys.iter().map(|(key, _)| key[0]);
        [
            reads
                .chain(inside(commit.ranges.iter().map(|(range, _)| range.clone()).collect()))
                .collect(),
            written(false).chain(inside(commit.cleared.clone())).collect(),
            written(true).collect(),
        ]
    }

    proptest! {
        #[test]
        fn commits_of_a_group_are_independent_and_none_starves(
            plans in proptest::collection::vec(plan(), 1..12),
            transactions_max in 1usize..6, bytes_max in 1usize..40,
        ) {
            let numbered = plans.iter().enumerate();
            let mut waiting: VecDeque<_> =
                numbered.map(|(number, plan)| commit(plan, number)).collect();
            let mut seen = Vec::new();
            while let Some(first) = waiting.front().map(|commit| commit.bytes) {
                let group = CommitGroup::gather(&mut waiting, transactions_max, bytes_max);
                prop_assert!(group.commits.len() <= transactions_max);
                prop_assert_eq!(group.commits[0].bytes, first, "POSTGRES-GROUP-2");
                prop_assert!(group.commits.is_sorted_by_key(|commit| commit.bytes));
                for (at, late) in group.commits.iter().enumerate() {
                    for early in &group.commits[..at] {
                        let [reads, sets, adds] = touched(late);
                        let [_, early_sets, early_adds] = touched(early);
                        let early_changes: BTreeSet<u8> =
                            early_sets.union(&early_adds).copied().collect();
                        prop_assert!(reads.is_disjoint(&early_changes), "POSTGRES-GROUP-1");
                        let clears = |one: &PendingCommit, key: u8| {
                            one.cleared.iter().any(|range| range.contains(&[key]))
                                && !one.writes.contains_key(&[key][..])
                        };
                        let both_clear = |key: &u8| clears(late, *key) && clears(early, *key);
                        let mut common = sets.intersection(&early_changes);
                        prop_assert!(common.all(both_clear), "POSTGRES-GROUP-1");
                        prop_assert!(adds.is_disjoint(&early_sets), "POSTGRES-GROUP-1");
                    }
                }
                seen.extend(group.commits.iter().map(|commit| commit.bytes));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..plans.len()).collect::<Vec<_>>());
        }
    }
}
