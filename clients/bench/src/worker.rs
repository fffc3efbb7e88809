//! One worker: a connection, a script, a loop.
//!
//! Invariants: a worker has at most one request under way; a broken connection costs one counted failure and is replaced
//! after a growing pause; a connection that ended while idle is replaced without a failure, because nothing was lost.
//!
//! It decides nothing about what is sent (`script`) or when (`pace`).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Clock;
use super::connection::{Connection, Dialer, Fault};
use super::pace::Pace;
use super::script::{Operation, Script};
use super::tally::{Failure, Sample, Tallies, Window};

/// First pause before dialling again, in milliseconds; doubled each time.
const REDIAL_MS_MIN: u64 = 10;
/// Longest pause before dialling again, in milliseconds.
const REDIAL_MS_MAX: u64 = 1_000;

/// What all workers share.
#[derive(Debug)]
pub struct Load {
    /// Time since the start.
    pub clock: Clock,
    /// What is measured.
    pub window: Window,
    /// When to send.
    pub pace: Pace,
    /// Where to count.
    pub tallies: Tallies,
    /// Where to connect.
    pub dialer: Dialer,
}

impl Load {
    /// Starts the pacing thread if the pace needs one.
    ///
    /// # Errors
    /// When the system gives no thread.
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
    /// A worker, with its connection if it could be opened.
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
                    let moved = self.script.absorb(operation, &self.body);
                    (Ok(moved.events), moved.items_failed)
                }
                Ok(status) => {
                    self.script.refused(operation);
                    (Err(Failure::Status(status)), 0)
                }
                Err(failure) => (Err(failure), 0),
            };
            let sample = Sample { begin_ns, end_ns, result, items_failed };
            self.load.tallies.record(self.index, self.load.window, sample);
        }
    }

    async fn perform(&mut self, operation: Operation) -> Result<u16, Failure> {
        // An idle connection may have ended unnoticed; a fresh one has not, so the second try is the last.
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

/// Dials once; after a failure waits, so that a node that is down is not flooded.
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
