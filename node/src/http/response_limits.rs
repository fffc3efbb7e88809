//! Limits the bytes and the sending time of large responses, because clients may read slowly.
//!
//! - `SENDING-1`: the bytes of responses of at least [`LIMITED_BYTES_MIN`] never exceed the limit
//!   of the node. A response over it is rejected before it begins.
//! - `SENDING-2`: a byte counts until it has left the buffers of the process, not only the body.
//! - `SENDING-3`: a connection is notified when the first of its responses is overdue, because a
//!   client can stop an HTTP/2 response without stopping its connection.
//!
//! Event streams are exempt: they are produced in small pieces and have their own limits.

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use triggers_actors::admission::{Admission, Permit, Rejected, count_rejection};
use triggers_protocol::lock::lock;

/// Smaller responses are not limited.
const LIMITED_BYTES_MIN: u64 = 8 * 1024;
/// Size of the pieces of a response, so that the connection copies little at a time.
const PIECE_BYTES: usize = 64 * 1024;
const EVENT_STREAM: &str = "text/event-stream";

/// Deadlines of the responses that one connection is sending.
#[derive(Debug, Default)]
pub(crate) struct ResponseDeadlines {
    entries: Mutex<Entries>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    /// Deadlines with the numbers of their responses, which may have equal deadlines.
    deadlines: BTreeSet<(Instant, u64)>,
    last_number: u64,
}

impl ResponseDeadlines {
    /// Completes when the client has not received a response by its deadline.
    pub(crate) async fn overdue(&self) {
        loop {
            match self.first() {
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => sleep_until(deadline).await,
                None => self.begun.notified().await,
            }
        }
    }

    fn begin(self: &Arc<Self>, deadline: Instant) -> DeadlineGuard {
        let mut entries = self.lock();
        entries.last_number += 1;
        let entry = (deadline, entries.last_number);
        entries.deadlines.insert(entry);
        drop(entries);
        self.begun.notify_one();
        DeadlineGuard { deadlines: self.clone(), entry }
    }

    fn first(&self) -> Option<Instant> {
        self.lock().deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}

/// Removes the deadline of a response on drop.
#[derive(Debug)]
struct DeadlineGuard {
    deadlines: Arc<ResponseDeadlines>,
    entry: (Instant, u64),
}

impl Drop for DeadlineGuard {
    fn drop(&mut self) {
        self.deadlines.lock().deadlines.remove(&self.entry);
    }
}

/// Held by a response until its last byte is sent.
#[derive(Debug)]
struct ResponsePermit {
    _permit: Permit,
    _deadline: Option<DeadlineGuard>,
}

/// Limits a large response: acquires a permit at the gate and sets its deadline.
///
/// # Errors
/// [`Rejected`] if too many bytes are being sent already.
pub(crate) fn limit(
    response: Response,
    gate: &Arc<Admission>,
    deadlines: Option<&Arc<ResponseDeadlines>>,
    timeout: Duration,
) -> Result<Response, Rejected> {
    let hint = response.body().size_hint();
    let bytes = hint.upper().unwrap_or(hint.lower());
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_stream =
        content_type.is_some_and(|value| value.as_bytes().starts_with(EVENT_STREAM.as_bytes()));
    if is_stream || bytes < LIMITED_BYTES_MIN {
        return Ok(response);
    }
    let permit = gate.enter(usize::try_from(bytes).unwrap_or(usize::MAX));
    let permit = permit.inspect_err(|_| count_rejection("responses"))?;
    let deadline = deadlines.map(|deadlines| deadlines.begin(Instant::now() + timeout));
    let permit = Arc::new(ResponsePermit { _permit: permit, _deadline: deadline });
    Ok(response.map(|body| Body::new(LimitedBody { body, rest: Bytes::new(), permit })))
}

/// A body whose pieces hold the permit of its response.
struct LimitedBody {
    body: Body,
    /// Remaining bytes of the current frame.
    rest: Bytes,
    permit: Arc<ResponsePermit>,
}

impl LimitedBody {
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Frame::data(Bytes::from_owner(Piece { bytes, _permit: self.permit.clone() }))
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.rest = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(this.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

/// Bytes that hold the permit of their response.
struct Piece {
    bytes: Bytes,
    _permit: Arc<ResponsePermit>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
