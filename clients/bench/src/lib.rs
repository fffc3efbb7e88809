//! The load generator: holds connections open, sends requests, and measures the answers.
//!
//! ```text
//! run ── Baseline (mode baseline only)     a bare HTTP server in this process
//!     ├─ Pacer thread (with a rate)      hands out the slots of a fixed schedule
//!     └─ Worker × connections            one keep-alive connection, one request at a time
//! ```
//! Invariants:
//! - `BENCH-1`: the plan bounds the load: the connections, the duration, one request per connection
//!   at a time, a timeout for each.
//! - `BENCH-2`: with a rate, latency counts from the intended time, so that every request which a
//!   stall of the node delayed shows it (no coordinated omission). The report says if the schedule
//!   could not be kept.
//! - `BENCH-3`: rates count the answers that arrived inside the measured window, latencies the
//!   requests in flight inside it.
//!
//! Progress goes to a callback, and the result is a [`Report`]. The load does not check
//! correctness.

use baseline::Baseline;
use clock::Clock;
use connection::Dialer;
use pace::Pace;
use script::{RequestParts, Script};
use std::sync::Arc;
use std::time::Duration;
use tally::{Tallies, Window};
use tokio::task::JoinSet;
use worker::{Load, Worker};

pub use baseline::BaselineShape;
pub use plan::{Mode, Plan};
pub use report::{Report, Summary};

mod baseline;
mod bodies;
mod clock;
mod connection;
mod pace;
mod plan;
mod report;
mod schedule;
mod script;
mod tally;
mod worker;

#[cfg(test)]
mod tests;

/// Time that requests in flight at the end still get.
const DRAIN_SECONDS: u64 = 10;

/// Reasons for which a load cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The plan contradicts itself.
    #[error("{0}")]
    Plan(String),
    /// The address, the key or TLS cannot be used.
    #[error(transparent)]
    Client(#[from] triggers_client::ClientError),
    /// No connection could be opened.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The base address.
        url: String,
        /// The reason, in words for people.
        reason: String,
    },
    /// The server of the mode baseline could not listen.
    #[error("the server for the mode baseline cannot listen on loopback: {0}")]
    Baseline(std::io::Error),
    /// The pacing thread could not be started.
    #[error("the thread that keeps the schedule cannot be started: {0}")]
    Pacer(std::io::Error),
}

/// Carries out a plan: connects, warms up, measures, drains. `progress` gets a line a second.
///
/// # Errors
/// If the load cannot begin. Later failures are part of the report.
pub async fn run(plan: Plan, progress: impl Fn(&str)) -> Result<Report, BenchError> {
    plan.check().map_err(BenchError::Plan)?;
    let baseline = match plan.mode {
        Mode::Baseline(shape) => Some(Baseline::start(shape, &plan).await?),
        _ => None,
    };
    let url = match &baseline {
        Some(baseline) => baseline.url(),
        None => plan.url.clone().unwrap_or_default(),
    };
    progress(&format!("opening {} connections to {url}", plan.connections));
    let dialer = Dialer::new(&url)?;
    let connections = dialer.dial_all(plan.connections as usize).await?;
    let parts = RequestParts::new(&plan, dialer.address())?;

    let clock = Clock::start();
    let window = Window::new(plan.warmup_seconds, plan.duration_seconds);
    let pace = Pace::new(&plan, window);
    let tallies = Tallies::new(plan.connections as usize);
    let load = Arc::new(Load { clock, window, pace, tallies, dialer });
    let pacer = load.clone().start_pacer().map_err(BenchError::Pacer)?;

    let mut workers = JoinSet::new();
    for (index, connection) in connections.into_iter().enumerate() {
        let script = Script::new(parts.clone(), plan.mode, index);
        workers.spawn(Worker::new(index, load.clone(), connection, script).run());
    }
    let interrupted = watch(&load, &progress).await;
    let end_ns = load.clock.elapsed_ns().min(window.end_ns);
    load.pace.stop();
    let unanswered = drain(workers).await;
    if let Some(pacer) = pacer {
        // The thread ends within its longest pause after the pace has stopped.
        let _ = tokio::task::spawn_blocking(move || pacer.join()).await;
    }
    let measured_ns = end_ns.saturating_sub(window.begin_ns);
    let adherence = load.pace.adherence(end_ns);
    Ok(Report::new(&plan, &load.tallies, measured_ns, adherence, unanswered, interrupted))
}

/// Waits for the end of the window or Ctrl-C, and reports every second. Returns whether it was
/// interrupted.
async fn watch(load: &Load, progress: &impl Fn(&str)) -> bool {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    second.tick().await;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut before = load.tallies.answered();
    let mut before_ns = load.clock.elapsed_ns();
    loop {
        let left = Duration::from_nanos(load.window.end_ns.saturating_sub(load.clock.elapsed_ns()));
        tokio::select! {
            _ = &mut interrupt => return true,
            () = tokio::time::sleep(left) => return false,
            _ = second.tick() => {
                let (now, now_ns) = (load.tallies.answered(), load.clock.elapsed_ns());
                let elapsed_ns = now_ns - before_ns;
                progress(&report::progress_line(load.window, now_ns, before, now, elapsed_ns));
                (before, before_ns) = (now, now_ns);
            }
        }
    }
}

/// Lets the workers finish requests in flight. Returns the number that had no answer in time.
async fn drain(mut workers: JoinSet<()>) -> u64 {
    let finish = async { while workers.join_next().await.is_some() {} };
    match tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS), finish).await {
        Ok(()) => 0,
        Err(_) => {
            let unanswered = workers.len() as u64;
            workers.shutdown().await;
            unanswered
        }
    }
}
