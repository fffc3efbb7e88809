//! Watches the wall clock for steps, and derives from it the two times that a node goes by.
//!
//! ```text
//! monotonic clock ─┐
//!                  ├─▶ wall time: what was read, unless that is too far ahead to be believed
//! wall clock ──────┘   steady time: the wall time plus a lead, so that it does not step back
//! ```
//! Invariants: `STEP-1` steady time is never behind wall time, and a step of the wall clock never
//! sets it back; `STEP-2` a reading more than [`STEP_MAX`] ahead of steady time is not believed
//! before the clock has run evenly for [`BELIEVED_AFTER`]; until then both times run on with the
//! monotonic clock; `STEP-3` the lead shrinks by one part in [`SLEW`] of the time that passes, so
//! that a step back delays nothing by more than that part.

use super::clock::Clock;
use crate::Timestamp;
use crate::lock::lock;
use crate::planted::{Bug, is_planted};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A deviation from the monotonic clock from which on the wall clock has made a step.
const TOLERANCE: i64 = 1_000_000;
/// Furthest step that is believed at once. It leaves room for a machine that was suspended.
pub const STEP_MAX: Duration = Duration::from_secs(2 * 86_400);
/// Time after which a further step is believed.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(600);
/// Time between two reports that say that the clock is wrong.
const NEWS_INTERVAL: i64 = 60_000_000;
/// The lead loses a second in so many seconds, and at one look at most [`SLEW_MAX`].
const SLEW: i64 = 50;
const SLEW_MAX: i64 = 100_000;
/// No clock is right that shows an earlier time: 2025-01-01.
const EARLIEST: i64 = 1_735_689_600_000_000;

/// What the wall clock has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockReport {
    /// The sum of the steps since the last report, in milliseconds; none without a step.
    pub stepped_ms: Option<i64>,
    /// Time by which steady time is ahead of wall time.
    pub lead: Duration,
    /// Time by which the reading of the clock is ahead of what is believed.
    pub disbelieved: Duration,
    /// The value of [`super::Environment::is_clock_suspect`].
    pub is_suspect: bool,
    /// The clock is suspect or not believed, and no report in the last minute has said so.
    pub is_news: bool,
}

/// The state of the watch. Times are in microseconds.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Odd while the four values below change.
    version: AtomicU64,
    /// Wall clock minus monotonic clock.
    offset: AtomicI64,
    /// Wall time minus the wall clock: zero, or negative while the clock is not believed.
    wall: AtomicI64,
    /// Steady time minus the wall clock, at the last look.
    steady: AtomicI64,
    /// Monotonic time of the last look.
    looked_at: AtomicI64,
    watch: Mutex<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Monotonic time of the last look; none before the first.
    looked_at: Option<i64>,
    /// Monotonic time of the last step, or of the discovery that the clock had stepped before.
    stepped_at: Option<i64>,
    stepped_ms: Option<i64>,
    /// Monotonic time of the last report that said that the clock is wrong.
    told_at: Option<i64>,
}

/// Both times of one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) wall: Timestamp,
    pub(super) steady: Timestamp,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn reading(raw: i64, wall: i64, steady: i64) -> Reading {
    let steady = if is_planted(Bug::DueTimesFollowTheClock) { wall } else { steady };
    let time = |shift: i64| Timestamp::from_micros(raw.saturating_add(shift));
    Reading { wall: time(wall), steady: time(steady) }
}

/// Steady time minus the wall clock, so long after a look at which it was `steady`. The lead
/// shrinks evenly, so that steady time never steps back.
fn shrunk(wall: i64, steady: i64, elapsed: i64) -> i64 {
    steady - (steady - wall).min((elapsed / SLEW).clamp(0, SLEW_MAX))
}

