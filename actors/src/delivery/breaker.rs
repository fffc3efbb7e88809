//! The circuit breaker of one subscription: an endpoint that fails again and again is left alone for a while, and then
//! tried with a single webhook.
//!
//! ```text
//! closed ── failures in a row ──▶ open ── the pause is over ──▶ half open ── one attempt ──▶ closed, or open for twice as long
//! ```
//! Invariants: `BREAKER-1` while it is open nothing is sent, and while it is half open one webhook at a time; `BREAKER-2` a
//! pause is never longer than the longest, so that an endpoint that is back is found; `BREAKER-3` any answer that shows
//! life closes it. Webhooks that wait lose no attempt by it. It is in memory only: a node that starts finds out again.

use std::time::Duration;
use triggers_store::tables::batch::EndpointHealth;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakerLimits {
    /// Failures in a row that open it.
    pub(crate) failures_max: u32,
    /// The first pause.
    pub(crate) pause_min: Duration,
    /// The longest one.
    pub(crate) pause_max: Duration,
}

/// One breaker. Times are monotonic.
#[derive(Debug)]
pub(crate) struct Breaker {
    limits: BreakerLimits,
    failures: u32,
    /// How long the present or the last pause was; none while it is closed.
    pause: Option<Duration>,
    /// Nothing is sent before.
    closed_until: Duration,
}

impl Breaker {
    pub(crate) fn new(limits: BreakerLimits) -> Self {
        Self { limits, failures: 0, pause: None, closed_until: Duration::ZERO }
    }

    /// How many webhooks may be on their way at `now`.
    pub(crate) fn room(&self, now: Duration) -> usize {
        match self.pause {
            _ if now < self.closed_until => 0,
            Some(_) => 1,
            None => usize::MAX,
        }
    }

    /// Whether it is neither open nor half open.
    pub(crate) fn is_closed(&self) -> bool {
        self.pause.is_none()
    }

    /// When there is room again, if there is none at `now`.
    pub(crate) fn opens_at(&self, now: Duration) -> Option<Duration> {
        (now < self.closed_until).then_some(self.closed_until)
    }

    /// An attempt has ended at `now`; whether this opened the breaker.
    pub(crate) fn note(&mut self, health: EndpointHealth, now: Duration) -> bool {
        match health {
            EndpointHealth::Good | EndpointHealth::Alive => (self.failures, self.pause) = (0, None),
            EndpointHealth::Bad => {
                self.failures = self.failures.saturating_add(1);
                // What was on its way when it opened tells nothing new.
                if self.failures >= self.limits.failures_max && now >= self.closed_until {
                    let pause = self
                        .pause
                        .map_or(self.limits.pause_min, |last| last * 2)
                        .min(self.limits.pause_max);
                    (self.pause, self.closed_until) = (Some(pause), now + pause);
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

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_attempt_closes_it() {
        let mut breaker = Breaker::new(LIMITS);
        assert!(
            !breaker.note(EndpointHealth::Bad, at(10))
                && !breaker.note(EndpointHealth::Bad, at(10))
        );
        breaker.note(EndpointHealth::Alive, at(10));
        assert!(
            !breaker.note(EndpointHealth::Bad, at(10))
                && !breaker.note(EndpointHealth::Bad, at(10)),
            "they were not in a row"
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
                "one that was on its way tells nothing new"
            );
        }
        breaker.note(EndpointHealth::Good, at(27));
        assert_eq!(breaker.room(at(27)), usize::MAX, "BREAKER-3");
    }

    proptest! {
        #[test]
        fn it_never_stays_shut(steps in prop::collection::vec((0u8..4, 0u64..10), 0..60)) {
            let mut breaker = Breaker::new(LIMITS);
            let mut now = at(0);
            for (kind, wait) in steps {
                now += at(wait);
                let health = [EndpointHealth::Good, EndpointHealth::Alive, EndpointHealth::Bad, EndpointHealth::Unknown][usize::from(kind)];
                breaker.note(health, now);
                prop_assert!(breaker.opens_at(now).is_none_or(|then| then <= now + LIMITS.pause_max));
                prop_assert!(breaker.room(now + LIMITS.pause_max) > 0);
            }
        }
    }
}
