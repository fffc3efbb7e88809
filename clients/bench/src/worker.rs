//! One worker: a connection, a script, a loop.
//!
//! A worker has at most one request in flight.

use super::BenchError;
use super::clock::Clock;
use super::connection::Dialer;
use super::link::Link;
use super::pace::Pace;
use super::plan::Plan;
use super::script::{Operation, Script};
use super::tally::{Failure, Sample, Tallies, Window};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The parts that all workers share.
#[derive(Debug)]
pub struct Load {
    /// The clock of the load.
    pub clock: Clock,
    /// The measured window.
    pub window: Window,
    /// The pace of the load.
    pub pace: Pace,
    /// The counts of the load.
    pub tallies: Tallies,
    /// Opens connections to the node.
    pub dialer: Dialer,
}

impl Load {
    /// Makes the load of a plan, whose warm-up begins now. A backlog is measured from its first
    /// event, without a warm-up.
    pub fn new(plan: &Plan, dialer: Dialer) -> Arc<Self> {
        let warmup_seconds = if plan.backlog_events > 0 { 0 } else { plan.warmup_seconds };
        let window = Window::new(warmup_seconds, plan.duration_seconds);
        let pace = Pace::new(plan, window);
        let tallies = Tallies::new(plan.connections as usize);
        Arc::new(Self { clock: Clock::start(), window, pace, tallies, dialer })
    }

    /// Starts the pacing thread if the pace needs one.
    ///
    /// # Errors
    /// `BenchError::Pacer` if the system provides no thread.
    pub fn start_pacer(self: Arc<Self>) -> Result<Option<Pacer>, BenchError> {
        if !self.pace.is_open() {
            return Ok(None);
        }
        let work = move || self.pace.release_slots(&self.clock);
        let thread = std::thread::Builder::new().name("pacer".to_owned()).spawn(work);
        Ok(Some(Pacer(thread.map_err(BenchError::Pacer)?)))
    }
}

/// The thread that keeps a schedule.
pub struct Pacer(JoinHandle<()>);

impl Pacer {
    /// Waits for the end of the thread, which comes within its longest pause after the pace has
    /// stopped.
    pub async fn join(self) {
        let _ = tokio::task::spawn_blocking(move || self.0.join()).await;
    }
}

/// One connection's part of the load.
pub struct Worker {
    index: usize,
    load: Arc<Load>,
    link: Link,
    script: Script,
    body: Vec<u8>,
}

impl Worker {
    /// Makes a worker for a link.
    pub fn new(index: usize, load: Arc<Load>, link: Link, script: Script) -> Self {
        Self { index, load, link, script, body: Vec::new() }
    }

    /// Sends until the pace says that the load is over.
    pub async fn run(mut self) {
        while let Some(begin_ns) = self.load.pace.next(&self.load.clock).await {
            let operation = self.script.next_operation();
            let answer = self.perform(operation).await;
            let end_ns = self.load.clock.elapsed_ns();
            let (result, items_failed) = match answer {
                Ok(status) if (200..300).contains(&status) => {
                    let counts = self.script.read_answer(operation, &self.body);
                    (Ok(counts.events), counts.items_failed)
                }
                Ok(status) => {
                    self.script.failed(operation);
                    (Err(Failure::Status(status)), 0)
                }
                Err(failure) => (Err(failure), 0),
            };
            let sample = Sample { begin_ns, end_ns, result, items_failed };
            self.load.tallies.record(self.index, self.load.window, sample);
        }
    }

    async fn perform(&mut self, operation: Operation) -> Result<u16, Failure> {
        let Self { link, script, body, .. } = self;
        let body = script.wants_body(operation).then_some(body);
        link.exchange(|| script.request(operation), body).await
    }
}
