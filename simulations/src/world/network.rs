//! The simulated network: TCP connections between hosts, with latency and cut links.
//!
//! ```text
//! SimStream ─ write ─▶ packet, due after the latency ─ deliver, between two steps ─▶ other end
//! ```
//! Invariants: `NETWORK-1` bytes sent in a step arrive in a later step, in order; `NETWORK-2` a cut
//! link delays everything sent over it until the link is restored, as retransmission does, and a
//! link that is cut one way carries the other way; `NETWORK-3` a process that ends resets its
//! connections; a machine that loses power sends nothing, and resets old connections once it is
//! back. Lost packets are not modelled: TCP shows them as delay. Messages between nodes are in
//! [`super::peers`].

mod stream;

pub use stream::{SimListener, SimStream};

use super::HostId;
use crate::trace::{BytesDigest, Trace};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;
use triggers_protocol::lock::lock;
use triggers_store::kv::simulated::Stream;

/// Bytes that one end may send before the other end reads.
const WINDOW_BYTES: usize = 64 * 1024;
/// Delay after which a packet on a cut link is sent again.
const RETRANSMIT: Duration = Duration::from_millis(100);

/// The network; cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Mutex<NetworkState>>);

struct NetworkState {
    now: Duration,
    step: Duration,
    latency: Stream,
    /// Upper bound on the steps that a packet takes.
    steps_max: u64,
    trace: Trace,
    /// Boot number of each running process.
    running: BTreeMap<HostId, u32>,
    /// Machines without power, which do not answer at all.
    silent: BTreeSet<HostId>,
    cuts: BTreeSet<(HostId, HostId)>,
    /// Hosts that lack descriptors.
    exhausted: BTreeSet<HostId>,
    listeners: BTreeMap<SocketAddr, ListenQueue>,
    connections: BTreeMap<u64, [Endpoint; 2]>,
    packets: BTreeMap<(Duration, u64), Packet>,
    last_connection: u64,
    last_packet: u64,
    last_port: u16,
}

