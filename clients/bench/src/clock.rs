//! The load generator's clock: real monotonic time, because this program measures.
//!
//! Everything else in the load generator takes nanoseconds since the start, so that schedule, window and tally are plain
//! arithmetic. Invariant: `elapsed_ns` never goes back.
//!
//! A node never uses this; its clock is `protocol::Environment`.

use std::time::{Duration, Instant};

/// Nanoseconds since the load was started.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that shows zero.
    #[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the start, in nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The runtime's instant so many milliseconds from now.
    pub fn deadline(wait_ms: u64) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_millis(wait_ms)
    }
}
