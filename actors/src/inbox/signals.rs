//! What an open inbox publishes: its rates, its next due time, and its changes.
//!
//! Invariants: `SIGNALS-1` the rates have sixty counters of one second each; a counter is emptied
//! before it is used for another second; `SIGNALS-2` the next due time is as of the last commit, so
//! that a partition that closes an inbox knows when to open it again, and "at once" while nothing
//! is known; `SIGNALS-3` an inbox with webhooks in flight shows that it is busy and is not closed.
//! The rates are measured on this node since the inbox was opened; they are not durable counts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use triggers_protocol::Timestamp;
use triggers_protocol::lock::lock;
use triggers_store::tables::batch::Activity;

const SECONDS: usize = 60;

/// Signals of one open inbox.
#[derive(Debug)]
pub(crate) struct InboxSignals {
    seconds: Mutex<[Second; SECONDS]>,
    /// Microseconds since the epoch; the largest number if there is nothing to do.
    next: AtomicI64,
    attachment: AtomicU8,
    /// Notified of every commit after which consumers may find more to lease.
    pub(crate) committed: Notify,
}

/// What would be lost if an inbox were closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Attachment {
    /// Nothing would be lost.
    Free,
    /// Knowledge of endpoints, or a turn for a delivery permit.
    Attached,
    /// Webhooks in flight.
    Busy,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    second: u64,
    ingested: u32,
    delivered: u32,
}

impl InboxSignals {
    pub(crate) fn new() -> Self {
        Self {
            seconds: Mutex::new([Second::default(); SECONDS]),
            next: AtomicI64::new(0),
            attachment: AtomicU8::new(Attachment::Free as u8),
            committed: Notify::new(),
        }
    }

    /// Sets the next due time, and what would be lost with the inbox.
    pub(crate) fn set_next(&self, next: Option<Timestamp>, attachment: Attachment) {
        self.next.store(next.map_or(i64::MAX, Timestamp::as_micros), Ordering::Relaxed);
        self.attachment.store(attachment as u8, Ordering::Relaxed);
    }

    /// Notes that a commit has made something due at this time.
    pub(crate) fn expect(&self, due: Timestamp) {
        self.next.fetch_min(due.as_micros(), Ordering::Relaxed);
    }

    /// Whether less than this would be lost if the inbox were closed.
    pub(crate) fn is_below(&self, attachment: Attachment) -> bool {
        self.attachment.load(Ordering::Relaxed) < attachment as u8
    }

    /// Time at which the inbox has something to do.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let micros = self.next.load(Ordering::Relaxed);
        (micros != i64::MAX).then(|| Timestamp::from_micros(micros))
    }

    /// Counts what a committed batch did at the monotonic time `now`.
    pub(crate) fn note(&self, now: Duration, activity: Activity) {
        let mut seconds = lock(&self.seconds);
        let second = &mut seconds[now.as_secs() as usize % SECONDS];
        if second.second != now.as_secs() {
            *second = Second { second: now.as_secs(), ..Second::default() };
        }
        second.ingested = second.ingested.saturating_add(activity.accepted);
        second.delivered = second.delivered.saturating_add(activity.delivered);
    }

    /// Events ingested and delivered a second over the minute before `now`.
    pub(crate) fn per_second(&self, now: Duration) -> (f64, f64) {
        let seconds = lock(&self.seconds);
        let recent = seconds.iter().filter(|second| second.second + SECONDS as u64 > now.as_secs());
        let (ingested, delivered) = recent.fold((0, 0), |(ingested, delivered), second| {
            (ingested + u64::from(second.ingested), delivered + u64::from(second.delivered))
        });
        (ingested as f64 / SECONDS as f64, delivered as f64 / SECONDS as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_later_nothing_is_left() {
        let rates = InboxSignals::new();
        rates.note(Duration::from_secs(100), Activity { accepted: 120, ..Activity::default() });
        assert_eq!(rates.per_second(Duration::from_secs(159)), (2.0, 0.0));
        assert_eq!(rates.per_second(Duration::from_secs(160)), (0.0, 0.0));
    }
}
