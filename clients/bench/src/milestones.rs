//! When each part of a fixed number of events was finished.
//!
//! Says whether a rate holds over the whole of a backlog: a queue that slows down while it empties
//! shows in its last tenth. Memory is the same for any number of events.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Parts that the events are divided into.
const PARTS: u64 = 1_000;

/// The finished events of a backlog.
#[derive(Debug)]
pub struct Milestones {
    total: u64,
    finished: AtomicU64,
    /// For each part, the time at which it was finished, in nanoseconds since the start.
    reached_ns: Vec<AtomicU64>,
    complete: Notify,
}

/// The rates at the beginning and at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tenths {
    /// Events a second in the first tenth.
    pub first_per_second: f64,
    /// Events a second in the last tenth.
    pub last_per_second: f64,
}

impl Milestones {
    /// Makes the milestones of this many events, at least 1.
    pub fn new(total: u64) -> Self {
        let reached_ns = (0..=PARTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            total: total.max(1),
            finished: AtomicU64::new(0),
            reached_ns,
            complete: Notify::new(),
        }
    }

    /// Counts events that were finished at `now_ns`.
    pub fn add(&self, events: u64, now_ns: u64) {
        let before = self.finished.fetch_add(events, Ordering::Relaxed);
        for part in self.parts(before) + 1..=self.parts(before + events) {
            self.reached_ns[part as usize].store(now_ns, Ordering::Relaxed);
        }
        if before < self.total && before + events >= self.total {
            self.complete.notify_one();
        }
    }

    /// Whether all events are finished.
    pub fn is_complete(&self) -> bool {
        self.finished.load(Ordering::Relaxed) >= self.total
    }

    /// Waits until all events are finished. For one caller.
    pub async fn completed(&self) {
        while !self.is_complete() {
            self.complete.notified().await;
        }
    }

    /// The number of events that are not finished.
    pub fn left(&self) -> u64 {
        self.total.saturating_sub(self.finished.load(Ordering::Relaxed))
    }

    /// The time at which the last event was finished, in nanoseconds since the start; `None` if
    /// some are not.
    pub fn completed_ns(&self) -> Option<u64> {
        self.is_complete().then(|| self.reached(PARTS))
    }

    /// The rates of what was finished since `begin_ns`; `None` if that is too little.
    pub fn tenths(&self, begin_ns: u64) -> Option<Tenths> {
        let parts = self.parts(self.finished.load(Ordering::Relaxed));
        let tenth = parts / 10;
        if tenth == 0 {
            return None;
        }
        let events = (tenth * self.total) as f64 / PARTS as f64;
        let rate =
            |from_ns: u64, to_ns: u64| events * 1e9 / to_ns.saturating_sub(from_ns).max(1) as f64;
        Some(Tenths {
            first_per_second: rate(begin_ns, self.reached(tenth)),
            last_per_second: rate(self.reached(parts - tenth), self.reached(parts)),
        })
    }

    fn parts(&self, finished: u64) -> u64 {
        finished.min(self.total) * PARTS / self.total
    }

    fn reached(&self, part: u64) -> u64 {
        self.reached_ns[part as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn the_rates_are_those_of_the_first_and_the_last_tenth() {
        let milestones = Milestones::new(10_000);
        for second in 1..=10 {
            milestones.add(100, second * SECOND_NS);
        }
        milestones.add(8_000, 11 * SECOND_NS);
        assert!(!milestones.is_complete());
        milestones.add(1_000, 13 * SECOND_NS);
        assert_eq!(milestones.completed_ns(), Some(13 * SECOND_NS));
        let expected = Tenths { first_per_second: 100.0, last_per_second: 500.0 };
        assert_eq!(milestones.tenths(0), Some(expected));
    }

    #[test]
    fn an_unfinished_backlog_has_the_tenths_of_what_is_finished() {
        let milestones = Milestones::new(1_000_000);
        milestones.add(9, SECOND_NS);
        assert_eq!(milestones.tenths(0), None);
        milestones.add(99_991, 2 * SECOND_NS);
        milestones.add(100_000, 4 * SECOND_NS);
        let tenths = milestones.tenths(SECOND_NS).unwrap();
        assert_eq!((milestones.left(), milestones.completed_ns()), (800_000, None));
        assert_eq!(tenths.first_per_second, 20_000.0);
    }

    #[tokio::test]
    async fn more_than_all_is_complete() {
        let milestones = Milestones::new(3);
        milestones.add(2, 1);
        milestones.add(2, 2);
        milestones.completed().await;
        assert_eq!(milestones.completed_ns(), Some(2));
    }
}
