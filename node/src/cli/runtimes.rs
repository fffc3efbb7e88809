//! The runtimes of a process. A node has two: one drives its partners' connections, the other everything else. Each has half of
//! the processors.
//!
//! So a connection's work stays on one thread while the inboxes work beside it: with a single runtime on two processors both
//! threads do both, and wake each other for every request. And on Linux a node's threads do not interrupt each other when they
//! wake (`SCHED_BATCH`, see `sched(7)`). What that is worth is in `docs/performance.md`.
//! Invariant: `RUNTIMES-1` what is still blocked at the end, in asking a name server or in reading stdin, does not keep a
//! process alive.

use std::io;
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtimes of a process.
pub(super) struct Runtimes {
    main: Runtime,
    connections: Option<Runtime>,
}

impl Runtimes {
    /// Starts what a command needs.
    ///
    /// # Errors
    /// Threads or the system's notifications are not to be had.
    pub(super) fn start(is_node: bool) -> io::Result<Self> {
        if !is_node {
            return Ok(Self { main: Builder::new_multi_thread().enable_all().build()?, connections: None });
        }
        #[cfg(target_os = "linux")]
        let_others_finish();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let half = (processors / 2).max(1);
        let main = Builder::new_multi_thread().worker_threads(half).enable_all().build()?;
        let threads = (processors - half).max(1);
        let connections =
            Builder::new_multi_thread().worker_threads(threads).thread_name("connections").enable_all().build()?;
        Ok(Self { main, connections: Some(connections) })
    }

    /// What a command runs on.
    pub(super) fn main(&self) -> &Runtime {
        &self.main
    }

    /// What drives the connections of a node.
    pub(super) fn connections(&self) -> &Handle {
        self.connections.as_ref().unwrap_or(&self.main).handle()
    }

    /// Ends what still runs, without waiting for what is blocked.
    pub(super) fn shut_down(self) {
        // First, so that no request is taken that nobody would answer.
        if let Some(connections) = self.connections {
            connections.shutdown_background();
        }
        self.main.shutdown_background();
    }
}

/// Threads that are begun from now on wait for their turn when they wake, instead of taking the processor from who has it: one
/// that reads requests goes on until it has none, and what follows is done for more of them at once. A policy that the node was
/// started with stays.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "it reads and sets the calling thread's policy, and the parameter outlives the call")]
fn let_others_finish() {
    let unchanged = libc::sched_param { sched_priority: 0 };
    unsafe {
        if libc::sched_getscheduler(0) == libc::SCHED_OTHER {
            // Where that is not possible it is slower, and right.
            let _ = libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const unchanged);
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn own_policy() -> libc::c_int {
        #[expect(unsafe_code, reason = "it reads the calling thread's policy")]
        unsafe {
            libc::sched_getscheduler(0)
        }
    }

    /// The policies of a node's threads, where it is started by a thread with this one.
    fn policies(is_node: bool, of_starter: libc::c_int) -> [libc::c_int; 2] {
        let starter = std::thread::spawn(move || {
            let unchanged = libc::sched_param { sched_priority: 0 };
            #[expect(unsafe_code, reason = "it sets the calling thread's policy")]
            let set = unsafe { libc::sched_setscheduler(0, of_starter, &raw const unchanged) };
            assert_eq!(set, 0);
            let runtimes = Runtimes::start(is_node).unwrap();
            let connections = runtimes.connections().spawn(async { own_policy() });
            let main = runtimes.main().spawn(async { own_policy() });
            let both = runtimes.main().block_on(async { [main.await.unwrap(), connections.await.unwrap()] });
            runtimes.shut_down();
            both
        });
        starter.join().unwrap()
    }

    #[test]
    fn threads_of_a_node_do_not_interrupt_each_other() {
        assert_eq!(policies(true, libc::SCHED_OTHER), [libc::SCHED_BATCH; 2]);
        assert_eq!(policies(true, libc::SCHED_IDLE), [libc::SCHED_IDLE; 2], "the operator's choice stays");
        assert_eq!(policies(false, libc::SCHED_OTHER), [libc::SCHED_OTHER; 2], "a command is no node");
    }
}
