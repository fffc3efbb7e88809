//! The schedule of the open loop: when each request is meant to be sent. It has no I/O and no
//! clock.
//!
//! Slot `i` is meant for `i × events per request / rate` after the start. This is computed from
//! `i`, so rounding does not add up. `Issuer` gets the time and says how many slots have come due
//! since the last call.
//!
//! - `SCHEDULE-1`: every slot is issued once, in order, never before its time.
//! - `SCHEDULE-2`: missed slots are issued late, never dropped, so the delay shows in their
//!   latency.

/// A fixed rate over a fixed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    interval_numerator_ns: u128,
    interval_denominator: u128,
    total: u64,
}

impl Schedule {
    /// Makes a schedule of `rate` events per second over `duration_ns`, where ten requests carry
    /// this many events.
    pub fn new(rate: u64, events_per_ten_requests: u64, duration_ns: u64) -> Self {
        let interval_numerator_ns = u128::from(events_per_ten_requests.max(1)) * 1_000_000_000;
        let interval_denominator = u128::from(rate.max(1)) * 10;
        let total =
            (u128::from(duration_ns) * interval_denominator).div_ceil(interval_numerator_ns);
        Self { interval_numerator_ns, interval_denominator, total: saturated(total) }
    }

    /// The intended time of slot `index`, in nanoseconds since the start.
    pub fn intended_ns(&self, index: u64) -> u64 {
        saturated(u128::from(index) * self.interval_numerator_ns / self.interval_denominator)
    }

    /// Number of slots that are meant for `now_ns` or earlier.
    pub fn due(&self, now_ns: u64) -> u64 {
        let after = (u128::from(now_ns) + 1) * self.interval_denominator;
        saturated(after.div_ceil(self.interval_numerator_ns)).min(self.total)
    }

    /// Number of slots in all.
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// The next step: release slots, then ask again after the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Slots are due, and the next one comes later.
    Release {
        /// Slots to release now; may be 0.
        slots: u64,
        /// Nanoseconds until the next slot.
        wait_ns: u64,
    },
    /// All slots have been released.
    Done,
}

/// Releases the slots of a schedule.
#[derive(Debug)]
pub struct Issuer {
    schedule: Schedule,
    issued: u64,
}

impl Issuer {
    /// Makes an issuer that has released no slot yet.
    pub fn new(schedule: Schedule) -> Self {
        Self { schedule, issued: 0 }
    }

    /// The step to take at `now_ns`.
    pub fn step(&mut self, now_ns: u64) -> Step {
        if self.issued >= self.schedule.total() {
            return Step::Done;
        }
        let due = self.schedule.due(now_ns).max(self.issued);
        let slots = due - self.issued;
        self.issued = due;
        Step::Release { slots, wait_ns: self.schedule.intended_ns(due).saturating_sub(now_ns) }
    }
}

fn saturated(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn slots_are_evenly_spaced() {
        let schedule = Schedule::new(1_000, 10, 2 * SECOND_NS);
        assert_eq!(schedule.total(), 2_000);
        assert_eq!(schedule.intended_ns(0), 0);
        assert_eq!(schedule.intended_ns(1), 1_000_000);
        assert_eq!(schedule.intended_ns(1_999), 1_999_000_000);
        assert_eq!(schedule.due(0), 1);
        assert_eq!(schedule.due(999_999), 1);
        assert_eq!(schedule.due(1_000_000), 2);
        assert_eq!(schedule.due(u64::MAX), 2_000);
    }

    #[test]
    fn a_batch_takes_as_many_slots_as_it_has_events() {
        let schedule = Schedule::new(10_000, 1_000, SECOND_NS);
        assert_eq!(schedule.total(), 100);
        assert_eq!(schedule.intended_ns(1), 10_000_000);
        assert_eq!(Schedule::new(2_600, 26, SECOND_NS).total(), 1_000);
    }

    #[test]
    fn rounding_does_not_drift() {
        let schedule = Schedule::new(7_777_777, 10, 3_600 * SECOND_NS);
        assert_eq!(schedule.intended_ns(7_777_777 * 3_599), 3_599 * SECOND_NS);
    }

    #[test]
    fn missed_slots_are_handed_out_late_and_not_dropped() {
        let mut issuer = Issuer::new(Schedule::new(10, 10, SECOND_NS));
        assert_eq!(issuer.step(0), Step::Release { slots: 1, wait_ns: 100_000_000 });
        assert_eq!(issuer.step(50_000_000), Step::Release { slots: 0, wait_ns: 50_000_000 });
        assert_eq!(issuer.step(730_000_000), Step::Release { slots: 7, wait_ns: 70_000_000 });
        assert_eq!(issuer.step(5 * SECOND_NS), Step::Release { slots: 2, wait_ns: 0 });
        assert_eq!(issuer.step(5 * SECOND_NS), Step::Done);
    }

    proptest! {
        #[test]
        fn every_slot_comes_once_and_never_early(
            rate in 1_u64..1_000_000,
            events in 1_u64..10_000,
            pauses in prop::collection::vec(0_u64..20_000_000, 1..200),
        ) {
            let schedule = Schedule::new(rate, events, SECOND_NS);
            let mut issuer = Issuer::new(schedule);
            let (mut now_ns, mut issued) = (0, 0);
            for pause in pauses {
                now_ns += pause;
                let Step::Release { slots, wait_ns } = issuer.step(now_ns) else { break };
                issued += slots;
                prop_assert!(issued == 0 || schedule.intended_ns(issued - 1) <= now_ns);
                prop_assert!(issued == schedule.total() || schedule.intended_ns(issued) > now_ns);
                prop_assert!(issued == schedule.total() || wait_ns > 0);
            }
            prop_assert!(issued <= schedule.total());
        }
    }
}
