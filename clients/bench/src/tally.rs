//! What is counted: latencies, answers, events, failures, inside the measured window.
//!
//! Workers share a few tallies, each behind its own lock, so that ten thousand connections do not need ten thousand
//! histograms and a lock is almost never contended. Invariants: TALLY-1 a rate counts answers that arrived inside the
//! window; TALLY-2 a latency or failure counts if its request was under way inside the window, so neither a backlog out
//! of the warm-up nor a slow answer after the end is left out; TALLY-3 only answers in 2xx have a latency, so a fast
//! refusal does not flatter.
//!
//! It knows no clock: times come as nanoseconds since the start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Locks the workers are spread over.
const SHARDS_MAX: usize = 16;

/// The measured stretch of time, in nanoseconds since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The end of the warm-up.
    pub begin_ns: u64,
    /// The end of the load.
    pub end_ns: u64,
}

impl Window {
    /// The window behind a warm-up.
    pub fn new(warmup_seconds: u64, duration_seconds: u64) -> Self {
        let begin_ns = warmup_seconds * 1_000_000_000;
        Self { begin_ns, end_ns: begin_ns + duration_seconds * 1_000_000_000 }
    }

    fn touches(&self, sample: &Sample) -> bool {
        sample.end_ns >= self.begin_ns && sample.begin_ns <= self.end_ns
    }
}

/// Why a request or an item did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// An answer outside 2xx.
    Status(u16),
    /// No answer: connection refused, broken, or too slow.
    Transport,
    /// An item of a batch whose other items may have succeeded.
    Item,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "{status}"),
            Self::Transport => formatter.write_str("transport"),
            Self::Item => formatter.write_str("item"),
        }
    }
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent, or meant to be.
    pub begin_ns: u64,
    /// When its answer was complete.
    pub end_ns: u64,
    /// Events it moved, or why it failed.
    pub result: Result<u64, Failure>,
    /// Items of it that failed.
    pub items_failed: u64,
}

/// Counts of some of the workers.
#[derive(Debug)]
pub struct Tally {
    /// Latencies in microseconds.
    pub latency_us: Histogram<u64>,
    /// Answers in 2xx inside the window.
    pub requests: u64,
    /// Events they moved.
    pub events: u64,
    /// Failures by kind.
    pub failures: BTreeMap<Failure, u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("1 is a valid lowest value, the highest is more than twice it, and 3 digits are allowed");
        Self { latency_us, requests: 0, events: 0, failures: BTreeMap::new() }
    }

    /// Counts one request.
    pub fn record(&mut self, window: Window, sample: Sample) {
        if !window.touches(&sample) {
            return;
        }
        match sample.result {
            Ok(events) => {
                if sample.end_ns <= window.end_ns {
                    self.requests += 1;
                    self.events += events;
                }
                let latency_ns = sample.end_ns.saturating_sub(sample.begin_ns);
                self.latency_us.saturating_record(latency_ns.div_ceil(1_000));
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
        if sample.items_failed > 0 {
            *self.failures.entry(Failure::Item).or_default() += sample.items_failed;
        }
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("both histograms have the same bounds");
        self.requests += other.requests;
        self.events += other.events;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
    }
}

/// Answers and failures up to now, for the progress line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Answers in 2xx inside the window.
    pub requests: u64,
    /// Events they moved.
    pub events: u64,
    /// Failures of every kind.
    pub failures: u64,
}

/// The tallies of all workers.
#[derive(Debug)]
pub struct Tallies {
    shards: Vec<Mutex<Tally>>,
}

impl Tallies {
    /// Tallies for so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers.clamp(1, SHARDS_MAX)).map(|_| Mutex::new(Tally::new())).collect(),
        }
    }

    /// Counts one request of a worker.
    pub fn record(&self, worker: usize, window: Window, sample: Sample) {
        locked(&self.shards[worker % self.shards.len()]).record(window, sample);
    }

    /// What has been counted up to now.
    pub fn answered(&self) -> Answered {
        self.shards.iter().map(|shard| locked(shard)).fold(Answered::default(), |sum, tally| {
            Answered {
                requests: sum.requests + tally.requests,
                events: sum.events + tally.events,
                failures: sum.failures + tally.failures.values().sum::<u64>(),
            }
        })
    }

    /// Everything counted, in one.
    pub fn total(&self) -> Tally {
        let mut total = Tally::new();
        for shard in &self.shards {
            total.add(&locked(shard));
        }
        total
    }
}

/// Counts stay right if a worker panicked between two of them, so a poisoned lock is taken as it is.
fn locked(shard: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sample(begin_ns: u64, end_ns: u64, result: Result<u64, Failure>) -> Sample {
        Sample { begin_ns, end_ns, result, items_failed: 0 }
    }

    #[test]
    fn only_what_was_under_way_inside_the_window_counts() {
        let window = Window::new(1, 1);
        let mut tally = Tally::new();
        tally.record(window, sample(100 * MS, 200 * MS, Ok(1)));
        tally.record(window, sample(100 * MS, 1_100 * MS, Ok(10)));
        tally.record(window, sample(1_500 * MS, 1_502 * MS, Ok(1)));
        tally.record(window, sample(1_900 * MS, 2_300 * MS, Ok(1)));
        tally.record(window, sample(500 * MS, 501 * MS, Err(Failure::Transport)));
        assert_eq!((tally.requests, tally.events), (2, 11));
        assert_eq!(tally.latency_us.len(), 3);
        assert!(tally.latency_us.max() >= 1_000_000 && tally.latency_us.min() <= 2_001);
        assert!(tally.failures.is_empty());
    }

    #[test]
    fn failures_have_no_latency_and_are_counted_by_kind() {
        let tallies = Tallies::new(40);
        let window = Window::new(0, 10);
        tallies.record(0, window, sample(0, 5 * MS, Err(Failure::Status(429))));
        tallies.record(17, window, sample(0, 5 * MS, Err(Failure::Status(429))));
        tallies.record(
            39,
            window,
            Sample { begin_ns: 0, end_ns: MS, result: Ok(98), items_failed: 2 },
        );
        let total = tallies.total();
        assert_eq!(total.latency_us.len(), 1);
        assert_eq!(total.failures, BTreeMap::from([(Failure::Status(429), 2), (Failure::Item, 2)]));
        assert_eq!(tallies.answered(), Answered { requests: 1, events: 98, failures: 4 });
    }
}
