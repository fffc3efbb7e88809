//! The load generator: holds connections open, sends requests, and measures the answers.
//!
//! ```text
//! run ── Baseline (mode baseline only)     a bare HTTP server in this process
//!     ├─ Pacer thread (with a rate)      hands out the slots of a fixed schedule
//!     ├─ Worker × connections            one keep-alive connection, one request at a time
//!     ├─ Consumer × connections          the same, in the mode consume
//!     └─ Poster × connections, Receivers the same, and HTTP servers, in the mode push
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
use connection::{Connection, Dialer};
use link::Link;
use report::Measured;
use requests::RequestParts;
use script::Script;
use std::future::{Future, pending};
use std::time::Duration;
use tokio::task::JoinSet;
use worker::{Load, Worker};

pub use baseline::BaselineShape;
pub use plan::{AcknowledgeBy, Mode, Plan};
pub use report::{Report, Summary};

mod backlog;
mod baseline;
mod bodies;
mod clock;
mod connection;
mod consume;
mod link;
mod milestones;
mod pace;
mod plan;
mod push;
mod report;
mod requests;
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
    /// The node did not accept the backlog.
    #[error("the backlog cannot be filled: {0}")]
    Backlog(String),
    /// The node's answer to a lease has no `lease_id`.
    #[error(
        "the answer to a lease has no lease_id, so the lease cannot be acknowledged as a whole; \
         use another --ack"
    )]
    NoLeaseId,
    /// A receiver of webhooks could not listen.
    #[error("a receiver of webhooks cannot listen on loopback: {0}")]
    Receiver(std::io::Error),
    /// The first webhooks did not arrive.
    #[error("no webhook arrived within {0} s; may the node send to http://127.0.0.1?")]
    NoWebhook(u64),
    /// Subscriptions that the load made could not be deleted.
    #[error("subscriptions of the load may still exist: {0}")]
    SubscriptionsLeft(String),
    /// Ctrl-C before the measurement began.
    #[error("stopped before the measurement began")]
    Interrupted,
    /// A task of the load failed.
    #[error("a task of the load generator failed: {0}")]
    Task(String),
}

/// Carries out a plan: connects, warms up, measures, drains. `progress` gets a line a second.
///
/// # Errors
/// If the load cannot begin. Later failures are part of the report.
pub async fn run(plan: Plan, progress: impl Fn(&str)) -> Result<Report, BenchError> {
    plan.check().map_err(BenchError::Plan)?;
    let baseline = match plan.mode {
        Mode::Consume(by) => return consume::run(&plan, by, &progress).await,
        Mode::Push => return push::run(&plan, &progress).await,
        Mode::Baseline(shape) => Some(Baseline::start(shape, &plan).await?),
        _ => None,
    };
    let url = baseline.as_ref().map_or_else(|| plan.base_url().to_owned(), Baseline::url);
    run_scripts(&plan, &url, &progress).await
}

/// Lets each connection repeat the script of the plan's mode.
async fn run_scripts(
    plan: &Plan,
    url: &str,
    progress: &impl Fn(&str),
) -> Result<Report, BenchError> {
    let (dialer, connections) = dial(plan, url, progress).await?;
    let parts = RequestParts::new(plan, dialer.address())?;
    let load = Load::new(plan, dialer);
    let pacer = load.clone().start_pacer()?;
    let mut workers = JoinSet::new();
    for (index, connection) in connections.into_iter().enumerate() {
        let script = Script::new(parts.clone(), plan.mode, index);
        let link = Link::new(load.dialer.clone(), connection);
        workers.spawn(Worker::new(index, load.clone(), link, script).run());
    }
    let is_interrupted = watch(&load, progress, pending()).await?;
    let end_ns = load.clock.elapsed_ns().min(load.window.end_ns);
    load.pace.stop();
    let unanswered = drain(workers).await;
    if let Some(pacer) = pacer {
        pacer.join().await;
    }
    let measured = Measured {
        measured_ns: end_ns.saturating_sub(load.window.begin_ns),
        adherence: load.pace.adherence(end_ns),
        unanswered,
        is_interrupted,
        ..Measured::default()
    };
    Ok(Report::new(plan, &load.tallies, measured))
}

/// Opens the connections of a plan.
async fn dial(
    plan: &Plan,
    url: &str,
    progress: &impl Fn(&str),
) -> Result<(Dialer, Vec<Option<Connection>>), BenchError> {
    progress(&format!("opening {} connections to {url}", plan.connections));
    let dialer = Dialer::new(url)?;
    let connections = dialer.dial_all(plan.connections as usize).await?;
    Ok((dialer, connections))
}

/// Waits for the end of the window, Ctrl-C, or the end of `finished`, and reports every second.
/// Returns whether it was interrupted.
///
/// # Errors
/// The error of `finished`.
async fn watch(
    load: &Load,
    progress: &impl Fn(&str),
    finished: impl Future<Output = Result<(), BenchError>>,
) -> Result<bool, BenchError> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    second.tick().await;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt, finished);
    let mut before = load.tallies.answered();
    let mut before_ns = load.clock.elapsed_ns();
    loop {
        let left = Duration::from_nanos(load.window.end_ns.saturating_sub(load.clock.elapsed_ns()));
        tokio::select! {
            _ = &mut interrupt => return Ok(true),
            () = tokio::time::sleep(left) => return Ok(false),
            result = &mut finished => return result.map(|()| false),
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
async fn drain<Ended: 'static>(mut workers: JoinSet<Ended>) -> u64 {
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
