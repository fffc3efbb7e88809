//! Keeps the time that due times are compared with, for nodes that start or take over, and reports
//! what the wall clock does.
//!
//! A node does this with each heartbeat, so the time that it finds after a start is at most one
//! heartbeat behind. See `docs/adr/0019-steady-time.md`.

use std::time::Duration;
use tokio::time::{Instant, sleep};
use triggers_protocol::Environment;
use triggers_protocol::environment::STEP_MAX;
use triggers_store::kv::{Run, Store};
use triggers_store::tables::{TableError, cluster};

/// Interval of a node that runs alone, and bound on the time of one transaction.
const INTERVAL: Duration = Duration::from_secs(2);

/// Continues the kept time when a node starts, before anything is due. A clock that is far ahead
/// of it is believed unless other nodes keep the time: `heartbeat` is their interval.
///
/// # Errors
/// [`TableError::Store`].
pub(crate) async fn begin(
    store: &Store,
    heartbeat: Option<Duration>,
    until: Instant,
) -> Result<(), TableError> {
    let environment = store.environment();
    let read = || store.run(Run::idempotent(until), |tx| Box::pin(cluster::kept_time(tx)));
    if let Some(kept) = read().await? {
        let is_far_ahead = environment.now().since(kept) > STEP_MAX;
        if let Some(heartbeat) = heartbeat.filter(|_| is_far_ahead) {
            sleep(heartbeat * 2).await;
            let again = read().await?;
            if let Some(again) = again.filter(|again| *again != kept) {
                environment.disbelieve(again);
            }
        }
        environment.advance(kept, true);
    }
    report(environment);
    Ok(())
}

/// Keeps the time of a node that runs alone. Never ends.
pub(crate) async fn keep(store: Store) {
    loop {
        report(store.environment());
        let steady = store.environment().steady();
        let run = Run::idempotent(Instant::now() + INTERVAL);
        let kept: Result<_, TableError> =
            store.run(run, |tx| Box::pin(cluster::keep_time(tx, steady))).await;
        if let Err(error) = kept {
            tracing::debug!(%error, "the time could not be kept");
        }
        sleep(INTERVAL).await;
    }
}

/// Logs and measures what the wall clock has done since the last report.
pub(crate) fn report(environment: &Environment) {
    let report = environment.clock_report();
    metrics::gauge!("triggers_clock_lead_seconds").set(report.lead.as_secs_f64());
    metrics::gauge!("triggers_clock_disbelieved_seconds").set(report.disbelieved.as_secs_f64());
    if let Some(stepped_ms) = report.stepped_ms {
        let direction = if stepped_ms < 0 { "back" } else { "ahead" };
        metrics::counter!("triggers_clock_steps_total", "direction" => direction).increment(1);
        tracing::warn!(stepped_ms, "the wall clock has stepped; due times run on evenly");
    }
    if report.is_news && report.is_suspect {
        let behind_seconds = report.lead.as_secs();
        tracing::error!(behind_seconds, "the wall clock is far behind; no events are accepted");
    } else if report.is_news {
        let ahead_seconds = report.disbelieved.as_secs();
        tracing::error!(ahead_seconds, "the wall clock is far ahead; it is not believed for now");
    }
}
