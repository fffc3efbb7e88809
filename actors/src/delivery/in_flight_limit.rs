//! The in-flight limit of one subscription: adapts to how soon and how well its endpoint answers.
//! No I/O.
//!
//! | attempt | the limit |
//! |---|---|
//! | success in time | one more for each, until the first slow attempt; then one more a round |
//! | failure in time | one less |
//! | slow success | half, but not below [`SLOW_MIN`] |
//! | slow failure | half |
//!
//! It is additive increase and multiplicative decrease: D.-M. Chiu and R. Jain, "Analysis of the
//! increase and decrease algorithms for congestion avoidance in computer networks" (Computer
//! Networks and ISDN Systems 17, 1989), with the slow start of TCP (RFC 5681) and without growth
//! that is not used (RFC 2861). An endpoint that is overloaded by many requests at once thus gets
//! as many as it answers in time. The limit is in memory only, like the breaker.
//! Invariants: `IN-FLIGHT-1` the limit is at least 1 and at most `max_in_flight`; `IN-FLIGHT-2` an
//! endpoint that answers in time gets back to `max_in_flight` if it has so many webhooks;
//! `IN-FLIGHT-3` attempts that began before the limit was halved do not halve it again.

use std::time::Duration;
use triggers_store::tables::batch::EndpointHealth;

/// Limit of an endpoint that is not known yet.
const UNKNOWN: usize = 16;
/// Least limit of an endpoint whose attempts succeed, however slowly.
const SLOW_MIN: usize = 8;

/// What an attempt says about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MeasuredAttempt {
    /// Monotonic time at which it began.
    pub(crate) began: Duration,
    /// Time until the answer, or until the attempt failed.
    pub(crate) took: Duration,
    pub(crate) health: EndpointHealth,
}

/// The in-flight limit of one subscription.
#[derive(Debug)]
pub(crate) struct InFlightLimit {
    /// An attempt that takes longer is slow.
    slow_after: Duration,
    limit: usize,
    /// Every success adds one to a limit below.
    slow_start_below: usize,
    /// Successes in time since the limit changed.
    successes: usize,
    /// Attempts in time since the last slow one.
    in_time: usize,
    /// Monotonic time at which the limit was halved.
    halved_at: Duration,
    slow: Option<CountedSlow>,
}

impl InFlightLimit {
    pub(crate) fn new(slow_after: Duration) -> Self {
        Self {
            slow_after,
            limit: UNKNOWN,
            slow_start_below: usize::MAX,
            successes: 0,
            in_time: 0,
            halved_at: Duration::ZERO,
            slow: None,
        }
    }

    /// Attempts that may be in flight.
    pub(crate) fn get(&self) -> usize {
        self.limit
    }

    /// Notes an attempt that ended at the monotonic time `now`, when `running` were in flight.
    pub(crate) fn note(
        &mut self,
        attempt: MeasuredAttempt,
        running: usize,
        max_in_flight: usize,
        now: Duration,
    ) {
        let is_success = match attempt.health {
            EndpointHealth::Good | EndpointHealth::Alive => true,
            EndpointHealth::Bad => false,
            EndpointHealth::Unknown => return,
        };
        self.limit = self.limit.min(max_in_flight).max(1);
        if attempt.took > self.slow_after {
            self.in_time = 0;
            self.slow.get_or_insert_with(CountedSlow::new);
            let least = if is_success { SLOW_MIN } else { 1 };
            if attempt.began >= self.halved_at && self.limit > least {
                self.limit = (self.limit / 2).max(least);
                (self.slow_start_below, self.successes) = (self.limit, 0);
                self.halved_at = now;
            }
            return;
        }
        self.in_time += 1;
        if self.in_time >= self.limit {
            self.slow = None;
        }
        if !is_success {
            self.limit = (self.limit - 1).max(1);
        } else if running * 2 >= self.limit {
            self.successes += 1;
            if self.limit < self.slow_start_below || self.successes >= self.limit {
                self.limit = (self.limit + 1).min(max_in_flight.max(1));
                self.successes = 0;
            }
        }
    }
}

/// Counts a slow endpoint in the node's metrics while it exists.
#[derive(Debug)]
struct CountedSlow;

impl CountedSlow {
    fn new() -> Self {
        metrics::gauge!("triggers_webhook_endpoints_slow").increment(1.0);
        Self
    }
}

