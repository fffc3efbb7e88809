//! Draws faults from one seeded random stream per kind, and counts them.
//!
//! Invariant: `SIMULATED-FAULTS-1`: every commit draws once from each commit stream, so that the
//! streams stay in step when a probability changes.
//!
//! The numbers are splitmix64's: reproducible, and unfit for secrets.

use super::SimulatedOptions;
use std::time::Duration;

/// Number of faults so far, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultsFired {
    /// Commits that were rejected with a false conflict.
    pub conflicts: u64,
    /// Commits that took effect and returned `MaybeCommitted`.
    pub unknown_committed: u64,
    /// Commits that took no effect and returned `MaybeCommitted`.
    pub unknown_not_committed: u64,
    /// Commits that returned `MaybeCommitted` before they were applied.
    pub late_answered: u64,
    /// Late commits that were applied.
    pub late_applied: u64,
    /// Late commits that were dropped because of a conflict or their age.
    pub late_dropped: u64,
    /// Calls that were stalled.
    pub stalls: u64,
    /// Calls that an outage rejected or left unknown.
    pub outage_rejections: u64,
}

/// The fate of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitFate {
    Normal,
    Conflict,
    UnknownCommitted,
    UnknownNotCommitted,
    Late(Duration),
}

/// All random streams and counters.
#[derive(Debug)]
pub(super) struct FaultStreams {
    pub(super) fired: FaultsFired,
    latency: Stream,
    stall: Stream,
    conflict: Stream,
    unknown_committed: Stream,
    unknown_not_committed: Stream,
    late: Stream,
    outage: Stream,
}

impl FaultStreams {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |kind| Stream::new(seed, kind);
        Self {
            fired: FaultsFired::default(),
            latency: stream(1),
            stall: stream(2),
            conflict: stream(3),
            unknown_committed: stream(4),
            unknown_not_committed: stream(5),
            late: stream(6),
            outage: stream(7),
        }
    }

    /// Draws the latency of one direction.
    pub(super) fn delay(&mut self, options: &SimulatedOptions) -> Duration {
        let spread_us = options.latency_us_max.saturating_sub(options.latency_us_min);
        let latency_us = options.latency_us_min + self.latency.below(spread_us + 1);
        let mut delay = Duration::from_micros(latency_us);
        if self.stall.hit(options.stall_per_mille) {
            self.fired.stalls += 1;
            delay += Duration::from_millis(options.stall_ms);
        }
        delay
    }

    /// Draws the fate of the next commit.
    pub(super) fn fate(&mut self, options: &SimulatedOptions) -> CommitFate {
        let conflict = self.conflict.hit(options.conflict_per_mille);
        let committed = self.unknown_committed.hit(options.unknown_committed_per_mille);
        let not_committed = self.unknown_not_committed.hit(options.unknown_not_committed_per_mille);
        let late = self.late.hit(options.late_commit_per_mille);
        let late_us = 1 + self.late.below(options.late_commit_ms_max.max(1) * 1_000);
        if conflict {
            CommitFate::Conflict
        } else if committed {
            CommitFate::UnknownCommitted
        } else if not_committed {
            CommitFate::UnknownNotCommitted
        } else if late {
            CommitFate::Late(Duration::from_micros(late_us))
        } else {
            CommitFate::Normal
        }
    }

    /// Draws whether a commit during an outage is rejected; otherwise its outcome is unknown.
    pub(super) fn is_rejected_in_outage(&mut self) -> bool {
        self.outage.hit(500)
    }
}

/// A sequence of random numbers; one per kind of choice, so that choices stay independent.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The sequence of a kind under a seed.
    pub fn new(seed: u64, kind: u64) -> Self {
        let mut stream = Self(seed ^ kind.wrapping_mul(0xd134_2543_de82_ef95));
        // Spreads neighbouring seeds.
        Self(stream.next())
    }

    /// Draws the next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "a sequence without an end is no iterator to loop over"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Draws true with a probability of `per_mille` in a thousand.
    pub fn hit(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }
}
