//! A host's clocks and random source.
//!
//! Invariants: `SIM-CLOCK-1` the monotonic clock goes on with the host's runtime, and jumps when a frozen host goes on;
//! `SIM-CLOCK-2` the wall clock is that plus the host's skew, which faults change in both directions.

use crate::determinism::EPOCH_MS;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::environment::{Clock, Random};
use triggers_protocol::{Environment, Timestamp};
use triggers_store::kv::simulated::Stream;

struct HostClock {
    /// When the process began.
    started: Duration,
    base: OnceLock<Instant>,
    skew_ms: Arc<AtomicI64>,
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let elapsed_ms = i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(
            EPOCH_MS.cast_signed() + elapsed_ms + self.skew_ms.load(Ordering::SeqCst),
        )
    }

    fn monotonic(&self) -> Duration {
        let now = Instant::now();
        self.started + now.saturating_duration_since(*self.base.get_or_init(|| now))
    }
}

struct HostRandom(Mutex<Stream>);

impl Random for HostRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&stream.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The environment of a process that begins at `started`. It must be used in the process's runtime first.
pub fn environment(started: Duration, skew_ms: Arc<AtomicI64>, random: Stream) -> Environment {
    let clock = HostClock { started, base: OnceLock::new(), skew_ms };
    Environment::new(Arc::new(clock), Arc::new(HostRandom(Mutex::new(random))))
}
