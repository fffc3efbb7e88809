//! Makes a failing plan small: removes items while the rest still fails.
//!
//! The algorithm is delta debugging: `ddmin` of Zeller and Hildebrandt ("Simplifying and Isolating
//! Failure-Inducing Input", 2002). The plan is cut into parts. If one part fails alone, or the plan
//! fails without one part, that is the next plan. Otherwise the parts are halved, down to single
//! items. Two differences: parts are tried alone only when they are new, and after a removal the
//! search continues behind it, so that one pass removes everything that does not matter.
//! Invariants: `SHRINK-1` the result failed when it was run, or is the full plan; `SHRINK-2` the
//! result is a subsequence of the plan; `SHRINK-3` there are no more runs than the budget allows,
//! and no two runs of the same items; `SHRINK-4` if the budget sufficed, the result is 1-minimal:
//! without any one of its items it does not fail.
//! The result is not the smallest failing plan, and its items are not made simpler. A run must
//! depend only on its items; otherwise only `SHRINK-2` and the budget hold.

use std::collections::BTreeSet;
use std::ops::Range;

/// Returns a smaller failing plan. `items` must fail; `fails` runs a plan; `budget` is the number
/// of runs allowed, and afterwards the number left. The result is 1-minimal if that is not 0.
pub fn minimize<T: Clone>(
    items: Vec<T>,
    fails: &mut dyn FnMut(&[T]) -> bool,
    budget: &mut usize,
) -> Vec<T> {
    let mut kept: Vec<usize> = (0..items.len()).collect();
    let mut tried = BTreeSet::from([kept.clone()]);
    let mut is_failing = |candidate: &[usize]| {
        if *budget == 0 || !tried.insert(candidate.to_vec()) {
            return false;
        }
        *budget -= 1;
        fails(&pick(&items, candidate))
    };
    let (mut parts, mut first, mut are_new) = (2, 0, true);
    while !kept.is_empty() {
        parts = parts.min(kept.len());
        let ranges: Vec<Range<usize>> =
            (0..parts).map(|part| range(kept.len(), part, parts)).collect();
        // With two parts, each part alone equals the plan without the other.
        let mut alone = ranges
            .iter()
            .filter(|_| are_new && parts > 2)
            .map(|range| kept[range.clone()].to_vec());
        if let Some(part) = alone.find(|part| is_failing(part)) {
            (kept, parts, first, are_new) = (part, 2, 0, true);
            continue;
        }
        let mut rests =
            (first..parts).chain(0..first).map(|part| (part, without(&kept, &ranges[part])));
        if let Some((part, rest)) = rests.find(|(_, rest)| is_failing(rest)) {
            (kept, parts, are_new) = (rest, (parts - 1).max(2), false);
            first = part % parts;
        } else if parts < kept.len() {
            (parts, first, are_new) = (parts * 2, 0, true);
        } else {
            break;
        }
    }
    pick(&items, &kept)
}

fn pick<T: Clone>(items: &[T], kept: &[usize]) -> Vec<T> {
    kept.iter().map(|at| items[*at].clone()).collect()
}

/// The range of one of `parts` parts of about the same length.
fn range(length: usize, part: usize, parts: usize) -> Range<usize> {
    length * part / parts..length * (part + 1) / parts
}

fn without<T: Clone>(kept: &[T], range: &Range<usize>) -> Vec<T> {
    [&kept[..range.start], &kept[range.end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_subsequence(small: &[u16], large: &[u16]) -> bool {
        let mut large = large.iter();
        small.iter().all(|item| large.any(|other| other == item))
    }

    #[test]
    fn a_plan_that_always_fails_shrinks_to_nothing() {
        for length in [0, 1, 2, 7] {
            let mut budget = 100;
            assert_eq!(minimize(vec![1; length], &mut |_| true, &mut budget), Vec::<i32>::new());
        }
    }

    #[test]
    fn one_item_that_matters_takes_few_runs() {
        let mut budget = 1000;
        assert_eq!(
            minimize((0..512).collect(), &mut |plan| plan.contains(&300), &mut budget),
            [300]
        );
        assert!(1000 - budget < 30, "{} runs", 1000 - budget);
    }

    #[test]
    fn without_a_budget_nothing_is_run() {
        assert_eq!(minimize(vec![1, 2], &mut |_| unreachable!(), &mut 0), [1, 2]);
    }

    proptest! {
        #[test]
        fn exactly_what_was_planted_is_found(
            length in 3..300_usize,
            planted in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        ) {
            let planted: BTreeSet<usize> =
                planted.iter().map(|index| index.index(length)).collect();
            let mut budget = 2000;
            let mut fails = |plan: &[usize]| planted.iter().all(|item| plan.contains(item));
            let found = minimize((0..length).collect(), &mut fails, &mut budget);
            prop_assert_eq!(found, planted.into_iter().collect::<Vec<_>>());
            prop_assert!(2000 - budget < 150, "{} runs", 2000 - budget);
        }

        /// For failures that depend on every item: a sum modulo a number.
        #[test]
        fn the_result_is_a_failing_subsequence_and_1_minimal(
            items in prop::collection::vec(any::<u16>(), 0..80),
            (modulus, budget) in (1..9_u16, 0..400_usize),
        ) {
            let remainder = |plan: &[u16]| {
                plan.iter().fold(0, |sum, item| (sum + item % modulus) % modulus)
            };
            let wanted = remainder(&items);
            let (mut left, mut runs, mut seen) = (budget, 0, BTreeSet::new());
            let indexed: Vec<(usize, u16)> = items.iter().copied().enumerate().collect();
            let mut fails = |plan: &[(usize, u16)]| {
                runs += 1;
                assert!(seen.insert(plan.to_vec()), "SHRINK-3");
                remainder(&plan.iter().map(|(_, item)| *item).collect::<Vec<_>>()) == wanted
            };
            let found = minimize(indexed, &mut fails, &mut left);
            let found: Vec<u16> = found.into_iter().map(|(_, item)| item).collect();
            prop_assert_eq!(runs, budget - left);
            prop_assert_eq!(remainder(&found), wanted);
            prop_assert!(is_subsequence(&found, &items));
            for at in 0..found.len() {
                prop_assert!(left == 0 || remainder(&without(&found, &(at..at + 1))) != wanted);
            }
        }
    }
}
