//! Fair shares of a number of places among contenders: tenants on a node, subscriptions of a
//! tenant. No I/O.
//!
//! A contender may hold up to [`FREE_MULTIPLE`] times as many places as are free. This is the
//! dynamic threshold of A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches" (IEEE/ACM Transactions on Networking 6, 1998). A contender that
//! is alone gets seven eighths of all places; four of them get a quarter each, less a reserve. The
//! reserve is for contenders with few places. Those that wait come in the order of the places that
//! they hold, then in the order of asking.
//! Invariants: `SHARES-1` no place is given that is not free; `SHARES-2` a contender without places
//! that waits gets the next free place before all that hold one; `SHARES-3` a contender that holds
//! places gets no more of them than its threshold; `SHARES-4` a contender waits only while it is at
//! its threshold or no place is free; `SHARES-5` only contenders that hold or await places take
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::planted::{Bug, is_planted};

/// Bound on the places of a contender, as a multiple of the free ones.
const FREE_MULTIPLE: usize = 7;

/// Number of places that a contender with `held` places may take while `free` places are free.
pub(crate) fn share(held: usize, free: usize) -> usize {
    if is_planted(Bug::PlacesNotShared) {
        return free;
    }
    // The largest n with held + n <= FREE_MULTIPLE * (free - n).
    let share = free.saturating_mul(FREE_MULTIPLE).saturating_sub(held) / (FREE_MULTIPLE + 1);
    if held == 0 { share.max(1).min(free) } else { share }
}

/// The places, who holds them and who waits for one.
#[derive(Debug)]
pub(crate) struct FairShares<K> {
    places: usize,
    used: usize,
    contenders: BTreeMap<K, Contender>,
    /// The first ticket of each contender that waits, by the places that it holds.
    waiting: BTreeSet<(usize, u64, K)>,
    last_ticket: u64,
}

#[derive(Debug, Default)]
struct Contender {
    held: usize,
    tickets: BTreeSet<u64>,
}

impl<K: Ord + Clone> FairShares<K> {
    pub(crate) fn new(places: usize) -> Self {
        let (contenders, waiting) = (BTreeMap::new(), BTreeSet::new());
        Self { places, used: 0, contenders, waiting, last_ticket: 0 }
    }

    /// Number of places in use. It exceeds the number of places if contenders have [added]
    /// more than were free.
    ///
    /// [added]: Self::add
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Number of places that a contender may take now.
    pub(crate) fn allowance(&self, key: &K) -> usize {
        let held = self.contenders.get(key).map_or(0, |contender| contender.held);
        share(held, self.places.saturating_sub(self.used))
    }

    /// Takes up to `wanted` places for a contender; returns how many it got.
    pub(crate) fn take(&mut self, key: &K, wanted: usize) -> usize {
        let taken = self.allowance(key).min(wanted);
        self.add(key, taken);
        taken
    }

    /// Adds places to those of a contender whether or not they are free.
    pub(crate) fn add(&mut self, key: &K, places: usize) {
        self.used += places;
        self.change(key, |contender| contender.held += places);
    }

    pub(crate) fn give_back(&mut self, key: &K, places: usize) {
        self.used = self.used.saturating_sub(places);
        self.change(key, |contender| contender.held = contender.held.saturating_sub(places));
    }

