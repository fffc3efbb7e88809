//! What only the simulated engine guarantees: every fault has its effect, and one seed gives one
//! trace.
//!
//! The tests run on tokio's paused clock in one thread, so that times are exact and runs repeat.

mod faults;
mod traces;

use crate::subject::Subject;
use std::sync::Arc;
use triggers_store::kv::simulated::{SimulatedEngine, SimulatedOptions};

/// An engine and a subject on it.
fn simulated(options: SimulatedOptions) -> (Arc<SimulatedEngine>, Subject) {
    let engine = Arc::new(SimulatedEngine::new(options));
    (engine.clone(), Subject::new(engine, None))
}
