//! The simulated network: TCP connections between hosts, with latency, and cut links.
//!
//! ```text
//! SimStream ─ write ─▶ packet, due after the latency ─ deliver, between two steps of the hosts ─▶ inbox of the other side
//! ```
//! Invariants: `NETWORK-1` what is sent in a step arrives in a later one, in its order; `NETWORK-2` a cut link delays what is
//! sent over it until it is mended, as retransmission does; a link that is cut one way carries the other way; `NETWORK-3` a
//! process that ends resets its connections; a machine that loses power says nothing, and resets what comes later.
//! It models no loss of single packets: TCP shows them as delay. Messages between members are in [`super::peers`].

use super::HostId;
use crate::trace::{Digest, Trace};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use triggers_store::kv::simulated::Stream;

/// Bytes that one side may have sent and the other not have read.
const WINDOW_BYTES: usize = 64 * 1024;
/// What crosses a cut link tries again after so long.
const RETRANSMIT: Duration = Duration::from_millis(100);

/// The network; cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Inner>>);

struct Inner {
    now: Duration,
    step: Duration,
    latency: Stream,
    /// Steps that a packet takes at most.
    steps_max: u64,
    trace: Trace,
    /// Processes that run: their boot.
    running: BTreeMap<HostId, u32>,
    /// Machines without power: nobody answers.
    silent: BTreeSet<HostId>,
    cuts: BTreeSet<(HostId, HostId)>,
    listeners: BTreeMap<SocketAddr, Waiting>,
    connections: BTreeMap<u64, [Side; 2]>,
    packets: BTreeMap<(Duration, u64), Packet>,
    last_connection: u64,
    last_packet: u64,
    last_port: u16,
}

struct Waiting {
    host: HostId,
    boot: u32,
    accepted: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

struct Side {
    host: HostId,
    boot: u32,
    address: SocketAddr,
    is_open: bool,
    inbox: VecDeque<Bytes>,
    /// Sent to this side and not read by it.
    unread: usize,
    is_ended: bool,
    failure: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// When the last packet to this side is due: none overtakes it.
    last_due: Duration,
}

#[derive(Clone)]
struct Packet {
    connection: u64,
    to: usize,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Open,
    Opened,
    Data(Bytes),
    End,
    Reset,
}

/// The address of a host.
pub fn address_of(host: HostId, port: u16) -> SocketAddr {
    let last = u8::try_from(host.0 + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), port)
}

fn host_of(address: SocketAddr) -> HostId {
    match address.ip() {
        IpAddr::V4(ip) => HostId(usize::from(ip.octets()[3]).saturating_sub(1)),
        IpAddr::V6(_) => HostId(usize::MAX),
    }
}

impl Network {
    /// A network whose packets take one to `steps_max` steps.
    pub fn new(seed: u64, step: Duration, steps_max: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: Duration::ZERO,
            step,
            latency: Stream::new(seed, 101),
            steps_max,
            trace,
            running: BTreeMap::new(),
            silent: BTreeSet::new(),
            cuts: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            packets: BTreeMap::new(),
            last_connection: 0,
            last_packet: 0,
            last_port: 20_000,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process has begun on a host.
    pub fn process_began(&self, host: HostId, boot: u32) {
        let mut inner = self.lock();
        inner.running.insert(host, boot);
        inner.silent.remove(&host);
    }

    /// A process has ended; with its machine if that has lost power.
    pub fn process_ended(&self, host: HostId, is_power_lost: bool) {
        let mut inner = self.lock();
        inner.running.remove(&host);
        inner.listeners.retain(|_, waiting| waiting.host != host);
        if is_power_lost {
            inner.silent.insert(host);
        }
        let ids: Vec<u64> = inner.connections.keys().copied().collect();
        for id in ids {
            for side in 0..2 {
                let is_own =
                    inner.connections.get(&id).is_some_and(|sides| sides[side].host == host);
                if is_own && !is_power_lost {
                    inner.send(id, 1 - side, Kind::Reset);
                }
                if let Some(sides) = inner.connections.get_mut(&id).filter(|_| is_own) {
                    sides[side].is_open = false;
                }
            }
        }
    }

    /// How long packets take: one to so many steps.
    pub fn set_steps_max(&self, steps_max: u64) {
        self.lock().steps_max = steps_max;
    }

    /// Cuts or mends what goes from one host to another.
    pub fn set_cut(&self, from: HostId, to: HostId, is_cut: bool) {
        let mut inner = self.lock();
        if is_cut {
            inner.cuts.insert((from, to));
        } else {
            inner.cuts.remove(&(from, to));
        }
    }

    /// Whether something can go from one host to another now.
    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.lock().cuts.contains(&(from, to))
    }

