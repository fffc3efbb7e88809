//! How often something may be restarted: at most so many times within a window.
//!
//! Invariant: `RESTART-1` more than `restarts_max` failures within `window` are never allowed to restart; failures older
//! than the window are forgotten.

use std::collections::VecDeque;
use std::time::Duration;

/// Counts the restarts of one child.
#[derive(Debug, Clone)]
pub(crate) struct RestartIntensity {
    restarts_max: usize,
    window: Duration,
    failures: VecDeque<Duration>,
}

impl RestartIntensity {
    pub(crate) fn new(restarts_max: usize, window: Duration) -> Self {
        Self { restarts_max, window, failures: VecDeque::new() }
    }

    /// Notes a failure at the monotonic time `now`; whether a restart is still allowed.
    pub(crate) fn note_failure(&mut self, now: Duration) -> bool {
        self.forget_old(now);
        self.failures.push_back(now);
        if self.failures.len() > self.restarts_max + 1 {
            self.failures.pop_front();
        }
        self.allows(now)
    }

    /// Whether a start is allowed at the monotonic time `now`.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        self.forget_old(now);
        self.failures.len() <= self.restarts_max
    }

    /// Whether nothing is remembered any more.
    pub(crate) fn is_calm(&mut self, now: Duration) -> bool {
        self.forget_old(now);
        self.failures.is_empty()
    }

    fn forget_old(&mut self, now: Duration) {
        while self.failures.front().is_some_and(|&failure| failure + self.window <= now) {
            self.failures.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let mut intensity = RestartIntensity::new(2, Duration::from_secs(10));
        let at = Duration::from_secs;
        assert!(intensity.note_failure(at(0)) && intensity.note_failure(at(1)));
        assert!(!intensity.note_failure(at(2)) && !intensity.allows(at(9)));
        assert!(intensity.allows(at(10)));
        assert!(intensity.is_calm(at(12)));
    }
}
