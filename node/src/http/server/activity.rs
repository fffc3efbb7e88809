//! What the requests of a connection tell it: how many there were, and whether one is under way.
//!
//! The service begins a request; it is under way until its handler has answered, and open until its answer's body is
//! dropped. The stream asks whether one is under way, to know what a wait for bytes is a wait for; an HTTP/2 connection,
//! on which bytes say little, ends by itself when no request has been open for a while.
//! Invariant: `ACTIVITY-1` a request that began ends exactly once, also when its handler is dropped.
//! The orderings are relaxed: the sides run in the connection's task, or look again later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// How often within the time of idleness is looked, so that it is exceeded by no more than this part of it.
const LOOKS: u32 = 4;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    answered: AtomicU64,
    ended: AtomicU64,
    is_http2: AtomicBool,
}

impl Activity {
    /// Notes that a request's head has arrived. Dropping the first notes that its handler has answered, dropping the
    /// second that its answer is gone.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> (UnderWay, Open) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        (UnderWay(self.clone()), Open(self.clone()))
    }

    /// How many requests there were, if none is under way and the next one needs a head of its own.
    pub(super) fn requests_if_quiet(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        let is_quiet = begun == self.answered.load(Ordering::Relaxed)
            && !self.is_http2.load(Ordering::Relaxed);
        is_quiet.then_some(begun)
    }

    /// Ends when no request of an HTTP/2 connection has been open for this time, or up to a quarter more.
    pub(super) async fn http2_idle(&self, time: Duration) {
        let (mut before, mut looks) = (None, 0);
        while looks < LOOKS {
            sleep(time / LOOKS).await;
            let now = self.requests_if_http2_closed();
            looks = if now.is_some() && now == before { looks + 1 } else { 0 };
            before = now;
        }
    }

    fn requests_if_http2_closed(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        let is_closed =
            begun == self.ended.load(Ordering::Relaxed) && self.is_http2.load(Ordering::Relaxed);
        is_closed.then_some(begun)
    }
}

/// A request whose handler has not answered yet.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request whose answer is not gone yet.
#[derive(Debug)]
pub(super) struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    async fn is_pending<F: Future>(future: F) -> bool {
        let mut future = pin!(future);
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn only_http2_without_open_requests_becomes_idle() {
        let activity = Arc::new(Activity::default());
        drop(activity.begin(false));
        assert_eq!(activity.requests_if_http2_closed(), None, "the stream watches over HTTP/1.1");
        let (under_way, open) = activity.begin(true);
        drop(under_way);
        assert_eq!(activity.requests_if_http2_closed(), None, "its answer is on its way");
        assert!(is_pending(activity.http2_idle(Duration::from_millis(4))).await);
        drop(open);
        assert_eq!(activity.requests_if_http2_closed(), Some(2));
        activity.http2_idle(Duration::from_millis(4)).await;
    }
}
