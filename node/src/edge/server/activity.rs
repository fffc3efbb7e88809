//! What the requests of a connection tell its stream: how many there were, and whether one is under way.
//!
//! The service begins a request and ends it when its handler has answered; the stream asks, to know what a wait for bytes
//! is a wait for. Invariant: `ACTIVITY-1` a request that began ends exactly once, also when its handler is dropped.
//! The orderings are relaxed: both sides run in the connection's task, or (HTTP/2) one side has stopped asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    is_http2: AtomicBool,
}

impl Activity {
    /// Notes that a request's head has arrived. Dropping the result notes that its handler has answered.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        UnderWay(self.clone())
    }

    /// How many requests there were, if none is under way and the next one needs a head of its own.
    pub(super) fn requests_if_quiet(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        let is_quiet = begun == self.ended.load(Ordering::Relaxed) && !self.is_http2.load(Ordering::Relaxed);
        is_quiet.then_some(begun)
    }
}

/// A request whose handler has not answered yet.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}
