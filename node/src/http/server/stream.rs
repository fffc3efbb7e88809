//! A stream with timeouts for the peer, which closes without losing the last response.
//!
//! - `STREAM-1`: a write fails if the peer reads nothing for [`StreamTimeouts::write`].
//! - `STREAM-2`: a head ends within [`StreamTimeouts::head`] of its first byte; the first head of a
//!   connection within that time of its start. Between requests a connection ends after
//!   [`StreamTimeouts::idle`] without a byte.
//! - `STREAM-3`: after the last write, bytes of the peer are read and dropped for at most
//!   [`LINGER`] and [`LINGER_BYTES_MAX`]. Closing a socket with unread bytes resets the connection,
//!   and a client that is still sending a rejected body would lose the response.
//!
//! For HTTP/2, `STREAM-2` holds until the first request; pings replace it then. Handlers limit the
//! time of bodies.

use super::activity::Activity;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Longest wait for the peer to close after the last write.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of the peer that are dropped after the last write, at most.
const LINGER_BYTES_MAX: usize = 64 << 20;
const LINGER_READ_BYTES: usize = 16 * 1024;

/// Vectored writes up to this size are copied into one buffer, because a vectored system call is
/// slower.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// How long a connection waits for its peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamTimeouts {
    /// Timeout of a write without progress.
    pub(super) write: Duration,
    /// Timeout of a request head.
    pub(super) head: Duration,
    /// Timeout between a response and the next request head.
    pub(super) idle: Duration,
}

/// What a read waits for while no request is handled, with the number of earlier requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Head(u64),
    Idle(u64),
}

/// A stream with timeouts for the peer.
pub(super) struct TimedStream<S> {
    inner: S,
    timeouts: StreamTimeouts,
    activity: Arc<Activity>,
    /// Number of requests before the head whose bytes arrived last.
    head_after: Option<u64>,
    /// What the timer `read_end` is for.
    awaited: Option<Awaited>,
    read_end: Option<Pin<Box<Sleep>>>,
    /// Timer of a write that makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Linger>,
}

/// Limits of the phase between the last write and the close.
struct Linger {
    end: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> TimedStream<S> {
    pub(super) fn new(inner: S, timeouts: StreamTimeouts, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            timeouts,
            activity,
            head_after: None,
            awaited: None,
            read_end: None,
            stalled: None,
            lingering: None,
        }
    }

