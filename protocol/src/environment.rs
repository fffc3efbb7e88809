//! `Environment`, the source of time and randomness, which a simulation can replace.
//!
//! Use the monotonic clock to measure durations, [`Environment::now`] for times that people read
//! and [`Environment::steady`] for times at which something is due. Read times and random bytes
//! before the closure of a transaction starts, so that a retry of the closure repeats them.
//!
//! The environment does not schedule: code waits with tokio timers, which a simulation controls
//! separately.

mod clock;
mod steps;

pub use clock::Clock;
pub use steps::{BELIEVED_AFTER, ClockReport, STEP_MAX};

use crate::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use steps::Steps;

/// A source of random bytes. In production they must be suitable for secrets.
pub trait Random: Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// The clock and the random source of one node.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn Clock>,
    steps: Arc<Steps>,
    random: Arc<dyn Random>,
}

impl Environment {
    /// Creates an environment from a clock and a random source.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, steps: Arc::default(), random }
    }

    /// Creates an environment from the operating system's clocks and random source.
    pub fn system() -> Self {
        Self::new(Arc::new(system::SystemClock::new()), Arc::new(system::SystemRandom))
    }

    /// The time of the wall clock, which may step in both directions. A step ahead by more than
    /// [`STEP_MAX`] is not followed before it has lasted for [`BELIEVED_AFTER`].
    pub fn now(&self) -> Timestamp {
        self.steps.read(&*self.clock).wall
    }

    /// The time by which due times are kept: the wall clock, or later after that was set back.
    pub fn steady(&self) -> Timestamp {
        self.steps.read(&*self.clock).steady
    }

    /// Sets [`Environment::steady`] forward to a steady time that a node has kept: when the node
    /// starts however far that is, later at most by [`STEP_MAX`].
    pub fn advance(&self, kept: Timestamp, is_start: bool) {
        self.steps.advance(&*self.clock, kept, is_start);
    }

    /// Takes the wall clock of a node that starts for wrong, because the other nodes live by the
    /// time `kept`, to which it is far ahead.
    pub fn disbelieve(&self, kept: Timestamp) {
        self.steps.disbelieve(&*self.clock, kept);
    }

    /// Whether the wall clock is probably wrong: it is behind the steady time by more than
    /// [`STEP_MAX`], and has been for less than [`BELIEVED_AFTER`] or shows a time before 2025.
    pub fn is_clock_suspect(&self) -> bool {
        self.steps.is_suspect(&*self.clock)
    }

    /// Reports what the wall clock has done since the last report.
    pub fn clock_report(&self) -> ClockReport {
        self.steps.report(&*self.clock)
    }

    /// Time since an arbitrary start; it never decreases.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Fills `bytes` with random bytes suitable for secrets.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }

    /// Returns `N` random bytes suitable for secrets.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number below `bound`, which must not be zero.
    ///
    /// The bias is below 2⁻³² for bounds under 2³².
    pub fn below(&self, bound: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % bound
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Environment")
    }
}

mod system {
    //! The only code of the product that reads the operating system's clocks and random source.
    #![expect(clippy::disallowed_methods, reason = "all other code must use Environment")]

    use super::{Clock, Random, Timestamp};
    use std::cell::RefCell;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    pub(super) struct SystemClock {
        started: Instant,
    }

    impl SystemClock {
        pub(super) fn new() -> Self {
            Self { started: Instant::now() }
        }
    }

    impl Clock for SystemClock {
        fn now(&self) -> Timestamp {
            let since_epoch =
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
        }

        fn monotonic(&self) -> Duration {
            self.started.elapsed()
        }
    }

    /// Unused random bytes of this thread. A system call for each id would cost more than the rest
    /// of the work on that id.
    struct RandomPool {
        bytes: [u8; POOL_BYTES],
        /// Number of unused bytes, at the front of `bytes`.
        unused: usize,
    }

    const POOL_BYTES: usize = 512;

    thread_local! {
        static POOL: RefCell<RandomPool> =
            const { RefCell::new(RandomPool { bytes: [0; POOL_BYTES], unused: 0 }) };
    }

    pub(super) struct SystemRandom;

    impl Random for SystemRandom {
        fn fill(&self, bytes: &mut [u8]) {
            if bytes.len() > POOL_BYTES / 8 {
                return fill_from_system(bytes);
            }
            POOL.with_borrow_mut(|pool| {
                if pool.unused < bytes.len() {
                    fill_from_system(&mut pool.bytes);
                    pool.unused = POOL_BYTES;
                }
                let unused = pool.unused - bytes.len();
                let used = &mut pool.bytes[unused..pool.unused];
                bytes.copy_from_slice(used);
                // The caller may use the bytes as a secret, so no copy stays here.
                used.fill(0);
                pool.unused = unused;
            });
        }
    }

    fn fill_from_system(bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system provides random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn random_bytes_never_repeat() {
        let draw = || {
            let environment = Environment::system();
            let short = (0..1_000).map(|_| environment.bytes::<16>().to_vec());
            let long = (0..10).map(|_| environment.bytes::<600>()[584..].to_vec());
            short.chain(long).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), all.iter().collect::<HashSet<_>>().len());
        assert!(!all.contains(&vec![0; 16]));
    }
}
