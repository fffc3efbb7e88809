//! When a worker may send: at once (closed loop), or when a slot of the schedule is due (open
//! loop).
//!
//! In the open loop one thread sleeps precisely and releases due slots into a semaphore; free
//! workers take them in order. A thread is needed because the runtime rounds its timers to a
//! millisecond, which is longer than a good latency. A request begins at the intended time of its
//! slot, even if a worker gets the slot later. After `stop` no worker gets a slot.

use super::clock::Clock;
use super::plan::Plan;
use super::schedule::{Issuer, Schedule, Step};
use super::tally::Window;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Shortest sleep of the pacing thread. Shorter ones would cost the measured machine too much.
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

/// How closely the load kept its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adherence {
    /// Requested events per second.
    pub rate: u64,
    /// Requests that should have been sent by the end.
    pub due: u64,
    /// Requests that were sent by the end.
    pub sent: u64,
}

impl Pace {
    /// Makes the pace of a plan, including its warm-up.
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

    /// Waits until a request may be sent. Returns its begin in nanoseconds, or `None` when the load
    /// is over.
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

    /// Whether there is a schedule, which needs the pacing thread.
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

    /// Ends the load: no worker gets another slot, and waiting workers return.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(open) = &self.open {
            open.due.close();
        }
    }

    /// How closely the schedule was kept up to `end_ns`; `None` in a closed loop.
    pub fn adherence(&self, end_ns: u64) -> Option<Adherence> {
        let open = self.open.as_ref()?;
        let sent = open.taken.load(Ordering::Relaxed);
        Some(Adherence { rate: open.rate, due: open.schedule.due(end_ns).max(sent), sent })
    }
}

impl Adherence {
    /// Whether unsent requests make the latencies look better than they were.
    pub fn is_behind(&self) -> bool {
        self.due - self.sent > (self.due / 1_000).max(10)
    }
}
