//! The circuit breaker of one subscription: pauses deliveries to an endpoint that keeps failing.
//!
//! ```text
//! closed ── consecutive failures ──▶ open ── pause is over ──▶ half open
//! half open ── one attempt ──▶ closed, or open for twice as long
//! ```
//! Waiting webhooks lose no attempt by a pause. The breaker is in memory only, so a node that
//! starts finds out about the endpoint again.
//! Invariants: `BREAKER-1` an open breaker lets nothing pass, a half open one a single webhook at a
//! time; `BREAKER-2` no pause is longer than `pause_max`, so a recovered endpoint is noticed;
//! `BREAKER-3` any answer that shows the endpoint alive closes the breaker.

use std::time::Duration;
use triggers_store::tables::batch::EndpointHealth;

/// The limits of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakerLimits {
    /// Consecutive failures that open the breaker.
    pub(crate) failures_max: u32,
    /// Length of the first pause.
    pub(crate) pause_min: Duration,
    /// Length of the longest pause.
    pub(crate) pause_max: Duration,
}

/// The breaker of one subscription. Times are monotonic.
#[derive(Debug)]
pub(crate) struct Breaker {
    limits: BreakerLimits,
    failures: u32,
    /// Length of the present or the last pause; none while the breaker is closed.
    pause: Option<Duration>,
    /// Time at which the present pause ends.
    open_until: Duration,
}

impl Breaker {
    pub(crate) fn new(limits: BreakerLimits) -> Self {
        Self { limits, failures: 0, pause: None, open_until: Duration::ZERO }
    }

    /// Webhooks that may be in flight at `now`.
    pub(crate) fn room(&self, now: Duration) -> usize {
        match self.pause {
            _ if now < self.open_until => 0,
            Some(_) => 1,
            None => usize::MAX,
        }
    }

    /// True if the breaker is neither open nor half open.
    pub(crate) fn is_closed(&self) -> bool {
        self.pause.is_none()
    }

    /// Time at which the pause ends; none if there is no pause at `now`.
    pub(crate) fn opens_at(&self, now: Duration) -> Option<Duration> {
        (now < self.open_until).then_some(self.open_until)
    }

    /// Notes that an attempt ended at `now`; true if this opened the breaker.
    pub(crate) fn note(&mut self, health: EndpointHealth, now: Duration) -> bool {
        match health {
            EndpointHealth::Good | EndpointHealth::Alive => (self.failures, self.pause) = (0, None),
            EndpointHealth::Bad => {
                self.failures = self.failures.saturating_add(1);
                // Attempts that were in flight when the breaker opened do not prolong the pause.
                if self.failures >= self.limits.failures_max && now >= self.open_until {
                    let pause = self
                        .pause
                        .map_or(self.limits.pause_min, |last| last * 2)
                        .min(self.limits.pause_max);
                    (self.pause, self.open_until) = (Some(pause), now + pause);
                    return true;
                }
            }
            EndpointHealth::Unknown => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: BreakerLimits = BreakerLimits {
        failures_max: 3,
        pause_min: Duration::from_secs(1),
        pause_max: Duration::from_secs(5),
    };

    const HEALTHS: [EndpointHealth; 4] =
        [EndpointHealth::Good, EndpointHealth::Alive, EndpointHealth::Bad, EndpointHealth::Unknown];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn consecutive_failures_open_it_and_one_attempt_closes_it() {
        let mut breaker = Breaker::new(LIMITS);
        assert!(
            !breaker.note(EndpointHealth::Bad, at(10))
                && !breaker.note(EndpointHealth::Bad, at(10))
        );
        breaker.note(EndpointHealth::Alive, at(10));
        assert!(
            !breaker.note(EndpointHealth::Bad, at(10))
                && !breaker.note(EndpointHealth::Bad, at(10)),
            "the failures were not consecutive"
        );
        assert!(breaker.note(EndpointHealth::Bad, at(10)));
        assert_eq!(
            (breaker.room(at(10)), breaker.opens_at(at(10)), breaker.room(at(11))),
            (0, Some(at(11)), 1)
        );
        for (now, pause) in [(11, 2), (13, 4), (17, 5), (22, 5)] {
            assert!(breaker.note(EndpointHealth::Bad, at(now)));
            assert_eq!(breaker.opens_at(at(now)), Some(at(now + pause)), "BREAKER-2");
            assert!(
                !breaker.note(EndpointHealth::Bad, at(now)),
                "an attempt that was in flight changes nothing"
            );
        }
        breaker.note(EndpointHealth::Good, at(27));
        assert_eq!(breaker.room(at(27)), usize::MAX, "BREAKER-3");
    }

    proptest! {
        #[test]
        fn a_pause_always_ends(steps in prop::collection::vec((0u8..4, 0u64..10), 0..60)) {
            let mut breaker = Breaker::new(LIMITS);
            let mut now = at(0);
            for (kind, wait) in steps {
                now += at(wait);
                let health = HEALTHS[usize::from(kind)];
                breaker.note(health, now);
                let opens_at = breaker.opens_at(now);
                prop_assert!(opens_at.is_none_or(|then| then <= now + LIMITS.pause_max));
                prop_assert!(breaker.room(now + LIMITS.pause_max) > 0);
            }
        }
    }
}
