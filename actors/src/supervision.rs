//! Bounds how often a supervisor restarts a child.
//!
//! Invariant: `RESTART-1` a child is not restarted after more than `restarts_max` failures within
//! `window`; older failures are forgotten.

use std::collections::VecDeque;
use std::time::Duration;

/// Counts the recent failures of one child. Times are monotonic.
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

    /// Notes a failure at `now`; true if a restart is allowed.
    pub(crate) fn note_failure(&mut self, now: Duration) -> bool {
        self.forget_old(now);
        self.failures.push_back(now);
        if self.failures.len() > self.restarts_max + 1 {
            self.failures.pop_front();
        }
        self.allows(now)
    }

    /// True if a start is allowed at `now`.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        self.forget_old(now);
        self.failures.len() <= self.restarts_max
    }

    /// True if no failure lies within the window.
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
        assert!(!intensity.note_failure(at(2)) && !intensity.allows(at(9)), "RESTART-1");
        assert!(intensity.allows(at(10)));
        assert!(intensity.is_calm(at(12)));
    }
}
