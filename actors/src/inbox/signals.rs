//! What an open inbox lets others see without asking it: its rates, when it has something to do, and that it has changed.
//!
//! Invariants: `SIGNALS-1` the rates have sixty slots of one second each; a slot is emptied before it is used for another
//! second; `SIGNALS-2` the time of the next thing to do is as of the last commit, so that a partition that closes an inbox
//! knows when to open it again, and "at once" while nothing is known; `SIGNALS-3` an inbox with webhooks on their way shows
//! that it is busy, and is not closed. The rates are a measurement of this node since the inbox was opened, not a durable count.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use triggers_protocol::Timestamp;
use triggers_store::tables::batch::Outcome;

const SECONDS: usize = 60;

/// What an inbox shows.
#[derive(Debug)]
pub(crate) struct InboxSignals {
    slots: Mutex<[Slot; SECONDS]>,
    /// Microseconds since the epoch; the largest number if there is nothing to do.
    next: AtomicI64,
    attachment: AtomicU8,
    /// Told of every commit after which there may be more for consumers.
    pub(crate) committed: Notify,
}

/// What would be lost if an inbox were closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Attachment {
    /// Nothing.
    Free,
    /// What it has learned of endpoints, or its place in a queue.
    Attached,
    /// Webhooks that are on their way.
    Busy,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    ingested: u32,
    delivered: u32,
}

impl InboxSignals {
    pub(crate) fn new() -> Self {
        Self {
            slots: Mutex::new([Slot::default(); SECONDS]),
            next: AtomicI64::new(0),
            attachment: AtomicU8::new(Attachment::Free as u8),
            committed: Notify::new(),
        }
    }

    /// Notes when there is something to do, and what would be lost with the inbox.
    pub(crate) fn set_next(&self, next: Option<Timestamp>, attachment: Attachment) {
        self.next.store(next.map_or(i64::MAX, Timestamp::as_micros), Ordering::Relaxed);
        self.attachment.store(attachment as u8, Ordering::Relaxed);
    }

    /// A commit has made something due, of which the inbox itself has not heard yet.
    pub(crate) fn expect(&self, due: Timestamp) {
        self.next.fetch_min(due.as_micros(), Ordering::Relaxed);
    }

    /// Whether less than this would be lost if the inbox were closed.
    pub(crate) fn is_below(&self, attachment: Attachment) -> bool {
        self.attachment.load(Ordering::Relaxed) < attachment as u8
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let micros = self.next.load(Ordering::Relaxed);
        (micros != i64::MAX).then(|| Timestamp::from_micros(micros))
    }

    /// Counts the outcomes of a committed batch at the monotonic time `now`.
    pub(crate) fn note(&self, now: Duration, outcomes: &[Outcome]) {
        let count = |wanted: fn(&Outcome) -> bool| {
            u32::try_from(outcomes.iter().filter(|outcome| wanted(outcome)).count())
                .unwrap_or(u32::MAX)
        };
        let ingested = count(|outcome| matches!(outcome, Outcome::Appended(_)));
        let delivered = count(|outcome| match outcome {
            Outcome::Acknowledged(_) => true,
            Outcome::Settled(settled) => settled.is_delivered,
            _ => false,
        });
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[now.as_secs() as usize % SECONDS];
        if slot.second != now.as_secs() {
            *slot = Slot { second: now.as_secs(), ..Slot::default() };
        }
        slot.ingested = slot.ingested.saturating_add(ingested);
        slot.delivered = slot.delivered.saturating_add(delivered);
    }

    /// Events ingested and delivered a second over the minute before `now`.
    pub(crate) fn per_second(&self, now: Duration) -> (f64, f64) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = slots.iter().filter(|slot| slot.second + SECONDS as u64 > now.as_secs());
        let (ingested, delivered) = recent.fold((0, 0), |(ingested, delivered), slot| {
            (ingested + u64::from(slot.ingested), delivered + u64::from(slot.delivered))
        });
        (ingested as f64 / SECONDS as f64, delivered as f64 / SECONDS as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::EventId;

    #[test]
    fn a_minute_later_nothing_is_left() {
        let rates = InboxSignals::new();
        rates.note(Duration::from_secs(100), &vec![Outcome::Appended(EventId::ZERO); 120]);
        assert_eq!(rates.per_second(Duration::from_secs(159)), (2.0, 0.0));
        assert_eq!(rates.per_second(Duration::from_secs(160)), (0.0, 0.0));
    }
}
