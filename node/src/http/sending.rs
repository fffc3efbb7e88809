//! Responses that are being sent: how many bytes of them a node holds, and for how long.
//!
//! A client decides how fast it reads, and HTTP/2 lets it stop a response without stopping its connection. So a response
//! above [`HELD_BYTES_MIN`] enters a door that counts its bytes, and its connection is told when it must be over.
//! Invariants: `SENDING-1` the bytes of such responses never exceed the door's limit: the next one is refused before it
//! begins; `SENDING-2` they are counted until the last of them has left the process's buffers, not only the body;
//! `SENDING-3` a connection learns of the first response that takes too long. Event streams are exempt: they are made
//! piece by piece and have their own bounds.

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use triggers_actors::admission::{Admission, Permit, Rejected, count_rejection};

/// Smaller responses are not worth the counting.
const HELD_BYTES_MIN: u64 = 8 * 1024;
/// Size of the pieces that a response is handed on in, so that what is copied behind it stays small.
const PIECE_BYTES: usize = 64 * 1024;
const EVENT_STREAM: &str = "text/event-stream";

/// The responses of one connection that are being sent; its requests bring it along as part of their peer.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// When each must be over. The number tells apart those of the same instant.
    ends: Mutex<(BTreeSet<(Instant, u64)>, u64)>,
    begun: Notify,
}

impl Sending {
    /// Ends when a response has not been taken by its time.
    pub(crate) async fn overdue(&self) {
        loop {
            match self.first_end() {
                Some(end) if end <= Instant::now() => return,
                Some(end) => sleep_until(end).await,
                None => self.begun.notified().await,
            }
        }
    }

    fn begin(self: &Arc<Self>, end: Instant) -> Sent {
        let mut ends = self.lock();
        ends.1 += 1;
        let entry = (end, ends.1);
        ends.0.insert(entry);
        drop(ends);
        self.begun.notify_one();
        Sent { sending: self.clone(), entry }
    }

    fn first_end(&self) -> Option<Instant> {
        self.lock().0.first().map(|(end, _)| *end)
    }

    fn lock(&self) -> MutexGuard<'_, (BTreeSet<(Instant, u64)>, u64)> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response's place among those of its connection.
#[derive(Debug)]
struct Sent {
    sending: Arc<Sending>,
    entry: (Instant, u64),
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.sending.lock().0.remove(&self.entry);
    }
}

/// What a response holds until its last byte is gone.
#[derive(Debug)]
struct Held {
    _permit: Permit,
    _sent: Option<Sent>,
}

/// Makes a large response count at the door, and tells its connection by when it must be over.
///
/// # Errors
/// [`Rejected`] if as much is being sent as may be.
pub(crate) fn hold(
    response: Response,
    door: &Arc<Admission>,
    connection: Option<&Arc<Sending>>,
    timeout: Duration,
) -> Result<Response, Rejected> {
    let hint = response.body().size_hint();
    let bytes = hint.upper().unwrap_or(hint.lower());
    let content_type = response.headers().get(CONTENT_TYPE);
    let is_stream =
        content_type.is_some_and(|value| value.as_bytes().starts_with(EVENT_STREAM.as_bytes()));
    if is_stream || bytes < HELD_BYTES_MIN {
        return Ok(response);
    }
    let permit = door.enter(usize::try_from(bytes).unwrap_or(usize::MAX));
    let permit = permit.inspect_err(|_| count_rejection("responses"))?;
    let sent = connection.map(|sending| sending.begin(Instant::now() + timeout));
    let held = Arc::new(Held { _permit: permit, _sent: sent });
    Ok(response.map(|body| Body::new(HeldBody { body, rest: Bytes::new(), held })))
}

/// A body whose bytes keep what it holds, wherever they go.
struct HeldBody {
    body: Body,
    /// What is left of the frame that is being handed on.
    rest: Bytes,
    held: Arc<Held>,
}

impl HeldBody {
    fn piece(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Frame::data(Bytes::from_owner(Piece { bytes, _held: self.held.clone() }))
    }
}

impl HttpBody for HeldBody {
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

/// Bytes that hold what their response holds.
struct Piece {
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