    /// Returns the outcome of a write, or an error if it has been pending for too long.
    fn within_time<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.timeouts.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }

    /// As [`Self::within_time`]. Progress of a write restarts the idle timeout.
    fn written_within_time(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.awaited = None;
        }
        self.within_time(outcome, cx)
    }

    /// Ends a read that waits too long: an idle connection like a closed one, a head as an error.
    fn read_within_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(requests) = self.activity.requests_if_quiet() else {
            self.awaited = None;
            return Poll::Pending;
        };
        let is_head = requests == 0 || self.head_after == Some(requests);
        let (awaited, timeout) = if is_head {
            (Awaited::Head(requests), self.timeouts.head)
        } else {
            (Awaited::Idle(requests), self.timeouts.idle)
        };
        let read_end = match &mut self.read_end {
            Some(read_end) if self.awaited == Some(awaited) => read_end,
            Some(read_end) => {
                read_end.as_mut().reset(Instant::now() + timeout);
                read_end
            }
            none => none.insert(Box::pin(sleep(timeout))),
        };
        self.awaited = Some(awaited);
        ready!(read_end.as_mut().poll(cx));
        match awaited {
            Awaited::Idle(_) => Poll::Ready(Ok(())),
            Awaited::Head(_) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the request head did not arrive in time",
            ))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let filled = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        if outcome.is_pending() {
            return this.read_within_time(cx);
        }
        if buf.filled().len() > filled {
            this.head_after = this.activity.requests_if_quiet();
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.written_within_time(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if bytes > COPIED_BYTES_MAX {
            let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
            return self.written_within_time(outcome, cx);
        }
        let (mut copied, mut end) = ([0; COPIED_BYTES_MAX], 0);
        for buf in bufs {
            copied[end..end + buf.len()].copy_from_slice(buf);
            end += buf.len();
        }
        self.poll_write(cx, &copied[..bytes])
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.within_time(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.within_time(outcome, cx))?;
        }
        let linger = || Linger { end: Box::pin(sleep(LINGER)), bytes_left: LINGER_BYTES_MAX };
        let linger = this.lingering.get_or_insert_with(linger);
        let mut bytes = [0; LINGER_READ_BYTES];
        loop {
            if linger.bytes_left == 0 || linger.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut dropped = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut this.inner).poll_read(cx, &mut dropped));
            if read.is_err() || dropped.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            linger.bytes_left = linger.bytes_left.saturating_sub(dropped.filled().len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// Longer than any test takes.
    const NEVER: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(50);

    fn stream<S>(
        inner: S,
        change: impl FnOnce(&mut StreamTimeouts),
    ) -> (TimedStream<S>, Arc<Activity>) {
        let mut timeouts = StreamTimeouts { write: NEVER, head: NEVER, idle: NEVER };
        change(&mut timeouts);
        let activity = Arc::new(Activity::default());
        (TimedStream::new(inner, timeouts, activity.clone()), activity)
    }

    #[tokio::test]
    async fn a_write_fails_if_the_peer_does_not_read() {
        let (near, _far) = duplex(8);
        let (mut stream, _) = stream(near, |timeouts| timeouts.write = SOON);
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "STREAM-1");
    }

    #[tokio::test]
    async fn vectored_writes_arrive_in_order_whether_copied_or_not() {
        for (first, second) in
            [(1, 2), (COPIED_BYTES_MAX - 1, 1), (COPIED_BYTES_MAX, 1), (3, 3 * COPIED_BYTES_MAX)]
        {
            let sent: Vec<u8> = (0..first + second).map(|at| (at % 251) as u8).collect();
            let (near, mut far) = duplex(1_000);
            let writer = async {
                let (mut stream, _) = stream(near, |_| ());
                let mut written = 0;
                while written < sent.len() {
                    let (one, other) =
                        (&sent[written.min(first)..first], &sent[written.max(first)..]);
                    written += stream
                        .write_vectored(&[IoSlice::new(one), IoSlice::new(other)])
                        .await
                        .unwrap();
                }
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(writer, far.read_to_end(&mut received));
            read.unwrap();
            assert_eq!(received, sent, "{first} and {second} bytes");
        }
    }

    #[tokio::test]
    async fn a_slow_reader_that_makes_progress_gets_all_bytes() {
        let (near, mut far) = duplex(8);
        let (mut stream, _) = stream(near, |_| ());
        let reader = tokio::spawn(async move {
            let mut bytes = [1; 64];
            far.read_exact(&mut bytes).await.unwrap();
            bytes
        });
        stream.write_all(&[0; 64]).await.unwrap();
        assert_eq!(reader.await.unwrap(), [0; 64]);
        assert!(stream.stalled.is_none(), "progress ends the timer");
    }

    #[tokio::test]
    async fn a_missing_first_head_and_half_a_head_time_out() {
        let (near, mut far) = duplex(8);
        let (mut stream, activity) = stream(near, |timeouts| timeouts.head = SOON);
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "STREAM-2: silence from the start");
        drop(activity.begin(false));
        far.write_all(b"G").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'G');
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "STREAM-2: half a head");
    }

    #[tokio::test]
    async fn an_idle_connection_ends_like_a_closed_one() {
        let (near, _far) = duplex(8);
        let (mut stream, activity) = stream(near, |timeouts| timeouts.idle = SOON);
        drop(activity.begin(false));
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "STREAM-2");
    }

    #[tokio::test]
    async fn reads_do_not_time_out_while_a_request_is_handled_or_with_http2() {
        for is_http2 in [false, true] {
            let (near, mut far) = duplex(8);
            let (mut stream, activity) =
                stream(near, |it| (it.head, it.idle) = (Duration::ZERO, Duration::ZERO));
            let guards = activity.begin(is_http2);
            let guards = (!is_http2).then_some(guards);
            let sender = tokio::spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                far.write_all(b"body").await
            });
            let mut body = [0; 4];
            stream.read_exact(&mut body).await.unwrap();
            sender.await.unwrap().unwrap();
            drop(guards);
        }
    }

    #[tokio::test]
    async fn a_close_reads_what_the_peer_still_sends_for_a_bounded_time() {
        let (near, mut far) = duplex(8);
        let (mut near, _) = stream(near, |_| ());
        let sender = tokio::spawn(async move { far.write_all(&[0; 640]).await });
        near.shutdown().await.unwrap();
        sender.await.unwrap().unwrap();
        let (near, _silent) = duplex(8);
        stream(near, |_| ()).0.shutdown().await.unwrap();
    }
}