impl Drop for CountedSlow {
    fn drop(&mut self) {
        metrics::gauge!("triggers_webhook_endpoints_slow").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOW_AFTER: Duration = Duration::from_secs(5);
    const MAX: usize = 1_000;

    /// An endpoint whose attempts all take as long; it always has webhooks waiting.
    struct Endpoint {
        limit: InFlightLimit,
        now: Duration,
    }

    impl Endpoint {
        fn new() -> Self {
            Self { limit: InFlightLimit::new(SLOW_AFTER), now: Duration::ZERO }
        }

        /// A round of attempts: as many as may be in flight, which begin and end at once.
        fn round(&mut self, took: Duration, health: EndpointHealth) -> usize {
            let (began, running) = (self.now, self.limit.get());
            self.now += took;
            for left in 0..running {
                let attempt = MeasuredAttempt { began, took, health };
                self.limit.note(attempt, running - left, MAX, self.now);
            }
            self.limit.get()
        }
    }

    #[test]
    fn a_fast_endpoint_soon_gets_all_and_a_slow_one_keeps_a_few() {
        let mut endpoint = Endpoint::new();
        let rounds =
            (1..).find(|_| endpoint.round(Duration::from_millis(20), EndpointHealth::Good) == MAX);
        assert!(rounds <= Some(16), "{rounds:?}");
        let slow = Duration::from_secs(14);
        assert_eq!(endpoint.round(slow, EndpointHealth::Good), MAX / 2, "IN-FLIGHT-3");
        assert!(endpoint.limit.slow.is_some());
        for _ in 0..8 {
            endpoint.round(slow, EndpointHealth::Good);
        }
        assert_eq!(endpoint.limit.get(), SLOW_MIN);
        assert_eq!(endpoint.round(slow, EndpointHealth::Bad), SLOW_MIN / 2);
        for _ in 0..8 {
            endpoint.round(slow, EndpointHealth::Bad);
        }
        assert_eq!(endpoint.limit.get(), 1, "IN-FLIGHT-1");
        endpoint.round(Duration::from_millis(20), EndpointHealth::Good);
        assert!(endpoint.limit.slow.is_none());
        let back = (0..10_000)
            .find(|_| endpoint.round(Duration::from_millis(20), EndpointHealth::Good) == MAX);
        assert!(back.is_some(), "IN-FLIGHT-2");
    }

    #[test]
    fn an_overloaded_endpoint_gets_what_it_answers_in_time() {
        // It answers 20 requests a second, however many there are at once.
        let mut endpoint = Endpoint::new();
        let mut limits = Vec::new();
        for _ in 0..200 {
            let took = Duration::from_millis(50 * endpoint.limit.get() as u64);
            limits.push(endpoint.round(took, EndpointHealth::Good));
        }
        assert!(limits[20..].iter().all(|limit| (40..=101).contains(limit)), "{limits:?}");
    }

    #[test]
    fn few_failures_do_not_keep_the_limit_down_and_many_do() {
        let run = |failures_in_ten: u32| {
            let mut limit = InFlightLimit::new(SLOW_AFTER);
            for number in 0..10_000u32 {
                let is_bad = number % 10 < failures_in_ten;
                let health = if is_bad { EndpointHealth::Bad } else { EndpointHealth::Good };
                let attempt = MeasuredAttempt { began: Duration::ZERO, took: SLOW_AFTER, health };
                let running = limit.get();
                limit.note(attempt, running, 100, Duration::ZERO);
            }
            limit.get()
        };
        assert!(run(1) >= 90 && run(4) >= 90, "{} {}", run(1), run(4));
        assert!(run(6) <= 10, "{}", run(6));
    }

    proptest! {
        #[test]
        fn the_limit_keeps_its_bounds_and_recovers(
            max in 1usize..200,
            attempts in prop::collection::vec((0u64..20, 0usize..4, 0usize..300), 0..300),
        ) {
            const HEALTHS: [EndpointHealth; 4] = [
                EndpointHealth::Good, EndpointHealth::Alive, EndpointHealth::Bad,
                EndpointHealth::Unknown,
            ];
            let mut limit = InFlightLimit::new(SLOW_AFTER);
            let mut now = Duration::ZERO;
            for (took, health, running) in attempts {
                let (began, took) = (now, Duration::from_secs(took));
                now += took;
                let health = HEALTHS[health];
                limit.note(MeasuredAttempt { began, took, health }, running, max, now);
                let may_be = limit.get().min(max);
                prop_assert!((1..=max).contains(&may_be), "IN-FLIGHT-1");
            }
            let good = EndpointHealth::Good;
            let attempt = MeasuredAttempt { began: now, took: Duration::ZERO, health: good };
            for _ in 0..max * max + 1 {
                limit.note(attempt, max, max, now);
            }
            prop_assert_eq!(limit.get(), max, "IN-FLIGHT-2");
            prop_assert!(limit.slow.is_none());
        }
    }
}
