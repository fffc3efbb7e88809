//! Counts latencies, answers, events and failures inside the measured window.
//!
//! Workers share a few tallies, each behind its own lock, so that ten thousand connections do not
//! need ten thousand histograms. Times are nanoseconds since the start.
//!
//! - `TALLY-1`: a rate counts answers that arrived inside the window.
//! - `TALLY-2`: a latency or a failure counts if its request was in flight inside the window.
//!   Neither a backlog of the warm-up nor a slow answer after the end is left out.
//! - `TALLY-3`: only answers in 2xx have a latency, so that fast rejections do not improve the
//!   numbers.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Longest latency that is recorded, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Number of locks that the workers are spread over.
const SHARDS_MAX: usize = 16;

/// The measured window, in nanoseconds since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The end of the warm-up.
    pub begin_ns: u64,
    /// The end of the load.
    pub end_ns: u64,
}

impl Window {
    /// Makes the window that follows a warm-up.
    pub fn new(warmup_seconds: u64, duration_seconds: u64) -> Self {
        let begin_ns = warmup_seconds * 1_000_000_000;
        Self { begin_ns, end_ns: begin_ns + duration_seconds * 1_000_000_000 }
    }

    fn touches(&self, sample: &Sample) -> bool {
        sample.end_ns >= self.begin_ns && sample.begin_ns <= self.end_ns
    }
}

/// Reasons for which a request or an item did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The answer was outside 2xx.
    Status(u16),
    /// There was no answer: connection refused, broken, or too slow.
    Transport,
    /// An item of a batch failed; other items may have succeeded.
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

/// The outcome of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Time at which it was sent, or meant to be sent.
    pub begin_ns: u64,
    /// Time at which its answer was complete.
    pub end_ns: u64,
    /// Events accepted or read, or why it failed.
    pub result: Result<u64, Failure>,
    /// Number of failed items.
    pub items_failed: u64,
}

/// The counts of some of the workers.
#[derive(Debug)]
pub struct Tally {
    /// Latencies in microseconds.
    pub latency_us: Histogram<u64>,
    /// Answers in 2xx inside the window.
    pub requests: u64,
    /// Events accepted or read.
    pub events: u64,
    /// Failures by kind.
    pub failures: BTreeMap<Failure, u64>,
}

impl Tally {
    /// Makes an empty tally.
    pub fn new() -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("the bounds and the number of digits are valid");
        Self { latency_us, requests: 0, events: 0, failures: BTreeMap::new() }
    }

    /// Counts one request of a load.
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

    /// Adds the counts of another tally.
    pub fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("both histograms have the same bounds");
        self.requests += other.requests;
        self.events += other.events;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
    }
}

/// The counts up to now, for the progress line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Answers in 2xx inside the window.
    pub requests: u64,
    /// Events accepted or read.
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
    /// Makes the tallies for a number of workers.
    pub fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers.clamp(1, SHARDS_MAX)).map(|_| Mutex::new(Tally::new())).collect(),
        }
    }

    /// Counts one request of a worker.
    pub fn record(&self, worker: usize, window: Window, sample: Sample) {
        locked(&self.shards[worker % self.shards.len()]).record(window, sample);
    }

    /// The counts up to now.
    pub fn answered(&self) -> Answered {
        self.shards.iter().map(|shard| locked(shard)).fold(Answered::default(), |sum, tally| {
            Answered {
                requests: sum.requests + tally.requests,
                events: sum.events + tally.events,
                failures: sum.failures + tally.failures.values().sum::<u64>(),
            }
        })
    }

    /// All counts in one tally.
    pub fn total(&self) -> Tally {
        let mut total = Tally::new();
        for shard in &self.shards {
            total.add(&locked(shard));
        }
        total
    }
}

/// Locks a tally. A panic between two counts leaves them correct, so poison does not matter.
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
