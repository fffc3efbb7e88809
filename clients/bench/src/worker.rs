//! One worker: a connection, a script, a loop.
//!
//! A worker has at most one request in flight. A broken connection costs one counted failure and is
//! replaced after a growing pause. A connection that ended while idle is replaced without a
//! failure, because nothing was lost.

use super::clock::Clock;
use super::connection::{Connection, Dialer, Fault};
use super::pace::Pace;
use super::script::{Operation, Script};
use super::tally::{Failure, Sample, Tallies, Window};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// First pause before connecting again, in milliseconds. It doubles each time.
const REDIAL_MS_MIN: u64 = 10;
/// Longest pause before connecting again, in milliseconds.
const REDIAL_MS_MAX: u64 = 1_000;

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
    /// Starts the pacing thread if the pace needs one.
    ///
    /// # Errors
    /// If the system provides no thread.
    pub fn start_pacer(self: Arc<Self>) -> std::io::Result<Option<JoinHandle<()>>> {
        if !self.pace.is_open() {
            return Ok(None);
        }
        let work = move || self.pace.release_slots(&self.clock);
        std::thread::Builder::new().name("pacer".to_owned()).spawn(work).map(Some)
    }
}

/// One connection's part of the load.
pub struct Worker {
    index: usize,
    load: Arc<Load>,
    connection: Option<Connection>,
    script: Script,
    redial_ms: u64,
    body: Vec<u8>,
}

impl Worker {
    /// Makes a worker, with its connection if it could be opened.
    pub fn new(
        index: usize,
        load: Arc<Load>,
        connection: Option<Connection>,
        script: Script,
    ) -> Self {
        Self { index, load, connection, script, redial_ms: REDIAL_MS_MIN, body: Vec::new() }
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
        // An idle connection may have ended unnoticed, but a fresh one has not. So the second
        // attempt is the last.
        for _ in 0..2 {
            let request = self.script.request(operation);
            self.body.clear();
            let body = self.script.wants_body(operation).then_some(&mut self.body);
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(redial(&self.load.dialer, &mut self.redial_ms).await?),
            };
            match connection.exchange(request, body).await {
                Ok(status) => return Ok(status),
                Err(Fault::Stale) => self.connection = None,
                Err(Fault::Broken) => {
                    self.connection = None;
                    return Err(Failure::Transport);
                }
            }
        }
        Err(Failure::Transport)
    }
}

/// Connects once. After a failure it waits, so that it does not flood a node that is down.
async fn redial(dialer: &Dialer, pause_ms: &mut u64) -> Result<Connection, Failure> {
    match dialer.dial().await {
        Ok(connection) => {
            *pause_ms = REDIAL_MS_MIN;
            Ok(connection)
        }
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(*pause_ms)).await;
            *pause_ms = (*pause_ms * 2).min(REDIAL_MS_MAX);
            Err(Failure::Transport)
        }
    }
}