impl Steps {
    /// Reads the clocks. Takes no lock unless the wall clock has stepped.
    pub(super) fn read(&self, clock: &dyn Clock) -> Reading {
        let (raw, monotonic) = (clock.now().as_micros(), micros(clock.monotonic()));
        let version = self.version.load(Ordering::Acquire);
        let offset = self.offset.load(Ordering::Acquire);
        let (wall, steady) =
            (self.wall.load(Ordering::Acquire), self.steady.load(Ordering::Acquire));
        let looked_at = self.looked_at.load(Ordering::Acquire);
        let is_whole = version.is_multiple_of(2) && self.version.load(Ordering::Acquire) == version;
        let step = raw.saturating_sub(monotonic).saturating_sub(offset);
        if version > 0 && is_whole && step.abs() < TOLERANCE {
            return reading(raw, wall, shrunk(wall, steady, monotonic - looked_at));
        }
        self.look(clock, &mut lock(&self.watch))
    }

    /// Compares the clocks, and follows or absorbs what the wall clock has done.
    fn look(&self, clock: &dyn Clock, watch: &mut Watch) -> Reading {
        let (raw, monotonic) = (clock.now().as_micros(), micros(clock.monotonic()));
        let offset = raw.saturating_sub(monotonic);
        let Some(looked_at) = watch.looked_at.replace(monotonic) else {
            self.publish(offset, 0, 0, monotonic);
            return reading(raw, 0, 0);
        };
        let (mut wall, mut steady) =
            (self.wall.load(Ordering::Relaxed), self.steady.load(Ordering::Relaxed));
        steady = shrunk(wall, steady, monotonic.saturating_sub(looked_at));
        let step = offset.saturating_sub(self.offset.load(Ordering::Relaxed));
        let is_step = step.abs() >= TOLERANCE;
        if is_step {
            // Both times run on as if there had been no step.
            (wall, steady) = (wall.saturating_sub(step), steady.saturating_sub(step));
            watch.stepped_at = Some(monotonic);
            *watch.stepped_ms.get_or_insert(0) += step / 1_000;
        }
        if is_step || wall != 0 {
            let ahead = steady.saturating_neg();
            if ahead <= micros(STEP_MAX) || !watch.is_recent(monotonic) {
                (wall, steady) = (0, steady.max(0));
            }
        }
        self.publish(offset, wall, steady, monotonic);
        reading(raw, wall, steady)
    }

    fn publish(&self, offset: i64, wall: i64, steady: i64, looked_at: i64) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.offset.store(offset, Ordering::Release);
        self.wall.store(wall, Ordering::Release);
        self.steady.store(steady, Ordering::Release);
        self.looked_at.store(looked_at, Ordering::Release);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Sets steady time forward to a time that was kept in the store. `is_start`: however far that
    /// is; else at most by [`STEP_MAX`].
    pub(super) fn advance(&self, clock: &dyn Clock, kept: Timestamp, is_start: bool) {
        let mut watch = lock(&self.watch);
        let reading = self.look(clock, &mut watch);
        let by = kept.as_micros().saturating_sub(reading.steady.as_micros());
        if by > 0 && (is_start || by <= micros(STEP_MAX)) {
            let offset = self.offset.load(Ordering::Relaxed);
            let (wall, steady) =
                (self.wall.load(Ordering::Relaxed), self.steady.load(Ordering::Relaxed) + by);
            self.publish(offset, wall, steady, self.looked_at.load(Ordering::Relaxed));
            if is_start && steady - wall > micros(STEP_MAX) {
                watch.stepped_at = watch.looked_at;
            }
        }
    }

    /// Counts the wall clock as stepped ahead from a time that other nodes live by (`STEP-2`).
    pub(super) fn disbelieve(&self, clock: &dyn Clock, kept: Timestamp) {
        let mut watch = lock(&self.watch);
        self.look(clock, &mut watch);
        let shift = kept.as_micros().saturating_sub(clock.now().as_micros());
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        self.publish(self.offset.load(Ordering::Relaxed), shift, shift, looked_at);
        watch.stepped_at = watch.looked_at;
    }

