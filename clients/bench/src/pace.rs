//! When a worker may send: at once (closed loop), or when a slot of the schedule is due (open loop).
//!
//! In the open loop one thread sleeps precisely and releases due slots into a semaphore; free workers take them in order.
//! A thread, because the runtime's timers are rounded to a millisecond, which would be most of a good latency.
//! Invariants: a slot's begin is its intended time, whenever a worker gets to it; after `stop` nobody gets a slot.
//!
//! The arithmetic is in `schedule`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::clock::Clock;
use super::plan::Plan;
use super::schedule::{Issuer, Schedule, Step};
use super::tally::Window;

/// Shortest sleep of the pacing thread: finer than this costs the machine more than it tells.
const PAUSE_MIN: Duration = Duration::from_micros(100);
/// Longest sleep, so that stopping is prompt.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The pace of a load, shared by all workers.
#[derive(Debug)]
pub struct Pace {
    stopped: AtomicBool,
    end_ns: u64,
    open: Option<OpenLoop>,
}

#[derive(Debug)]
struct OpenLoop {
    schedule: Schedule,
    rate: u64,
    due: Semaphore,
    taken: AtomicU64,
}

/// How well a schedule was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Events a second that were asked for.
    pub rate: u64,
    /// Requests that should have been sent by the end.
    pub due: u64,
    /// Requests that were.
    pub sent: u64,
}

impl Pace {
    /// The pace a plan asks for, warm-up included.
    pub fn new(plan: &Plan, window: Window) -> Self {
        let rate = plan.rate_events_per_second;
        let open = (rate > 0).then(|| OpenLoop {
            schedule: Schedule::new(rate, plan.events_per_ten_requests(), window.end_ns),
            rate,
            due: Semaphore::new(0),
            taken: AtomicU64::new(0),
        });
        Self { stopped: AtomicBool::new(false), end_ns: window.end_ns, open }
    }

    /// Waits until a request may be sent; its begin in nanoseconds, or nothing when the load is over.
    pub async fn next(&self, clock: &Clock) -> Option<u64> {
        let begin_ns = match &self.open {
            None => clock.elapsed_ns(),
            Some(open) => {
                open.due.acquire().await.ok()?.forget();
                if self.stopped.load(Ordering::Relaxed) || clock.elapsed_ns() >= self.end_ns {
                    return None;
                }
                open.schedule.intended_ns(open.taken.fetch_add(1, Ordering::Relaxed))
            }
        };
        (begin_ns < self.end_ns && !self.stopped.load(Ordering::Relaxed)).then_some(begin_ns)
    }

    /// Whether there is a schedule, which needs its thread.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The pacing thread's work: releases slots until all are released or the load is over.
    pub fn release_slots(&self, clock: &Clock) {
        let Some(open) = &self.open else { return };
        let mut issuer = Issuer::new(open.schedule);
        while !self.stopped.load(Ordering::Relaxed) {
            match issuer.step(clock.elapsed_ns()) {
                Step::Done => return,
                Step::Release { slots, wait_ns } => {
                    let free = Semaphore::MAX_PERMITS - open.due.available_permits();
                    open.due.add_permits(usize::try_from(slots).unwrap_or(usize::MAX).min(free));
                    std::thread::sleep(Duration::from_nanos(wait_ns).clamp(PAUSE_MIN, PAUSE_MAX));
                }
            }
        }
    }

    /// Ends the load: no worker gets another slot, those that wait are let go.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(open) = &self.open {
            open.due.close();
        }
    }

    /// How well the schedule was kept up to `end_ns`; nothing in a closed loop.
    pub fn keeping(&self, end_ns: u64) -> Option<Keeping> {
        let open = self.open.as_ref()?;
        let sent = open.taken.load(Ordering::Relaxed);
        Some(Keeping { rate: open.rate, due: open.schedule.due(end_ns).max(sent), sent })
    }
}

impl Keeping {
    /// Whether so many requests went unsent that the latencies look better than they were.
    pub fn is_behind(&self) -> bool {
        self.due - self.sent > (self.due / 1_000).max(10)
    }
}
