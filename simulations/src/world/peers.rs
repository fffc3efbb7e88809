//! The simulated links between nodes, in place of ractor_cluster.
//!
//! Invariants: `SIM-PEERS-1` it keeps the contract of [`PeerTransport`]: a call ends within its
//! time limit, and after `Unreachable` nothing was sent; `SIM-PEERS-2` messages may be delayed and
//! overtake each other; a message is lost only with its link, as over TCP: every call in flight on
//! the link ends as unknown, and the link is down for a while; `SIM-PEERS-3` the same happens to a
//! link that is cut, or whose other end is frozen, once pings would notice; `SIM-PEERS-4` only
//! messages that nodes repeat themselves arrive twice; `SIM-PEERS-5` some links of a node that
//! joins a running cluster come up late, each after a time of its own.

use super::HostId;
use super::network::Network;
use crate::trace::{BytesDigest, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use triggers_actors::cluster::{LinkState, PeerError, PeerService, PeerTransport};
use triggers_protocol::lock::lock;
use triggers_protocol::peer::PeerRequest;
use triggers_store::kv::BoxFuture;
use triggers_store::kv::simulated::Stream;

/// Silence after which pings would declare a link lost.
const LINK_LOST_AFTER: Duration = Duration::from_millis(300);
/// Time for which a broken link is down.
const LINK_BACK_AFTER: Duration = Duration::from_millis(100);

/// Nodes that start before this time are the first ones of the cluster.
const FIRST_START: Duration = Duration::from_millis(300);
/// Share of the links of a joining node that come up late, per mille.
const LATE_LINKS_PER_MILLE: u32 = 700;

/// Probabilities of faults of messages between nodes, per mille.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageFaults {
    /// The message is lost, and its link breaks.
    pub dropped: u32,
    /// The message is delivered twice, if it is one that nodes repeat themselves.
    pub duplicated: u32,
    /// The message is late, so that others overtake it.
    pub delayed: u32,
}

/// The links of all nodes; cheap to clone.
#[derive(Clone)]
pub struct PeerNetwork {
    pub network: Network,
    inner: Arc<Mutex<PeerNetworkState>>,
}

struct PeerNetworkState {
    now: Duration,
    faults: MessageFaults,
    /// How often each fault fired.
    fired: BTreeMap<&'static str, u64>,
    dropped: Stream,
    duplicated: Stream,
    delayed: Stream,
    delay_ms: Stream,
    late: Stream,
    late_ms_max: u64,
    trace: Trace,
    peers: BTreeMap<String, Peer>,
    messages: BTreeMap<(Duration, u64), Message>,
    calls: BTreeMap<u64, Call>,
    last: u64,
    frozen: BTreeSet<HostId>,
    /// Time since which a pair of hosts cannot communicate.
    silent: BTreeMap<HostPair, Duration>,
    /// Time until which the link of a pair of hosts is down.
    broken: BTreeMap<HostPair, Duration>,
}

/// The two ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HostPair {
    low: HostId,
    high: HostId,
}

impl HostPair {
    fn new(one: HostId, other: HostId) -> Self {
        Self { low: one.min(other), high: one.max(other) }
    }

    fn contains(self, host: HostId) -> bool {
        self.low == host || self.high == host
    }
}

/// A call in flight.
struct Call {
    pair: HostPair,
    caller: oneshot::Sender<Vec<u8>>,
}

struct Peer {
    host: HostId,
    boot: u32,
    service: Arc<dyn PeerService>,
    runtime: Handle,
}

#[derive(Clone)]
struct Message {
    from_host: HostId,
    from: String,
    to: String,
    call: u64,
    body: Vec<u8>,
    is_reply: bool,
}

impl PeerNetworkState {
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Lets some links of a node that joins come up late (`SIM-PEERS-5`).
    fn delay_links(&mut self, host: HostId) {
        if self.now < FIRST_START || self.late_ms_max == 0 {
            return;
        }
        let others: BTreeSet<HostId> = self.peers.values().map(|peer| peer.host).collect();
        for other in others.into_iter().filter(|other| *other != host) {
            let half = self.late_ms_max / 2;
            let up_after = Duration::from_millis(half + self.late.below(half));
            if self.late.hit(LATE_LINKS_PER_MILLE) {
                *self.fired.entry("link late").or_default() += 1;
                self.broken.insert(HostPair::new(host, other), self.now + up_after);
            }
        }
    }

    fn queue(&mut self, due: Duration, message: Message) {
        let number = self.next_number();
        self.messages.insert((due, number), message);
    }
}

