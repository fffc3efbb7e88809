//! The tokio runtimes of a process. A node has two: one with half as many threads as processors
//! drives the public connections, one with a thread for each processor everything else.
//!
//! So webhooks can use the processors that connections leave idle, and connections do not wait
//! behind other work of a thread. `docs/adr/0022-threads-of-the-two-runtimes.md` has the
//! measurements.
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
            main.worker_threads(processors);
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(processors.div_ceil(2)).thread_name("connections");
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
