//! Fills a backlog: sends a fixed number of events in batches before the measurement.
//!
//! - `BACKLOG-1`: exactly the requested number of events is accepted, or the load does not begin.
//! - `BACKLOG-2`: the batches are spread evenly over the keys.

use super::BenchError;
use super::bodies::batch_bodies;
use super::connection::Dialer;
use super::link::Link;
use super::plan::Plan;
use super::requests::RequestParts;
use super::script::BatchAnswer;
use super::tally::Failure;
use futures_util::future::try_join_all;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Most connections that fill a backlog.
const CONNECTIONS_MAX: u32 = 16;
/// Attempts to send a batch while the node is overloaded.
const ATTEMPTS_MAX: u32 = 100;
/// Pause before a batch is sent again, in milliseconds.
const PAUSE_MS: u64 = 100;
/// Line of progress after the last event. Scripts wait for it.
const FILLED: &str = "backlog filled";
/// Batches between two lines of progress of a connection.
const BATCHES_PER_LINE: u64 = 16;

/// Sends the backlog of a plan. Returns the number of events for each key.
///
/// # Errors
/// `BenchError::Backlog` if the node does not accept all events.
pub async fn fill(
    plan: &Plan,
    dialer: &Dialer,
    parts: &RequestParts,
    progress: &impl Fn(&str),
) -> Result<Vec<u64>, BenchError> {
    let filler = Filler {
        parts,
        progress,
        total: plan.backlog_events,
        batch_events: u64::from(plan.batch_events()),
        payload_bytes: plan.payload_bytes,
        next: AtomicU64::new(0),
        accepted: (0..parts.keys()).map(|_| AtomicU64::new(0)).collect(),
    };
    let links = (0..plan.connections.min(CONNECTIONS_MAX)).map(|_| Link::new(dialer.clone(), None));
    try_join_all(links.map(|link| filler.send(link))).await?;
    progress(FILLED);
    Ok(filler.accepted.into_iter().map(AtomicU64::into_inner).collect())
}

struct Filler<'a, Progress> {
    parts: &'a RequestParts,
    progress: &'a Progress,
    total: u64,
    batch_events: u64,
    payload_bytes: usize,
    /// Index of the next batch.
    next: AtomicU64,
    /// Accepted events for each key.
    accepted: Vec<AtomicU64>,
}

impl<Progress: Fn(&str)> Filler<'_, Progress> {
    async fn send(&self, mut link: Link) -> Result<(), BenchError> {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let left = self.total.saturating_sub(index * self.batch_events);
            if left == 0 {
                return Ok(());
            }
            self.send_batch(&mut link, index, left.min(self.batch_events)).await?;
            if index.is_multiple_of(BATCHES_PER_LINE) {
                let accepted: u64 = self.accepted.iter().map(|it| it.load(Ordering::Relaxed)).sum();
                (self.progress)(&format!("backlog: {accepted} of {} events", self.total));
            }
        }
    }

    async fn send_batch(&self, link: &mut Link, index: u64, events: u64) -> Result<(), BenchError> {
        let pool = &self.parts.batches;
        let body = if events == self.batch_events {
            pool[index as usize % pool.len()].clone()
        } else {
            batch_bodies(self.payload_bytes, events as u32).swap_remove(0)
        };
        let key = index as usize % self.parts.keys();
        let request = || self.parts.post(self.parts.batch_uri.clone(), key, body.clone());
        let mut answer = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            match link.exchange(request, Some(&mut answer)).await {
                Ok(status) if (200..300).contains(&status) => {
                    self.accepted[key].fetch_add(events, Ordering::Relaxed);
                    return all_accepted(&answer, events);
                }
                Ok(429 | 503) => tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await,
                Ok(status) => return Err(BenchError::Backlog(format!("status {status}"))),
                // It may have taken effect, so sending it again could make the backlog too large.
                Err(Failure::Transport | Failure::Status(_) | Failure::Item) => {
                    return Err(BenchError::Backlog("no answer".to_owned()));
                }
            }
        }
        Err(BenchError::Backlog(format!("429 or 503 for {ATTEMPTS_MAX} times in a row")))
    }
}

fn all_accepted(answer: &[u8], events: u64) -> Result<(), BenchError> {
    match serde_json::from_slice::<BatchAnswer>(answer) {
        Ok(answer) if answer.success_count == events => Ok(()),
        Ok(answer) => {
            let text = format!("{} of {events} events failed", answer.failure_count);
            Err(BenchError::Backlog(text))
        }
        Err(error) => Err(BenchError::Backlog(error.to_string())),
    }
}