impl PeerNetwork {
    /// Creates the links over a network, whose latency and cuts they share.
    pub fn new(seed: u64, late_ms_max: u64, network: Network, trace: Trace) -> Self {
        let inner = PeerNetworkState {
            now: Duration::ZERO,
            faults: MessageFaults::default(),
            fired: BTreeMap::new(),
            dropped: Stream::new(seed, 111),
            duplicated: Stream::new(seed, 112),
            delayed: Stream::new(seed, 113),
            delay_ms: Stream::new(seed, 114),
            late: Stream::new(seed, 115),
            late_ms_max,
            trace,
            peers: BTreeMap::new(),
            messages: BTreeMap::new(),
            calls: BTreeMap::new(),
            last: 0,
            frozen: BTreeSet::new(),
            silent: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        Self { network, inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, PeerNetworkState> {
        lock(&self.inner)
    }

    pub fn set_faults(&self, faults: MessageFaults) {
        self.lock().faults = faults;
    }

    /// Lets all late and broken links come up.
    pub fn heal(&self) {
        self.lock().broken.clear();
    }

    /// How often each kind of fault fired.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.lock().fired.clone()
    }

    /// Adds a node that others call as `peer`. Its service runs in the current runtime.
    pub fn join(&self, host: HostId, peer: &str, service: Arc<dyn PeerService>) -> SimTransport {
        let boot = self.network.boot(host).unwrap_or_default();
        let node = Peer { host, boot, service, runtime: Handle::current() };
        let mut inner = self.lock();
        inner.delay_links(host);
        inner.peers.insert(peer.to_owned(), node);
        drop(inner);
        let (peers, peer) = (self.clone(), peer.to_owned());
        SimTransport { peers, host, peer, known_peers: Mutex::default() }
    }

    pub fn process_ended(&self, host: HostId) {
        let mut inner = self.lock();
        inner.peers.retain(|_, peer| peer.host != host);
        inner.calls.retain(|_, call| !call.pair.contains(host));
    }

    pub fn set_frozen(&self, host: HostId, is_frozen: bool) {
        let mut inner = self.lock();
        match is_frozen {
            true => inner.frozen.insert(host),
            false => inner.frozen.remove(&host),
        };
    }

    /// Breaks the links that have been silent for too long.
    fn break_silent_links(&self, now: Duration) {
        let mut inner = self.lock();
        let pairs: BTreeSet<HostPair> = inner.calls.values().map(|call| call.pair).collect();
        for pair in pairs {
            if self.is_silent(&inner, pair) {
                let since = *inner.silent.entry(pair).or_insert(now);
                if now.saturating_sub(since) >= LINK_LOST_AFTER {
                    inner.calls.retain(|_, call| call.pair != pair);
                }
            } else {
                inner.silent.remove(&pair);
            }
        }
    }

    fn is_silent(&self, inner: &PeerNetworkState, HostPair { low, high }: HostPair) -> bool {
        inner.frozen.contains(&low)
            || inner.frozen.contains(&high)
            || self.network.is_cut(low, high)
            || self.network.is_cut(high, low)
    }

    pub fn deliver(&self, now: Duration) {
        self.break_silent_links(now);
        loop {
            let mut inner = self.lock();
            inner.now = now;
            let Some(first) = inner.messages.first_entry() else { return };
            if first.key().0 > now {
                return;
            }
            let message = first.remove();
            drop(inner);
            self.arrive(now, message);
        }
    }

    fn arrive(&self, now: Duration, message: Message) {
        let mut inner = self.lock();
        let Some(peer) = inner.peers.get(&message.to) else { return };
        let (host, runtime, service) = (peer.host, peer.runtime.clone(), peer.service.clone());
        if self.network.boot(host) != Some(peer.boot)
            || self.network.is_cut(message.from_host, host)
        {
            return;
        }
        let kind = if message.is_reply { "reply" } else { "call" };
        let Message { from, to, call, body, is_reply, .. } = message;
        let digest = BytesDigest(&body);
        let text = format_args!("{kind} {call} {from} to {to}: {digest}");
        inner.trace.note(now, "peers", text);
        if is_reply {
            if let Some(call) = inner.calls.remove(&call) {
                // The caller may have given up.
                let _ = call.caller.send(body);
            }
            return;
        }
        drop(inner);
        let peers = self.clone();
        runtime.spawn(async move {
            let reply = service.serve(from.clone(), body).await;
            let reply =
                Message { from_host: host, from: to, to: from, call, body: reply, is_reply: true };
            peers.send(reply, false);
        });
    }

    fn send(&self, message: Message, is_repeatable: bool) {
        let latency = self.network.latency();
        let mut inner = self.lock();
        let MessageFaults { dropped, duplicated, delayed } = inner.faults;
        // Every message draws from all streams, so that one kind of fault does not shift another.
        let is_dropped = inner.dropped.hit(dropped);
        let is_duplicated = inner.duplicated.hit(duplicated) && is_repeatable;
        let is_delayed = inner.delayed.hit(delayed);
        let delay = Duration::from_millis(inner.delay_ms.below(200));
        if is_dropped {
            *inner.fired.entry("message dropped").or_default() += 1;
            if let Some(pair) = inner.calls.get(&message.call).map(|call| call.pair) {
                let PeerNetworkState { calls, messages, .. } = &mut *inner;
                let is_broken = |call: &Call| call.pair == pair;
                messages.retain(|_, message| !calls.get(&message.call).is_some_and(is_broken));
                calls.retain(|_, call| !is_broken(call));
                let back = inner.now + LINK_BACK_AFTER;
                inner.broken.insert(pair, back);
            }
            return;
        }
        let mut due = inner.now + latency;
        if is_delayed {
            *inner.fired.entry("message delayed").or_default() += 1;
            due += delay;
        }
        if is_duplicated {
            *inner.fired.entry("message duplicated").or_default() += 1;
            inner.queue(due + latency, message.clone());
        }
        inner.queue(due, message);
    }

    /// Whether the link is up: its other end runs, and it was not silent for too long.
    fn is_linked(&self, from: HostId, to: &str) -> bool {
        let mut inner = self.lock();
        let Some(peer) = inner.peers.get(to) else { return false };
        let pair = HostPair::new(from, peer.host);
        let is_gone = self.network.boot(peer.host) != Some(peer.boot);
        if is_gone || inner.broken.get(&pair).is_some_and(|until| inner.now < *until) {
            return false;
        }
        if self.is_silent(&inner, pair) {
            let now = inner.now;
            let since = *inner.silent.entry(pair).or_insert(now);
            return now.saturating_sub(since) < LINK_LOST_AFTER;
        }
        inner.silent.remove(&pair);
        true
    }

    fn host_of(&self, peer: &str) -> Option<HostId> {
        self.lock().peers.get(peer).map(|peer| peer.host)
    }
}

/// The links of one node to the others.
pub struct SimTransport {
    peers: PeerNetwork,
    host: HostId,
    peer: String,
    known_peers: Mutex<BTreeSet<String>>,
}

impl SimTransport {
    fn known_peers(&self) -> MutexGuard<'_, BTreeSet<String>> {
        lock(&self.known_peers)
    }
}

impl PeerTransport for SimTransport {
    fn call<'a>(
        &'a self,
        peer: &'a str,
        message: Vec<u8>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, PeerError>> {
        Box::pin(async move {
            let Some(host) = self.peers.host_of(peer) else { return Err(PeerError::Unreachable) };
            if !self.known_peers().contains(peer) || !self.peers.is_linked(self.host, peer) {
                return Err(PeerError::Unreachable);
            }
            let is_repeatable = matches!(
                PeerRequest::decode(&message),
                Ok(PeerRequest::Ping
                    | PeerRequest::Prepare { .. }
                    | PeerRequest::Serve { .. }
                    | PeerRequest::Close { .. })
            );
            let (caller, reply) = oneshot::channel();
            let call = {
                let mut inner = self.peers.lock();
                let call = inner.next_number();
                inner.calls.insert(call, Call { pair: HostPair::new(self.host, host), caller });
                call
            };
            let sent = Message {
                from_host: self.host,
                from: self.peer.clone(),
                to: peer.to_owned(),
                call,
                body: message,
                is_reply: false,
            };
            self.peers.send(sent, is_repeatable);
            let answer = timeout(limit, reply).await;
            self.peers.lock().calls.remove(&call);
            answer.ok().and_then(Result::ok).ok_or(PeerError::Unknown)
        })
    }

    fn update_peers(&self, peers: BTreeMap<String, String>) {
        *self.known_peers() = peers.into_keys().collect();
    }

    fn links(&self) -> BTreeMap<String, LinkState> {
        let known_peers = self.known_peers().clone();
        let state = |peer: String| match self.peers.is_linked(self.host, &peer) {
            true => (peer, LinkState::Up),
            false => (peer, LinkState::Down),
        };
        known_peers.into_iter().map(state).collect()
    }
}
