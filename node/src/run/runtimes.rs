//! The runtimes of a process. A node has two: one drives its partners' connections, the other everything else. Each has half of
//! the processors.
//!
//! So a connection's work stays on one thread while the inboxes work beside it: with a single runtime on two processors both
//! threads do both, and wake each other for every request. What that is worth is in `docs/operations/performance.md`.
//! Invariant: `RUNTIMES-1` what is still blocked at the end, in asking a name server or in reading stdin, does not keep a
//! process alive.

use std::io;
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtimes of a process.
pub struct Runtimes {
    main: Runtime,
    connections: Option<Runtime>,
}

impl Runtimes {
    /// Starts what a command needs.
    ///
    /// # Errors
    /// Threads or the system's notifications are not to be had.
    pub fn start(is_node: bool) -> io::Result<Self> {
        if !is_node {
            return Ok(Self {
                main: Builder::new_multi_thread().enable_all().build()?,
                connections: None,
            });
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let half = (processors / 2).max(1);
        let main = Builder::new_multi_thread().worker_threads(half).enable_all().build()?;
        let threads = (processors - half).max(1);
        let connections = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("connections")
            .enable_all()
            .build()?;
        Ok(Self { main, connections: Some(connections) })
    }

    /// What a command runs on.
    pub fn main(&self) -> &Runtime {
        &self.main
    }

    /// What drives the connections of a node.
    pub fn connections(&self) -> &Handle {
        self.connections.as_ref().unwrap_or(&self.main).handle()
    }

    /// Ends what still runs, without waiting for what is blocked.
    pub fn shut_down(self) {
        // First, so that no request is taken that nobody would answer.
        if let Some(connections) = self.connections {
            connections.shutdown_background();
        }
        self.main.shutdown_background();
    }
}