    /// Whether a process runs on a host, and which.
    pub fn boot(&self, host: HostId) -> Option<u32> {
        self.lock().running.get(&host).copied()
    }

    /// How long one way takes now.
    pub fn latency(&self) -> Duration {
        self.lock().draw_latency()
    }

    /// Delivers what is due.
    pub fn deliver(&self, now: Duration) {
        let mut inner = self.lock();
        inner.now = now;
        while let Some(first) = inner.packets.first_entry() {
            if first.key().0 > now {
                return;
            }
            let packet = first.remove();
            inner.arrive(packet);
        }
    }

    /// Listens on a port of a host.
    pub fn listen(&self, host: HostId, port: u16) -> SimListener {
        let address = address_of(host, port);
        let mut inner = self.lock();
        let boot = inner.running.get(&host).copied().unwrap_or_default();
        inner
            .listeners
            .insert(address, Waiting { host, boot, accepted: VecDeque::new(), waker: None });
        SimListener { network: self.clone(), address, boot }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Refused if nobody listens there. It may wait for ever: callers bring their own deadline.
    pub async fn connect(&self, from: HostId, to: SocketAddr) -> io::Result<SimStream> {
        let stream = self.lock().open(from, to);
        let stream = SimStream { network: self.clone(), connection: stream, side: 0 };
        std::future::poll_fn(|cx| {
            let mut inner = self.lock();
            let side = inner.side(stream.connection, 0)?;
            if let Some(kind) = side.failure {
                return Poll::Ready(Err(io::Error::from(kind)));
            }
            if side.is_open {
                return Poll::Ready(Ok(()));
            }
            side.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(stream)
    }
}

impl Inner {
    fn side(&mut self, connection: u64, side: usize) -> io::Result<&mut Side> {
        let sides = self.connections.get_mut(&connection);
        sides.map(|sides| &mut sides[side]).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn draw_latency(&mut self) -> Duration {
        let steps = 1 + self.latency.below(self.steps_max.max(1));
        self.step * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    fn open(&mut self, from: HostId, to: SocketAddr) -> u64 {
        self.last_connection += 1;
        self.last_port = self.last_port.checked_add(1).unwrap_or(20_000);
        let side = |host, boot, address| Side {
            host,
            boot,
            address,
            is_open: false,
            inbox: VecDeque::new(),
            unread: 0,
            is_ended: false,
            failure: None,
            reader: None,
            writer: None,
            last_due: Duration::ZERO,
        };
        let boot = self.running.get(&from).copied().unwrap_or_default();
        let near = side(from, boot, address_of(from, self.last_port));
        let far = side(host_of(to), 0, to);
        self.connections.insert(self.last_connection, [near, far]);
        self.send(self.last_connection, 1, Kind::Open);
        self.last_connection
    }

    /// Sends a packet to a side of a connection.
    fn send(&mut self, connection: u64, to: usize, kind: Kind) {
        let latency = self.draw_latency();
        let now = self.now;
        let Ok(side) = self.side(connection, to) else { return };
        side.last_due = side.last_due.max(now + latency);
        let due = side.last_due;
        self.last_packet += 1;
        self.packets.insert((due, self.last_packet), Packet { connection, to, kind });
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { connection, to, kind } = packet;
        let Some(sides) = self.connections.get(&connection) else { return };
        let (from, host) = (sides[1 - to].host, sides[to].host);
        if self.cuts.contains(&(from, host)) {
            // Behind everything that waits for the same: the order stays.
            let due = self.now + RETRANSMIT;
            self.last_packet += 1;
            self.packets.insert((due, self.last_packet), Packet { connection, to, kind });
            if let Ok(side) = self.side(connection, to) {
                side.last_due = side.last_due.max(due);
            }
            return;
        }
        if self.silent.contains(&host) {
            return;
        }
        match kind {
            Kind::Open => return self.accept(connection, host),
            Kind::Data(_) | Kind::End if !sides[to].is_open => {
                return self.send(connection, 1 - to, Kind::Reset);
            }
            _ => {}
        }
        if let Kind::Data(bytes) = &kind {
            let address = sides[to].address;
            self.trace.note(
                self.now,
                "network",
                format_args!("{connection} to {address}: {}", Digest(bytes)),
            );
        }
        let Ok(side) = self.side(connection, to) else { return };
        match kind {
            Kind::Open => {}
            Kind::Opened => side.is_open = true,
            Kind::Data(bytes) => side.inbox.push_back(bytes),
            Kind::End => side.is_ended = true,
            Kind::Reset => {
                let kind = if side.is_open {
                    io::ErrorKind::ConnectionReset
                } else {
                    io::ErrorKind::ConnectionRefused
                };
                side.failure = Some(kind);
                side.writer.take().into_iter().for_each(Waker::wake);
            }
        }
        side.reader.take().into_iter().for_each(Waker::wake);
    }

    fn accept(&mut self, connection: u64, host: HostId) {
        let Some([near, far]) = self.connections.get_mut(&connection) else { return };
        let peer = near.address;
        match self.listeners.get_mut(&far.address).filter(|waiting| waiting.host == host) {
            Some(waiting) => {
                far.boot = waiting.boot;
                far.is_open = true;
                waiting.accepted.push_back((connection, peer));
                waiting.waker.take().into_iter().for_each(Waker::wake);
                self.send(connection, 0, Kind::Opened);
            }
            None => self.send(connection, 0, Kind::Reset),
        }
    }

    fn close(&mut self, connection: u64, side: usize) {
        let Some(sides) = self.connections.get_mut(&connection) else { return };
        let own = &mut sides[side];
        // The connections of a process that has ended were closed with it.
        if own.is_open && self.running.get(&own.host) == Some(&own.boot) {
            let kind = if own.inbox.is_empty() { Kind::End } else { Kind::Reset };
            self.send(connection, 1 - side, kind);
        }
        if let Ok(own) = self.side(connection, side) {
            own.is_open = false;
            own.inbox.clear();
        }
    }
}

/// Accepts connections.
pub struct SimListener {
    network: Network,
    address: SocketAddr,
    boot: u32,
}

impl axum::serve::Listener for SimListener {
    type Io = SimStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SimStream, SocketAddr) {
        std::future::poll_fn(|cx| {
            let mut inner = self.network.lock();
            let Some(waiting) = inner.listeners.get_mut(&self.address) else {
                return Poll::Pending;
            };
            match waiting.accepted.pop_front() {
                Some((connection, peer)) => Poll::Ready((
                    SimStream { network: self.network.clone(), connection, side: 1 },
                    peer,
                )),
                None => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
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
        if inner.listeners.get(&self.address).is_some_and(|waiting| waiting.boot == self.boot) {
            let waiting = inner.listeners.remove(&self.address);
            for (connection, _) in waiting.into_iter().flat_map(|waiting| waiting.accepted) {
                inner.close(connection, 1);
            }
        }
    }
}

/// One side of a connection.
pub struct SimStream {
    network: Network,
    connection: u64,
    side: usize,
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
        inner.send(
            self.connection,
            1 - self.side,
            Kind::Data(Bytes::copy_from_slice(&bytes[..sent])),
        );
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.network.lock();
        let side = inner.side(self.connection, self.side)?;
        if side.is_open && side.failure.is_none() {
            inner.send(self.connection, 1 - self.side, Kind::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut inner = self.network.lock();
        inner.close(self.connection, self.side);
        let is_over = inner
            .connections
            .get(&self.connection)
            .is_some_and(|sides| sides.iter().all(|side| !side.is_open));
        let is_awaited = inner.packets.values().any(|packet| packet.connection == self.connection);
        if is_over && !is_awaited {
            inner.connections.remove(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests;
