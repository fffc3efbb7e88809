//! Time and randomness as values that are handed to constructors, so that a simulation can replace both.
//!
//! Measure with the monotonic clock, persist the wall clock. Ids, times and random bytes are taken from here
//! before a transaction's closure starts, so that a retry of the closure repeats them.
//! It is not a scheduler: waiting is tokio's, whose clock a simulation replaces by itself.

use crate::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump in both directions.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Where random bytes come from. In production they must be fit for secrets.
pub trait Random: Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// The clock and the random source of one node.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Environment {
    /// An environment over the given clock and random source.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random }
    }

    /// The operating system's clocks and random source.
    pub fn system() -> Self {
        Self::new(Arc::new(system::SystemClock::new()), Arc::new(system::SystemRandom))
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time since an arbitrary start of this process; never goes back.
    pub fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Fills `bytes` with random bytes fit for secrets.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }

    /// `N` random bytes fit for secrets.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number below `bound`, which must not be zero; the bias is below 2⁻³² for bounds under 2³².
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
    //! The one place of the product that reads the operating system's clocks and random source.
    #![expect(clippy::disallowed_methods, reason = "this module is what the ban points to")]

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

    /// Random bytes that the operating system has given this thread and nobody has had yet: a call of it for every id would cost
    /// more than all that is done with the id.
    struct Pool {
        bytes: [u8; POOL_BYTES],
        /// So many at the front are left.
        left: usize,
    }

    const POOL_BYTES: usize = 512;

    thread_local! {
        static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], left: 0 }) };
    }

    pub(super) struct SystemRandom;

    impl Random for SystemRandom {
        fn fill(&self, bytes: &mut [u8]) {
            if bytes.len() > POOL_BYTES / 8 {
                return fill_from_system(bytes);
            }
            POOL.with_borrow_mut(|pool| {
                if pool.left < bytes.len() {
                    fill_from_system(&mut pool.bytes);
                    pool.left = POOL_BYTES;
                }
                let rest = pool.left - bytes.len();
                let taken = &mut pool.bytes[rest..pool.left];
                bytes.copy_from_slice(taken);
                // What has become a secret stays nowhere else.
                taken.fill(0);
                pool.left = rest;
            });
        }
    }

    fn fill_from_system(bytes: &mut [u8]) {
        getrandom::fill(bytes).expect(
            "the operating system's random source is there: nothing secret can be made without",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_random_bytes_come_twice() {
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
