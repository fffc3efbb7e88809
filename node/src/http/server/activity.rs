//! Counts the requests of a connection that are being handled and answered.
//!
//! The stream needs the counts to choose its timeout, and an HTTP/2 connection to detect that it is
//! idle.
//!
//! - `ACTIVITY-1`: a request is counted as answered and as ended once each, also when its handler
//!   is dropped.
//! - `OPEN-BODY-1`: frames, end and length of an [`OpenBody`] are those of the body inside.
//!
//! Relaxed orderings suffice: the users run in the connection's task or check again later.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::sleep;

/// Checks per idle timeout; an idle connection closes at most a quarter late.
const CHECKS: u32 = 4;

/// Counts of the requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    begun: AtomicU64,
    answered: AtomicU64,
    ended: AtomicU64,
    is_http2: AtomicBool,
}

impl Activity {
    /// Counts a request whose head has arrived. Drop the first guard when its handler has answered,
    /// and the second when the response is sent.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> (HandlerGuard, ResponseGuard) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        (HandlerGuard(self.clone()), ResponseGuard(self.clone()))
    }

    /// Number of requests so far; `None` while one is handled, and for HTTP/2.
    pub(super) fn requests_if_quiet(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        let is_quiet = begun == self.answered.load(Ordering::Relaxed)
            && !self.is_http2.load(Ordering::Relaxed);
        is_quiet.then_some(begun)
    }

    /// Completes when an HTTP/2 connection has had no open request for the timeout.
    pub(super) async fn http2_idle(&self, timeout: Duration) {
        let (mut before, mut checks) = (None, 0);
        while checks < CHECKS {
            sleep(timeout / CHECKS).await;
            let now = self.requests_if_http2_idle();
            checks = if now.is_some() && now == before { checks + 1 } else { 0 };
            before = now;
        }
    }

    fn requests_if_http2_idle(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed);
        let is_idle =
            begun == self.ended.load(Ordering::Relaxed) && self.is_http2.load(Ordering::Relaxed);
        is_idle.then_some(begun)
    }
}

/// Held while the handler of a request runs.
#[derive(Debug)]
pub(super) struct HandlerGuard(Arc<Activity>);

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Held until the response of a request is sent.
#[derive(Debug)]
pub(super) struct ResponseGuard(Arc<Activity>);

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A body that keeps its request open, so that a connection with a long response is not idle.
pub(super) struct OpenBody {
    body: Body,
    _guard: ResponseGuard,
}

impl OpenBody {
    /// Holds the guard until the body is dropped.
    pub(super) fn new(body: Body, guard: ResponseGuard) -> Self {
        Self { body, _guard: guard }
    }
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;

    #[tokio::test]
    async fn only_http2_without_open_requests_becomes_idle() {
        let activity = Arc::new(Activity::default());
        drop(activity.begin(false));
        assert_eq!(activity.requests_if_http2_idle(), None, "the stream times out HTTP/1.1");
        let (handler, response) = activity.begin(true);
        drop(handler);
        assert_eq!(activity.requests_if_http2_idle(), None, "the response is being sent");
        assert!(poll!(pin!(activity.http2_idle(Duration::from_millis(4)))).is_pending());
        drop(response);
        assert_eq!(activity.requests_if_http2_idle(), Some(2));
        activity.http2_idle(Duration::from_millis(4)).await;
    }
}