    /// Looks at the clocks and reports. A node does this with each heartbeat.
    pub(super) fn report(&self, clock: &dyn Clock) -> ClockReport {
        let mut watch = lock(&self.watch);
        let now = self.look(clock, &mut watch);
        let disbelieved = u64::try_from(self.wall.load(Ordering::Relaxed).saturating_neg());
        let disbelieved = Duration::from_micros(disbelieved.unwrap_or(0));
        let is_suspect = watch.is_suspect(now);
        let was_told =
            watch.told_at.zip(watch.looked_at).is_some_and(|(at, now)| now - at < NEWS_INTERVAL);
        let is_news = (is_suspect || !disbelieved.is_zero()) && !was_told;
        if is_news {
            watch.told_at = watch.looked_at;
        }
        let (stepped_ms, lead) = (watch.stepped_ms.take(), now.steady.since(now.wall));
        ClockReport { stepped_ms, lead, disbelieved, is_suspect, is_news }
    }

    /// The value of [`super::Environment::is_clock_suspect`].
    pub(super) fn is_suspect(&self, clock: &dyn Clock) -> bool {
        let lead = self.steady.load(Ordering::Acquire) - self.wall.load(Ordering::Acquire);
        lead > micros(STEP_MAX) && {
            let mut watch = lock(&self.watch);
            let now = self.look(clock, &mut watch);
            watch.is_suspect(now)
        }
    }
}

impl Watch {
    fn is_recent(&self, monotonic: i64) -> bool {
        self.stepped_at.is_some_and(|at| monotonic - at < micros(BELIEVED_AFTER))
    }

