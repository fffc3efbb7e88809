//! The simulated engine: a multi-version store in memory that fails when its seed says so.
//!
//! ```text
//! SimulatedEngine ── clone ──▶ another handle on the same data, for a node that starts again
//!      └─ handle: the clock of its runtime ──▶ SimulatedStore: versions, late commits, faults, outage
//! ```
//! Invariants: `SIMULATED-1` one seed, one schedule of calls: one trace of results; each kind of fault draws from a
//! stream of its own, so that changing one probability does not shift the others; `SIMULATED-2` conflicts are found by
//! version, as FoundationDB finds them; `SIMULATED-3` a late commit is checked when it is applied, not when it is sent.
//! Tests may look at every commit as it takes effect, and at the whole content.
//! It has no threads and no tasks: what is due late is applied by the next call that looks. Time is tokio's. Clocks of
//! different runtimes do not compare, so each runtime uses a clone of its own.

mod faults;
mod store;
mod transaction;
mod versions;

pub use faults::{FaultsFired, Stream};

use super::{BoxFuture, Engine, Fault, StoreError, Transaction};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use store::SimulatedStore;
use tokio::time::Instant;
use transaction::SimulatedTransaction;
use versions::Versions;

/// Which faults come how often. Probabilities are per mille of the calls that they apply to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimulatedOptions {
    /// Where all randomness begins. Read once, when the engine is made.
    pub seed: u64,
    /// The shortest time that one call takes each way, in microseconds.
    pub latency_us_min: u64,
    /// The longest time that one call takes each way, in microseconds.
    pub latency_us_max: u64,
    /// Commits refused as conflicts without being one.
    pub conflict_per_mille: u32,
    /// Commits that take effect and are answered `MaybeCommitted`.
    pub unknown_committed_per_mille: u32,
    /// Commits that take no effect and are answered `MaybeCommitted`.
    pub unknown_not_committed_per_mille: u32,
    /// Commits answered `MaybeCommitted` at once and applied later, unless a conflicting one came first.
    pub late_commit_per_mille: u32,
    /// How late such a commit is applied at most, in milliseconds.
    pub late_commit_ms_max: u64,
    /// Calls that take `stall_ms` longer.
    pub stall_per_mille: u32,
    /// How much longer they take, in milliseconds.
    pub stall_ms: u64,
}

impl SimulatedOptions {
    /// No latency and no faults.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// The engine. A clone shares the data and takes its time from the runtime that first uses it.
pub struct SimulatedEngine {
    handle: Arc<SimulatedHandle>,
}

/// One runtime's way to the shared state.
struct SimulatedHandle {
    state: Arc<Mutex<SimulatedStore>>,
    /// Who uses it, for the observer.
    name: Arc<str>,
    /// An instant of this runtime's clock and the store's time at it.
    anchor: OnceLock<(Instant, Duration)>,
}

impl SimulatedEngine {
    /// An empty store.
    pub fn new(options: SimulatedOptions) -> Self {
        Self::on(Arc::new(Mutex::new(SimulatedStore::new(options))), "".into())
    }

    /// Another handle on the same data, whose commits an observer knows by this name.
    pub fn named(&self, name: &str) -> Self {
        Self::on(self.handle.state.clone(), name.into())
    }

    /// From now on this one looks at every commit, in the order in which they take effect.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        self.handle.peek().observer = Some(observer);
    }

    /// The newest version of everything, in the order of keys.
    pub fn dump(&self) -> Vec<(Bytes, Bytes)> {
        self.handle.peek().dump()
    }

    /// Replaces the options, except for the seed.
    pub fn set_options(&self, options: SimulatedOptions) {
        self.handle.peek().options = options;
    }

    /// The options in force.
    pub fn options(&self) -> SimulatedOptions {
        self.handle.peek().options
    }

    /// Begins or ends an outage: begins and reads are refused, commits are refused or left unknown, none takes effect.
    pub fn set_outage(&self, outage: bool) {
        self.handle.peek().outage = outage;
    }

    /// How often each kind of fault has come.
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
            let transaction = SimulatedTransaction::new(self.handle.clone(), opened);
            Ok(Box::new(transaction) as Box<dyn Transaction>)
        })
    }

    fn health(&self) -> Result<(), StoreError> {
        if self.handle.peek().outage {
            return Err(StoreError::fatal(Fault::Stopped, "simulated outage"));
        }
        Ok(())
    }
}

impl SimulatedHandle {
    /// The state as it is, without looking at the clock.
    fn peek(&self) -> MutexGuard<'_, SimulatedStore> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state at this moment: whatever was due by now has happened.
    fn now(&self) -> MutexGuard<'_, SimulatedStore> {
        let mut state = self.peek();
        let (instant, at) = self.anchor.get_or_init(|| (Instant::now(), state.now));
        let now = *at + instant.elapsed();
        state.advance(now);
        state
    }

    /// The way to the store, or back.
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

/// Looks at commits.
pub trait Observer: Send {
    /// This commit has taken effect.
    fn committed(&mut self, commit: &ObservedCommit<'_>);
}

/// A commit that has taken effect.
pub struct ObservedCommit<'a> {
    /// The name of the handle that it came by.
    pub writer: &'a str,
    /// When it took effect, on the store's clock.
    pub at: Duration,
    /// The keys that it has set, cleared one by one, or added to, in their order.
    pub keys: &'a [Bytes],
    versions: &'a Versions,
}

impl ObservedCommit<'_> {
    /// The value of a key before.
    pub fn before(&self, key: &[u8]) -> Option<Bytes> {
        self.versions.value_at(self.versions.newest().saturating_sub(1), key)
    }

    /// The value of a key now.
    pub fn after(&self, key: &[u8]) -> Option<Bytes> {
        self.versions.value_at(self.versions.newest(), key)
    }
}