struct ListenQueue {
    host: HostId,
    boot: u32,
    accepted: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

struct Endpoint {
    host: HostId,
    boot: u32,
    address: SocketAddr,
    is_open: bool,
    inbox: VecDeque<Bytes>,
    /// Bytes sent to this end and not read yet.
    unread: usize,
    is_ended: bool,
    failure: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Time at which the last packet to this end is due; later packets do not overtake it.
    last_due: Duration,
}

struct Packet {
    connection: u64,
    to: usize,
    kind: Segment,
}

enum Segment {
    Open,
    Opened,
    Data(Bytes),
    End,
    Reset,
}

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
    /// Creates a network whose packets take one to `steps_max` steps.
    pub fn new(seed: u64, step: Duration, steps_max: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(NetworkState {
            now: Duration::ZERO,
            step,
            latency: Stream::new(seed, 101),
            steps_max,
            trace,
            running: BTreeMap::new(),
            silent: BTreeSet::new(),
            cuts: BTreeSet::new(),
            exhausted: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            packets: BTreeMap::new(),
            last_connection: 0,
            last_packet: 0,
            last_port: 20_000,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, NetworkState> {
        lock(&self.0)
    }

    pub fn process_began(&self, host: HostId, boot: u32) {
        let mut inner = self.lock();
        inner.running.insert(host, boot);
        inner.silent.remove(&host);
    }

    /// Records that the process of a host ended, because its machine lost power if so stated.
    pub fn process_ended(&self, host: HostId, is_power_lost: bool) {
        let mut inner = self.lock();
        inner.running.remove(&host);
        inner.listeners.retain(|_, queue| queue.host != host);
        if is_power_lost {
            inner.silent.insert(host);
        }
        let ids: Vec<u64> = inner.connections.keys().copied().collect();
        for (id, side) in ids.into_iter().flat_map(|id| [(id, 0), (id, 1)]) {
            let Some(own) = inner.side(id, side).ok().filter(|own| own.host == host) else {
                continue;
            };
            own.is_open = false;
            if !is_power_lost {
                inner.send(id, 1 - side, Segment::Reset);
            }
        }
    }

    pub fn set_steps_max(&self, steps_max: u64) {
        self.lock().steps_max = steps_max;
    }

    pub fn set_cut(&self, from: HostId, to: HostId, is_cut: bool) {
        let mut inner = self.lock();
        match is_cut {
            true => inner.cuts.insert((from, to)),
            false => inner.cuts.remove(&(from, to)),
        };
    }

    /// Lets a host lack descriptors for connections to webhook receivers, or not any more.
    pub fn set_exhausted(&self, host: HostId, is_exhausted: bool) {
        let mut inner = self.lock();
        match is_exhausted {
            true => inner.exhausted.insert(host),
            false => inner.exhausted.remove(&host),
        };
    }

    pub fn is_exhausted(&self, host: HostId) -> bool {
        self.lock().exhausted.contains(&host)
    }

    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.lock().cuts.contains(&(from, to))
    }

    /// Boot number of the process that runs on a host, if one does.
    pub fn boot(&self, host: HostId) -> Option<u32> {
        self.lock().running.get(&host).copied()
    }

    pub fn latency(&self) -> Duration {
        self.lock().draw_latency()
    }

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

    pub fn listen(&self, host: HostId, port: u16) -> SimListener {
        let address = address_of(host, port);
        let boot = self.boot(host).unwrap_or_default();
        let queue = ListenQueue { host, boot, accepted: VecDeque::new(), waker: None };
        self.lock().listeners.insert(address, queue);
        SimListener { network: self.clone(), address, boot }
    }

    /// Opens a connection. Fails if no process listens there, and may never return: callers set
    /// their own deadline.
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

impl NetworkState {
    fn side(&mut self, connection: u64, side: usize) -> io::Result<&mut Endpoint> {
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
        let side = |host, boot, address| Endpoint {
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
        self.send(self.last_connection, 1, Segment::Open);
        self.last_connection
    }

    /// Sends a packet to one end of a connection.
    fn send(&mut self, connection: u64, to: usize, kind: Segment) {
        let earliest = self.now + self.draw_latency();
        let Ok(side) = self.side(connection, to) else { return };
        side.last_due = side.last_due.max(earliest);
        let due = side.last_due;
        self.queue(due, Packet { connection, to, kind });
    }

    fn queue(&mut self, due: Duration, packet: Packet) {
        self.last_packet += 1;
        self.packets.insert((due, self.last_packet), packet);
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { connection, to, kind } = packet;
        let Some(sides) = self.connections.get(&connection) else { return };
        let (from, host) = (sides[1 - to].host, sides[to].host);
        if self.cuts.contains(&(from, host)) {
            // Later packets are due even later, so the order stays.
            let due = self.now + RETRANSMIT;
            self.queue(due, Packet { connection, to, kind });
            if let Ok(side) = self.side(connection, to) {
                side.last_due = side.last_due.max(due);
            }
            return;
        }
        if self.silent.contains(&host) {
            return;
        }
        match kind {
            Segment::Open => return self.accept(connection, host),
            Segment::Data(_) | Segment::End if !sides[to].is_open => {
                return self.send(connection, 1 - to, Segment::Reset);
            }
            _ => {}
        }
        if let Segment::Data(bytes) = &kind {
            let (address, digest) = (sides[to].address, BytesDigest(bytes));
            let text = format_args!("{connection} to {address}: {digest}");
            self.trace.note(self.now, "network", text);
        }
        let Ok(side) = self.side(connection, to) else { return };
        match kind {
            Segment::Open => {}
            Segment::Opened => side.is_open = true,
            Segment::Data(bytes) => side.inbox.push_back(bytes),
            Segment::End => side.is_ended = true,
            Segment::Reset => {
                side.failure = Some(match side.is_open {
                    true => io::ErrorKind::ConnectionReset,
                    false => io::ErrorKind::ConnectionRefused,
                });
                side.writer.take().into_iter().for_each(Waker::wake);
            }
        }
        side.reader.take().into_iter().for_each(Waker::wake);
    }

    fn accept(&mut self, connection: u64, host: HostId) {
        let Some([near, far]) = self.connections.get_mut(&connection) else { return };
        let peer = near.address;
        match self.listeners.get_mut(&far.address).filter(|queue| queue.host == host) {
            Some(queue) => {
                far.boot = queue.boot;
                far.is_open = true;
                queue.accepted.push_back((connection, peer));
                queue.waker.take().into_iter().for_each(Waker::wake);
                self.send(connection, 0, Segment::Opened);
            }
            None => self.send(connection, 0, Segment::Reset),
        }
    }

    fn close(&mut self, connection: u64, side: usize) {
        let Some(sides) = self.connections.get_mut(&connection) else { return };
        let own = &mut sides[side];
        // When a process ends, `process_ended` has already closed its connections.
        if own.is_open && self.running.get(&own.host) == Some(&own.boot) {
            let kind = if own.inbox.is_empty() { Segment::End } else { Segment::Reset };
            self.send(connection, 1 - side, kind);
        }
        if let Ok(own) = self.side(connection, side) {
            own.is_open = false;
            own.inbox.clear();
        }
    }
}

#[cfg(test)]
mod tests;
