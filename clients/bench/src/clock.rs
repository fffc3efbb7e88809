//! The clock of the load generator: real monotonic time, because this program measures.
//!
//! Everything else in the load generator works on nanoseconds since the start. `elapsed_ns` never
//! goes back.

use std::time::{Duration, Instant};

/// Measures nanoseconds since the load was started.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the clock at zero.
    #[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the start, in nanoseconds.
    pub fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The runtime's instant that is this many milliseconds from now.
    pub fn deadline(wait_ms: u64) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_millis(wait_ms)
    }
}
