//! A stream on which nothing waits for ever, and whose end does not cut off the answer before it.
//!
//! Invariants: `STREAM-1` a write on which the peer makes no progress for [`Waits::write`] fails; `STREAM-2` while no
//! request is under way, a head that began must end within [`Waits::head`] of its first byte, the first one of a
//! connection within as much of its start, and a connection without a head ends after [`Waits::idle`]; `STREAM-3` after
//! the end of writing, what the peer still sends is read and dropped for at most [`LINGER`] and [`LINGER_BYTES_MAX`]: a
//! socket that is closed with unread bytes resets the connection, and a client that is still sending a refused body
//! would lose the answer. HTTP/2 multiplexes, so `STREAM-2` holds until its first request; pings come after.
//! Bodies have their limit in the handlers that read them.

use super::activity::Activity;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long the peer is waited for after the end of writing.
const LINGER: Duration = Duration::from_secs(1);
/// How much of the peer's is dropped after the end of writing.
const LINGER_BYTES_MAX: usize = 64 << 20;
const LINGER_READ_BYTES: usize = 16 * 1024;

/// Up to this size what is written in several pieces is copied into one: the system needs longer for a vectored write.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// How long a connection waits for its peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// For progress of a write.
    pub(super) write: Duration,
    /// For the end of a head that began.
    pub(super) head: Duration,
    /// For the next head to begin.
    pub(super) idle: Duration,
}

/// What a read waits for while no request is under way, after so many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Head(u64),
    Idle(u64),
}

/// A stream with time limits on what the peer does.
pub(super) struct TimedStream<S> {
    inner: S,
    waits: Waits,
    activity: Arc<Activity>,
    /// After how many requests the last bytes came that belong to none of them.
    head_after: Option<u64>,
    /// What `read_end` runs for.
    awaited: Option<Awaited>,
    read_end: Option<Pin<Box<Sleep>>>,
    /// Runs while a write makes no progress.
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Linger>,
}

/// The time between the end of writing and the end of the connection.
struct Linger {
    end: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> TimedStream<S> {
    pub(super) fn new(inner: S, waits: Waits, activity: Arc<Activity>) -> Self {
        Self {
            inner,
            waits,
            activity,
            head_after: None,
            awaited: None,
            read_end: None,
            stalled: None,
            lingering: None,
        }
    }

    /// Passes a write's outcome on, unless it has been pending for too long.
    fn within_time<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let write_wait = self.waits.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_wait)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }

    /// As [`Self::within_time`]; an answer that is still being written is no idleness.
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

    /// Ends a read that waits for too long: an idle connection as if the peer had closed it, half a head as an error.
    fn read_within_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(requests) = self.activity.requests_if_quiet() else {
            self.awaited = None;
            return Poll::Pending;
        };
        let is_head = requests == 0 || self.head_after == Some(requests);
        let (awaited, wait) = if is_head {
            (Awaited::Head(requests), self.waits.head)
        } else {
            (Awaited::Idle(requests), self.waits.idle)
        };
        let read_end = match &mut self.read_end {
            Some(read_end) if self.awaited == Some(awaited) => read_end,
            Some(read_end) => {
                read_end.as_mut().reset(Instant::now() + wait);
                read_end
            }
            none => none.insert(Box::pin(sleep(wait))),
        };
        self.awaited = Some(awaited);
        ready!(read_end.as_mut().poll(cx));
        match awaited {
            Awaited::Idle(_) => Poll::Ready(Ok(())),
            Awaited::Head(_) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the head of a request does not end",
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
        let (mut whole, mut end) = ([0; COPIED_BYTES_MAX], 0);
        for buf in bufs {
            whole[end..end + buf.len()].copy_from_slice(buf);
            end += buf.len();
        }
        self.poll_write(cx, &whole[..bytes])
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

    fn stream<S>(inner: S, change: impl FnOnce(&mut Waits)) -> (TimedStream<S>, Arc<Activity>) {
        let mut waits = Waits { write: NEVER, head: NEVER, idle: NEVER };
        change(&mut waits);
        let activity = Arc::new(Activity::default());
        (TimedStream::new(inner, waits, activity.clone()), activity)
    }

    #[tokio::test]
    async fn a_write_that_nobody_reads_fails() {
        let (near, _far) = duplex(8);
        let (mut stream, _) = stream(near, |waits| waits.write = SOON);
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "STREAM-1");
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_whether_they_are_copied_into_one_or_not() {
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
    async fn a_reader_that_makes_progress_is_served() {
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
    async fn the_first_head_and_half_a_head_are_waited_for_shortly() {
        let (near, mut far) = duplex(8);
        let (mut stream, activity) = stream(near, |waits| waits.head = SOON);
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
        let (mut stream, activity) = stream(near, |waits| waits.idle = SOON);
        drop(activity.begin(false));
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "STREAM-2");
    }

    #[tokio::test]
    async fn a_request_under_way_and_http2_have_no_limit_here() {
        for is_http2 in [false, true] {
            let (near, mut far) = duplex(8);
            let (mut stream, activity) =
                stream(near, |waits| (waits.head, waits.idle) = (Duration::ZERO, Duration::ZERO));
            let under_way = activity.begin(is_http2);
            let under_way = (!is_http2).then_some(under_way);
            let sender = tokio::spawn(async move {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                far.write_all(b"body").await
            });
            let mut body = [0; 4];
            stream.read_exact(&mut body).await.unwrap();
            sender.await.unwrap().unwrap();
            drop(under_way);
        }
    }

    #[tokio::test]
    async fn the_end_takes_what_the_peer_still_sends_but_does_not_wait_for_ever() {
        let (near, mut far) = duplex(8);
        let (mut near, _) = stream(near, |_| ());
        let sender = tokio::spawn(async move { far.write_all(&[0; 640]).await });
        near.shutdown().await.unwrap();
        sender.await.unwrap().unwrap();
        let (near, _silent) = duplex(8);
        stream(near, |_| ()).0.shutdown().await.unwrap();
    }
}
