//! The simulated engine: a multi-version store in memory with seeded faults, for tests.
//!
//! ```text
//! SimulatedEngine ── clone ──▶ another handle on the same data, for a node that restarts
//!      └─ handle: clock of its runtime ──▶ SimulatedStore: versions, late commits, faults, outage
//! ```
//! Invariants:
//! - `SIMULATED-1`: one seed and one schedule of calls give one trace of results. Each kind of
//!   fault has a random stream of its own, so that changing one probability does not shift the
//!   others.
//! - `SIMULATED-2`: conflicts are found by version, as in FoundationDB.
//! - `SIMULATED-3`: a late commit is checked when it is applied, not when it is sent.
//! - `OBSERVER-1`: an observer sees each commit that takes effect once, in order.
//! - `OBSERVER-2`: observing changes nothing and draws no random numbers.
//!
//! The engine has no threads or tasks: the next call applies late commits that are due. Time is
//! tokio's. The clocks of two runtimes are not comparable, so each runtime needs a clone of its
//! own.

mod faults;
mod store;
mod transaction;
mod versions;

pub use faults::{FaultsFired, Stream};

use super::transaction::OverlayTransaction;
use super::{BoxFuture, Engine, Fault, StoreError, Transaction};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use store::SimulatedStore;
use tokio::time::Instant;
use transaction::SimulatedTransaction;
use triggers_protocol::lock::lock;
use versions::Versions;

/// Latency and fault probabilities, in per mille of the affected calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimulatedOptions {
    /// Seed of all random streams. Used only when the engine is created.
    pub seed: u64,
    /// Minimum latency of a call in each direction, in microseconds.
    pub latency_us_min: u64,
    /// Maximum latency of a call in each direction, in microseconds.
    pub latency_us_max: u64,
    /// Commits that are rejected with a false conflict.
    pub conflict_per_mille: u32,
    /// Commits that take effect and return `MaybeCommitted`.
    pub unknown_committed_per_mille: u32,
    /// Commits that take no effect and return `MaybeCommitted`.
    pub unknown_not_committed_per_mille: u32,
    /// Commits that return `MaybeCommitted` at once and are applied later, unless they conflict.
    pub late_commit_per_mille: u32,
    /// Maximum delay of such a commit, in milliseconds.
    pub late_commit_ms_max: u64,
    /// Calls that take `stall_ms` longer.
    pub stall_per_mille: u32,
    /// Length of a stall in milliseconds.
    pub stall_ms: u64,
}

impl SimulatedOptions {
    /// Options without latency and faults.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// The simulated engine. A clone shares the data; its first user's runtime gives it the time.
pub struct SimulatedEngine {
    handle: Arc<SimulatedHandle>,
}

/// Access of one runtime to the shared store.
struct SimulatedHandle {
    state: Arc<Mutex<SimulatedStore>>,
    /// Name of the writer, for the observer.
    name: Arc<str>,
    /// An instant of this runtime's clock, and the store's time at that instant.
    anchor: OnceLock<(Instant, Duration)>,
}

impl SimulatedEngine {
    /// Makes an empty store.
    pub fn new(options: SimulatedOptions) -> Self {
        Self::on(Arc::new(Mutex::new(SimulatedStore::new(options))), "".into())
    }

    /// Makes another handle on the same data; the observer sees its commits under `name`.
    pub fn named(&self, name: &str) -> Self {
        Self::on(self.handle.state.clone(), name.into())
    }

    /// Installs the observer of all commits.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        self.handle.peek().observer = Some(observer);
    }

    /// Returns all pairs of the newest version, in key order.
    pub fn dump(&self) -> Vec<(Bytes, Bytes)> {
        self.handle.peek().dump()
    }

    /// Replaces all options but the seed.
    pub fn set_options(&self, options: SimulatedOptions) {
        self.handle.peek().options = options;
    }

    /// Returns the current options.
    pub fn options(&self) -> SimulatedOptions {
        self.handle.peek().options
    }

    /// Begins or ends an outage, in which reads fail and commits fail or stay unknown.
    pub fn set_outage(&self, is_out: bool) {
        self.handle.peek().is_out = is_out;
    }

    /// Number of faults so far, by kind.
    pub fn faults_fired(&self) -> FaultsFired {
        self.handle.peek().faults.fired
    }

    fn on(state: Arc<Mutex<SimulatedStore>>, name: Arc<str>) -> Self {
        let handle = Arc::new(SimulatedHandle { state, name, anchor: OnceLock::new() });
        Self { handle }
    }
}

impl Clone for SimulatedEngine {
    fn clone(&self) -> Self {
        Self::on(self.handle.state.clone(), self.handle.name.clone())
    }
}

impl Engine for SimulatedEngine {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async move {
            self.handle.travel().await;
            let opened = self.handle.now().begin()?;
            Ok(OverlayTransaction::boxed(SimulatedTransaction::new(self.handle.clone(), opened)))
        })
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.handle.peek().is_out {
            return Err(StoreError::fatal(Fault::Stopped, "simulated outage"));
        }
        Ok(())
    }
}

impl SimulatedHandle {
    /// The store, without advancing its time.
    fn peek(&self) -> MutexGuard<'_, SimulatedStore> {
        lock(&self.state)
    }

    /// The store at the present time: everything that was due has happened.
    fn now(&self) -> MutexGuard<'_, SimulatedStore> {
        let mut state = self.peek();
        let (instant, at) = self.anchor.get_or_init(|| (Instant::now(), state.now));
        let now = *at + instant.elapsed();
        state.advance(now);
        state
    }

    /// Waits for the latency of one direction.
    async fn travel(&self) {
        let delay = {
            let mut state = self.peek();
            let options = state.options;
            state.faults.delay(&options)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
}

/// Observes commits as they take effect, including late ones.
pub trait Observer: Send {
    /// Called after a commit has taken effect.
    fn committed(&mut self, commit: &ObservedCommit<'_>);
}

/// A commit that has taken effect.
pub struct ObservedCommit<'a> {
    /// Name of the handle that committed.
    pub writer: &'a str,
    /// Time of the commit on the store's clock.
    pub at: Duration,
    /// Keys that the commit set, cleared one by one, or added to, in key order.
    pub keys: &'a [Bytes],
    versions: &'a Versions,
}

impl ObservedCommit<'_> {
    /// The value of a key before the commit.
    pub fn before(&self, key: &[u8]) -> Option<Bytes> {
        self.versions.value_at(self.versions.newest().saturating_sub(1), key)
    }

    /// The value of a key after the commit.
    pub fn after(&self, key: &[u8]) -> Option<Bytes> {
        self.versions.value_at(self.versions.newest(), key)
    }
}
