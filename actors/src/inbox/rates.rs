//! How many events a tenant took in and had acknowledged over the last minute.
//!
//! Invariant: `RATES-1` sixty slots of one second each; a slot is emptied before it is used for another second.
//! It is a measurement of this node since the inbox was opened, not a durable count.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use triggers_store::tables::batch::Outcome;

const SECONDS: usize = 60;

/// The last minute of one inbox.
#[derive(Debug)]
pub(crate) struct Rates(Mutex<[Slot; SECONDS]>);

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    ingested: u32,
    delivered: u32,
}

impl Rates {
    pub(crate) fn new() -> Self {
        Self(Mutex::new([Slot::default(); SECONDS]))
    }

    /// Counts the outcomes of a committed batch at the monotonic time `now`.
    pub(crate) fn note(&self, now: Duration, outcomes: &[Outcome]) {
        let count = |wanted: fn(&Outcome) -> bool| {
            u32::try_from(outcomes.iter().filter(|outcome| wanted(outcome)).count()).unwrap_or(u32::MAX)
        };
        let ingested = count(|outcome| matches!(outcome, Outcome::Appended(_)));
        let delivered = count(|outcome| matches!(outcome, Outcome::Acknowledged(_)));
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[now.as_secs() as usize % SECONDS];
        if slot.second != now.as_secs() {
            *slot = Slot { second: now.as_secs(), ..Slot::default() };
        }
        slot.ingested = slot.ingested.saturating_add(ingested);
        slot.delivered = slot.delivered.saturating_add(delivered);
    }

    /// Events ingested and delivered a second over the minute before `now`.
    pub(crate) fn per_second(&self, now: Duration) -> (f64, f64) {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let rates = Rates::new();
        rates.note(Duration::from_secs(100), &vec![Outcome::Appended(EventId::ZERO); 120]);
        assert_eq!(rates.per_second(Duration::from_secs(159)), (2.0, 0.0));
        assert_eq!(rates.per_second(Duration::from_secs(160)), (0.0, 0.0));
    }
}