    /// Asks for a place; returns the ticket that [`Self::grant`] will name.
    pub(crate) fn ask(&mut self, key: &K) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        self.change(key, |contender| _ = contender.tickets.insert(ticket));
        ticket
    }

    /// Withdraws a ticket.
    pub(crate) fn withdraw(&mut self, key: &K, ticket: u64) {
        self.change(key, |contender| _ = contender.tickets.remove(&ticket));
    }

    /// Gives a place to the first contender that waits; none if it may not have one now.
    pub(crate) fn grant(&mut self) -> Option<(K, u64)> {
        // The first one holds the fewest places: if it is at its threshold, so are the others.
        let (_, ticket, key) = self.waiting.first().cloned()?;
        if self.take(&key, 1) == 0 {
            return None;
        }
        self.withdraw(&key, ticket);
        Some((key, ticket))
    }

    fn change(&mut self, key: &K, change: impl FnOnce(&mut Contender)) {
        let mut contender = self.contenders.remove(key).unwrap_or_default();
        if let Some(first) = contender.tickets.first() {
            self.waiting.remove(&(contender.held, *first, key.clone()));
        }
        change(&mut contender);
        if let Some(first) = contender.tickets.first() {
            self.waiting.insert((contender.held, *first, key.clone()));
        }
        if contender.held > 0 || !contender.tickets.is_empty() {
            self.contenders.insert(key.clone(), contender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_is_alone_gets_nearly_all_and_four_leave_some_for_a_fifth() {
        let mut shares = FairShares::new(1_024);
        assert_eq!(shares.take(&1, usize::MAX), 896);
        for other in 2..=4 {
            assert!(shares.take(&other, usize::MAX) > 0);
        }
        // The first gives back what it holds beyond its share of today.
        for _ in 0..896 {
            shares.give_back(&1, 1);
            for hog in 1..=4 {
                shares.take(&hog, usize::MAX);
            }
        }
        let held: Vec<_> = shares.contenders.values().map(|contender| contender.held).collect();
        assert!(held.iter().all(|held| (200..=300).contains(held)), "{held:?}");
        assert!(shares.allowance(&5) >= 30, "{}", shares.allowance(&5));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take(u8, usize),
        Ask(u8),
        Withdraw(u8),
        GiveBack(u8, usize),
        Add(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..5, 1usize..40).prop_map(|(key, wanted)| Step::Take(key, wanted)),
            3 => (0u8..5).prop_map(Step::Ask),
            1 => (0u8..5).prop_map(Step::Withdraw),
            4 => (0u8..5, 1usize..4).prop_map(|(key, count)| Step::GiveBack(key, count)),
            1 => (0u8..5).prop_map(Step::Add),
        ]
    }

    proptest! {
        #[test]
        fn nobody_starves_and_nothing_is_given_twice(
            places in 1usize..40,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut shares = FairShares::new(places);
            let (mut held, mut asked) = ([0usize; 5], Vec::<(u8, u64)>::new());
            let all = |held: &[usize; 5]| held.iter().sum::<usize>();
            for step in steps {
                match step {
                    Step::Take(key, wanted) => {
                        let free = places.saturating_sub(all(&held));
                        let mine = &mut held[usize::from(key)];
                        let taken = shares.take(&key, wanted);
                        prop_assert!(taken <= free, "SHARES-1");
                        prop_assert!(*mine > 0 || free == 0 || taken > 0, "SHARES-2");
                        *mine += taken;
                        let bound = FREE_MULTIPLE * (free - taken);
                        prop_assert!(taken == 0 || *mine <= bound.max(1), "SHARES-3");
                        prop_assert!(taken == wanted || *mine + 1 > FREE_MULTIPLE
                            * (free - taken).saturating_sub(1), "it got less than its threshold");
                    }
                    Step::Ask(key) => asked.push((key, shares.ask(&key))),
                    Step::Withdraw(key) => {
                        let Some(at) = asked.iter().position(|(of, _)| *of == key) else {
                            continue;
                        };
                        shares.withdraw(&key, asked.remove(at).1);
                    }
                    Step::GiveBack(key, count) => {
                        let count = count.min(held[usize::from(key)]);
                        shares.give_back(&key, count);
                        held[usize::from(key)] -= count;
                    }
                    Step::Add(key) => {
                        shares.add(&key, 2);
                        held[usize::from(key)] += 2;
                    }
                }
                while let Some((key, ticket)) = shares.grant() {
                    let mine = held[usize::from(key)];
                    let fewest = asked.iter().map(|(key, _)| held[usize::from(*key)]).min();
                    prop_assert_eq!(fewest, Some(mine), "SHARES-2");
                    let first = asked.iter().filter(|(of, _)| held[usize::from(*of)] == mine);
                    prop_assert_eq!(first.map(|(_, other)| *other).min(), Some(ticket));
                    asked.retain(|(_, other)| *other != ticket);
                    held[usize::from(key)] += 1;
                    prop_assert!(all(&held) <= places, "SHARES-1");
                }
                let free = places.saturating_sub(all(&held));
                let may_go = |key: u8| share(held[usize::from(key)], free) > 0;
                prop_assert!(!asked.iter().any(|(key, _)| may_go(*key)), "SHARES-4");
                let has_idle = asked.iter().any(|(key, _)| held[usize::from(*key)] == 0);
                prop_assert!(!has_idle || free == 0, "SHARES-4");
                prop_assert_eq!(shares.used(), all(&held));
            }
            for (key, ticket) in asked {
                shares.withdraw(&key, ticket);
            }
            for (key, held) in (0u8..).zip(held) {
                shares.give_back(&key, held);
            }
            prop_assert!(shares.contenders.is_empty() && shares.waiting.is_empty(), "SHARES-5");
        }
    }
}
