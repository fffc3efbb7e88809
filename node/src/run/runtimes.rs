//! The tokio runtimes of a process. A node has two, each with half of the processors: one drives
//! the public connections, the other everything else.
//!
//! With a single runtime on two processors, both threads do both jobs and wake each other for every
//! request. `docs/adr/0015-two-runtimes.md` has the measurements.
//!
//! `RUNTIMES-1`: a thread that is blocked at the end, for example in a name lookup, does not keep
//! the process alive.

use std::io;
use tokio::runtime::{Builder, Handle, Runtime};

/// The tokio runtimes of a process.
pub struct Runtimes {
    main: Runtime,
    connections: Option<Runtime>,
}

impl Runtimes {
    /// Starts one runtime, or two for a node.
    ///
    /// # Errors
    /// If threads or the event notification of the system are not available.
    pub fn start(is_node: bool) -> io::Result<Self> {
        let mut main = Builder::new_multi_thread();
        let mut connections = None;
        if is_node {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let half = (processors / 2).max(1);
            main.worker_threads(half);
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads((processors - half).max(1)).thread_name("connections");
            connections = Some(builder.enable_all().build()?);
        }
        Ok(Self { main: main.enable_all().build()?, connections })
    }

    /// The main runtime.
    pub fn main(&self) -> &Runtime {
        &self.main
    }

    /// The runtime for the connections of a node.
    pub fn connections(&self) -> &Handle {
        self.connections.as_ref().unwrap_or(&self.main).handle()
    }

    /// Shuts both runtimes down without waiting for blocked threads.
    pub fn shut_down(self) {
        // First, so that no request is accepted that nobody would answer.
        if let Some(connections) = self.connections {
            connections.shutdown_background();
        }
        self.main.shutdown_background();
    }
}