    fn is_suspect(&self, now: Reading) -> bool {
        let is_new = self.looked_at.is_some_and(|monotonic| self.is_recent(monotonic));
        now.steady.since(now.wall) > STEP_MAX && (is_new || now.wall.as_micros() < EARLIEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGIN: i64 = 1_800_000_000_000_000;
    const HOUR: i64 = 3_600_000_000;
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

    #[derive(Default)]
    struct Clocks {
        wall: AtomicI64,
        monotonic: AtomicI64,
    }

    impl Clocks {
        fn new() -> Self {
            Self { wall: BEGIN.into(), ..Self::default() }
        }

        fn step(&self, by: i64) {
            self.wall.fetch_add(by, Ordering::Relaxed);
        }

        fn pass(&self, by: i64) {
            self.step(by);
            self.monotonic.fetch_add(by, Ordering::Relaxed);
        }
    }

    impl Clock for Clocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.wall.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.monotonic.load(Ordering::Relaxed).cast_unsigned())
        }
    }

    fn times(steps: &Steps, clocks: &Clocks) -> (i64, i64) {
        let Reading { wall, steady } = steps.read(clocks);
        (wall.as_micros() - BEGIN, steady.as_micros() - BEGIN)
    }

    #[test]
    fn an_hour_back_changes_the_wall_time_alone_and_the_lead_shrinks() {
        let (steps, clocks) = (Steps::default(), Clocks::new());
        assert_eq!(times(&steps, &clocks), (0, 0));
        clocks.step(-HOUR);
        assert_eq!(times(&steps, &clocks), (-HOUR, 0));
        let report = steps.report(&clocks);
        assert_eq!(report.stepped_ms, Some(-3_600_000));
        assert_eq!((report.lead.as_secs(), report.is_suspect), (3_600, false));
        assert_eq!(steps.report(&clocks).stepped_ms, None, "a step is reported once");
        let heartbeats = |count: u32| {
            for _ in 0..count {
                clocks.pass(2_000_000);
                steps.report(&clocks);
            }
            steps.report(&clocks).lead
        };
        assert_eq!(heartbeats(25).as_secs(), 3_599, "STEP-3");
        assert_eq!(heartbeats(100_000), Duration::ZERO);
    }

    #[test]
    fn ten_years_ahead_are_not_believed_at_once_and_leave_no_trace() {
        let (steps, clocks) = (Steps::default(), Clocks::new());
        times(&steps, &clocks);
        clocks.step(TEN_YEARS);
        clocks.pass(300_000_000);
        assert_eq!(times(&steps, &clocks), (300_000_000, 300_000_000), "STEP-2");
        let report = steps.report(&clocks);
        assert_eq!((report.lead, report.is_suspect), (Duration::ZERO, false));
        assert!(report.disbelieved > STEP_MAX && report.is_news);
        assert!(!steps.report(&clocks).is_news);
        clocks.step(-TEN_YEARS);
        assert_eq!(times(&steps, &clocks), (300_000_000, 300_000_000));
        assert_eq!(steps.report(&clocks).disbelieved, Duration::ZERO);
    }

    #[test]
    fn a_far_step_that_lasts_is_believed() {
        let (steps, clocks) = (Steps::default(), Clocks::new());
        times(&steps, &clocks);
        clocks.step(TEN_YEARS);
        times(&steps, &clocks);
        clocks.pass(micros(BELIEVED_AFTER));
        steps.report(&clocks);
        assert_eq!(times(&steps, &clocks).0, TEN_YEARS + micros(BELIEVED_AFTER));
        // And back again: suspect until this has lasted as well.
        clocks.step(-TEN_YEARS);
        assert_eq!(times(&steps, &clocks).0, micros(BELIEVED_AFTER));
        assert!(steps.is_suspect(&clocks));
        clocks.pass(micros(BELIEVED_AFTER));
        assert!(!steps.is_suspect(&clocks));
    }

    #[test]
    fn a_clock_that_is_far_behind_is_suspect_until_it_is_right_again() {
        let (steps, clocks) = (Steps::default(), Clocks::new());
        clocks.step(-BEGIN);
        steps.advance(&clocks, Timestamp::from_micros(BEGIN), true);
        assert_eq!(times(&steps, &clocks), (-BEGIN, 0), "due times go on from what was kept");
        clocks.pass(2 * micros(BELIEVED_AFTER));
        assert!(steps.is_suspect(&clocks), "no clock is right that shows 1970");
        clocks.step(BEGIN);
        assert!(!steps.is_suspect(&clocks));
        let passed = 2 * micros(BELIEVED_AFTER);
        assert_eq!(times(&steps, &clocks), (passed, passed));
    }

    #[test]
    fn a_start_ten_years_ahead_of_the_others_is_not_believed() {
        let (steps, clocks) = (Steps::default(), Clocks::new());
        clocks.step(TEN_YEARS);
        steps.disbelieve(&clocks, Timestamp::from_micros(BEGIN));
        assert_eq!(times(&steps, &clocks), (0, 0));
        clocks.step(-TEN_YEARS);
        assert_eq!(times(&steps, &clocks), (0, 0));
    }

    #[test]
    fn a_running_node_does_not_follow_another_one_far() {
        let (steps, clocks) = (Steps::default(), Clocks::new());
        steps.advance(&clocks, Timestamp::from_micros(BEGIN + HOUR), false);
        assert_eq!(times(&steps, &clocks), (0, HOUR));
        steps.advance(&clocks, Timestamp::from_micros(BEGIN + TEN_YEARS), false);
        assert_eq!(times(&steps, &clocks), (0, HOUR));
    }

    proptest! {
        #[test]
        fn steady_time_never_steps_back_and_hardly_slows_down(
            moves in prop::collection::vec(
                (-TEN_YEARS..TEN_YEARS, 0..HOUR, prop::bool::ANY), 1..60,
            ),
        ) {
            let (steps, clocks) = (Steps::default(), Clocks::new());
            let mut before = times(&steps, &clocks).1;
            for (step, pass, is_far) in moves {
                clocks.step(if is_far { step } else { step % (2 * HOUR) });
                let steady = times(&steps, &clocks).1;
                prop_assert!(steady + TOLERANCE > before, "STEP-1");
                clocks.pass(pass);
                let (wall, steady) = times(&steps, &clocks);
                prop_assert!(steady >= wall, "STEP-1");
                let passed = steady - before + 2 * (TOLERANCE + SLEW_MAX);
                prop_assert!(passed >= pass - pass / SLEW, "STEP-3: {passed} of {pass}");
                before = steady;
            }
        }
    }
}
