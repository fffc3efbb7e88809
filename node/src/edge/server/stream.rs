//! A stream whose writes do not wait for ever and whose end does not cut off the answer before it.
//!
//! Invariants: `STREAM-1` a write on which the peer makes no progress for `write_timeout` fails; `STREAM-2` after the end
//! of writing, what the peer still sends is read and dropped for at most [`LINGER`] and [`LINGER_BYTES_MAX`]: a socket that
//! is closed with unread bytes resets the connection, and a client that is still sending a refused body would lose the
//! answer. Reads have no time limit here: heads and bodies have theirs.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the peer is waited for after the end of writing.
const LINGER: Duration = Duration::from_secs(1);
/// How much of the peer's is dropped after the end of writing.
const LINGER_BYTES_MAX: usize = 64 << 20;
const LINGER_READ_BYTES: usize = 16 * 1024;

/// A stream with time limits on writing and on its end.
pub(super) struct TimedStream<S> {
    inner: S,
    write_timeout: Duration,
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
    pub(super) fn new(inner: S, write_timeout: Duration) -> Self {
        Self { inner, write_timeout, stalled: None, lingering: None }
    }

    /// Passes a write's outcome on, unless it has been pending for too long.
    fn within_time<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let write_timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.within_time(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.within_time(outcome, cx)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_reads_fails() {
        let (near, _far) = duplex(8);
        let mut stream = TimedStream::new(near, Duration::from_secs(5));
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "STREAM-1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_makes_progress_is_served() {
        let (near, mut far) = duplex(8);
        let mut stream = TimedStream::new(near, Duration::from_secs(5));
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 64];
            for byte in bytes.chunks_mut(8) {
                sleep(Duration::from_secs(4)).await;
                far.read_exact(byte).await.unwrap();
            }
        });
        stream.write_all(&[0; 64]).await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_peer_but_not_for_ever() {
        let (near, mut far) = duplex(8);
        let mut stream = TimedStream::new(near, Duration::from_secs(5));
        let sender = tokio::spawn(async move {
            far.write_all(&[0; 640]).await.unwrap();
            far
        });
        stream.shutdown().await.unwrap();
        let far = sender.await.unwrap();
        drop(far);
        let (near, _far) = duplex(8);
        TimedStream::new(near, Duration::from_secs(5)).shutdown().await.unwrap();
    }
}
