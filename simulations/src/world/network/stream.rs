//! Listeners and connections of the simulated network.

use super::{Network, Segment, WINDOW_BYTES};
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Accepts the connections to one address.
pub struct SimListener {
    pub(super) network: Network,
    pub(super) address: SocketAddr,
    pub(super) boot: u32,
}

impl axum::serve::Listener for SimListener {
    type Io = SimStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SimStream, SocketAddr) {
        std::future::poll_fn(|cx| {
            let mut inner = self.network.lock();
            let Some(queue) = inner.listeners.get_mut(&self.address) else {
                return Poll::Pending;
            };
            let Some((connection, peer)) = queue.accepted.pop_front() else {
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            Poll::Ready((SimStream { network: self.network.clone(), connection, side: 1 }, peer))
        })
        .await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut inner = self.network.lock();
        if inner.listeners.get(&self.address).is_some_and(|queue| queue.boot == self.boot) {
            let queue = inner.listeners.remove(&self.address);
            for (connection, _) in queue.into_iter().flat_map(|queue| queue.accepted) {
                inner.close(connection, 1);
            }
        }
    }
}

/// One end of a connection.
pub struct SimStream {
    pub(super) network: Network,
    pub(super) connection: u64,
    /// 0 for the end that connected, 1 for the end that accepted.
    pub(super) side: usize,
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.network.lock();
        let side = inner.side(self.connection, self.side)?;
        if let Some(mut piece) = side.inbox.pop_front() {
            let taken = piece.split_to(piece.len().min(buffer.remaining()));
            buffer.put_slice(&taken);
            if !piece.is_empty() {
                side.inbox.push_front(piece);
            }
            side.unread = side.unread.saturating_sub(taken.len());
            let other = inner.side(self.connection, 1 - self.side)?;
            other.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
        if let Some(kind) = side.failure {
            return Poll::Ready(Err(kind.into()));
        }
        if side.is_ended {
            return Poll::Ready(Ok(()));
        }
        side.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.network.lock();
        let unread = inner.side(self.connection, 1 - self.side)?.unread;
        let side = inner.side(self.connection, self.side)?;
        if let Some(kind) = side.failure {
            return Poll::Ready(Err(kind.into()));
        }
        if !side.is_open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW_BYTES.saturating_sub(unread);
        if room == 0 {
            side.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let sent = bytes.len().min(room);
        inner.side(self.connection, 1 - self.side)?.unread += sent;
        let data = Segment::Data(Bytes::copy_from_slice(&bytes[..sent]));
        inner.send(self.connection, 1 - self.side, data);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.network.lock();
        let side = inner.side(self.connection, self.side)?;
        if side.is_open && side.failure.is_none() {
            inner.send(self.connection, 1 - self.side, Segment::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut inner = self.network.lock();
        inner.close(self.connection, self.side);
        let is_closed = inner
            .connections
            .get(&self.connection)
            .is_some_and(|sides| sides.iter().all(|side| !side.is_open));
        let has_packets = inner.packets.values().any(|packet| packet.connection == self.connection);
        if is_closed && !has_packets {
            inner.connections.remove(&self.connection);
        }
    }
}
