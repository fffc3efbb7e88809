//! Which fault comes next: one seeded stream of numbers for each kind, and counters of what has come.
//!
//! Invariant: `SIMULATED-FAULTS-1` every commit draws once from each commit stream, whatever the others say, so that the streams
//! stay in step when a probability changes. The numbers are splitmix64's: reproducible, and not fit for secrets.

use super::SimulatedOptions;
use std::time::Duration;

/// How often each kind of fault has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultsFired {
    /// Commits refused as conflicts without being one.
    pub conflicts: u64,
    /// Commits that took effect and were answered `MaybeCommitted`.
    pub unknown_committed: u64,
    /// Commits that took no effect and were answered `MaybeCommitted`.
    pub unknown_not_committed: u64,
    /// Commits answered `MaybeCommitted` before they were applied.
    pub late_answered: u64,
    /// Of those: applied since.
    pub late_applied: u64,
    /// Of those: refused since, for a conflict or their age.
    pub late_dropped: u64,
    /// Calls that took longer.
    pub stalls: u64,
    /// Calls refused, or left unknown, during an outage.
    pub outage_rejections: u64,
}

/// What happens to one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitFate {
    Normal,
    Conflict,
    UnknownCommitted,
    UnknownNotCommitted,
    Late(Duration),
}

/// All streams and counters.
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

    /// How long one way to the store takes.
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

    /// What happens to the next commit.
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

    /// Whether a commit during an outage is refused in so many words; left unknown otherwise.
    pub(super) fn is_rejected_in_outage(&mut self) -> bool {
        self.outage.hit(500)
    }
}

/// One sequence of numbers: a simulation has one for each kind of choice, so that they do not shift each other.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The sequence of a kind under a seed.
    pub fn new(seed: u64, kind: u64) -> Self {
        let mut stream = Self(seed ^ kind.wrapping_mul(0xd134_2543_de82_ef95));
        // Neighbouring seeds begin far apart.
        Self(stream.next())
    }

    /// The next number.
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

    /// The next one below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether the next one is among so many of a thousand.
    pub fn hit(&mut self, per_mille: u32) -> bool {
        self.below(1_000) < u64::from(per_mille)
    }
}
