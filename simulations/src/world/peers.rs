//! The simulated way between members: what ractor_cluster is in production.
//!
//! Invariants: `SIM-PEERS-1` it keeps the contract of [`PeerTransport`]: a call ends within its time, after `Unreachable`
//! nothing was sent; `SIM-PEERS-2` messages may be delayed and overtake each other; a message is lost with its link, as
//! over TCP: every call under way on it ends as unknown, and for a while there is none; `SIM-PEERS-3` so it is with a link that is
//! cut, or whose other end stands still, for as long as pings take to notice; `SIM-PEERS-4` only messages that members
//! repeat themselves arrive twice.

use super::HostId;
use super::network::Network;
use crate::trace::{Digest, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use triggers_actors::cluster::transport::{LinkState, PeerError, PeerService, PeerTransport};
use triggers_protocol::peer::PeerRequest;
use triggers_store::kv::BoxFuture;
use triggers_store::kv::simulated::Stream;

/// After so long without an answer a link is given up.
const LINK_LOST_AFTER: Duration = Duration::from_millis(300);
/// A link that broke is there again after so long.
const LINK_BACK_AFTER: Duration = Duration::from_millis(100);

/// How messages fare; per mille of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Lost, with their link.
    pub dropped: u32,
    /// Delivered twice, if members repeat them themselves.
    pub duplicated: u32,
    /// Late, so that others overtake them.
    pub delayed: u32,
}

/// How often each has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeatherFired {
    /// Messages lost.
    pub dropped: u64,
    /// Messages delivered twice.
    pub duplicated: u64,
    /// Messages that came late.
    pub delayed: u64,
}

/// All members' links; cheap to clone.
#[derive(Clone)]
pub struct PeerNetwork {
    network: Network,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    now: Duration,
    weather: Weather,
    fired: WeatherFired,
    luck: [Stream; 4],
    trace: Trace,
    members: BTreeMap<String, Member>,
    messages: BTreeMap<(Duration, u64), Message>,
    calls: BTreeMap<u64, Call>,
    last: u64,
    /// Hosts that stand still.
    frozen: BTreeSet<HostId>,
    /// Since when a pair of hosts has not been able to speak.
    silent: BTreeMap<(HostId, HostId), Duration>,
    /// Until when a pair of hosts has no link.
    broken: BTreeMap<(HostId, HostId), Duration>,
}

/// A call under way.
struct Call {
    pair: (HostId, HostId),
    caller: oneshot::Sender<Vec<u8>>,
}

struct Member {
    host: HostId,
    boot: u32,
    service: Arc<dyn PeerService>,
    runtime: Handle,
}

struct Message {
    from: (HostId, String),
    to: String,
    call: u64,
    body: Vec<u8>,
    is_reply: bool,
}

impl PeerNetwork {
    /// Links over the network.
    pub fn new(seed: u64, network: Network, trace: Trace) -> Self {
        let luck = [111, 112, 113, 114].map(|kind| Stream::new(seed, kind));
        let inner = Inner {
            now: Duration::ZERO,
            weather: Weather::default(),
            fired: WeatherFired::default(),
            luck,
            trace,
            members: BTreeMap::new(),
            messages: BTreeMap::new(),
            calls: BTreeMap::new(),
            last: 0,
            frozen: BTreeSet::new(),
            silent: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        Self { network, inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how messages fare from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// How often each kind of fault has come.
    pub fn fired(&self) -> WeatherFired {
        self.lock().fired
    }

    /// A member that is called as `peer`; its service answers in the runtime that this is called in.
    pub fn join(&self, host: HostId, peer: &str, service: Arc<dyn PeerService>) -> SimTransport {
        let boot = self.network.boot(host).unwrap_or_default();
        let member = Member { host, boot, service, runtime: Handle::current() };
        self.lock().members.insert(peer.to_owned(), member);
        SimTransport { peers: self.clone(), host, peer: peer.to_owned(), met: Mutex::default() }
    }

    /// A process has ended, and with it its members.
    pub fn process_ended(&self, host: HostId) {
        let mut inner = self.lock();
        inner.members.retain(|_, member| member.host != host);
        inner.calls.retain(|_, call| call.pair.0 != host && call.pair.1 != host);
    }

    /// A host stands still, or goes on.
    pub fn set_frozen(&self, host: HostId, is_frozen: bool) {
        let mut inner = self.lock();
        if is_frozen {
            inner.frozen.insert(host);
        } else {
            inner.frozen.remove(&host);
        }
    }

    /// Breaks the links that have been silent for too long.
    fn notice(&self, now: Duration) {
        let mut inner = self.lock();
        let pairs: BTreeSet<(HostId, HostId)> =
            inner.calls.values().map(|call| call.pair).collect();
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

    fn is_silent(&self, inner: &Inner, (one, other): (HostId, HostId)) -> bool {
        inner.frozen.contains(&one)
            || inner.frozen.contains(&other)
            || self.network.is_cut(one, other)
            || self.network.is_cut(other, one)
    }

    /// Delivers what is due.
    pub fn deliver(&self, now: Duration) {
        self.notice(now);
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
        let Some(member) = inner.members.get(&message.to) else { return };
        let (host, runtime, service) =
            (member.host, member.runtime.clone(), member.service.clone());
        if self.network.boot(host) != Some(member.boot) || self.network.is_cut(message.from.0, host)
        {
            return;
        }
        let kind = if message.is_reply { "reply" } else { "call" };
        let Message { from, to, call, body, is_reply } = message;
        inner.trace.note(
            now,
            "peers",
            format_args!("{kind} {call} {} to {to}: {}", from.1, Digest(&body)),
        );
        if is_reply {
            if let Some(call) = inner.calls.remove(&call) {
                // Who called may have given up.
                let _ = call.caller.send(body);
            }
            return;
        }
        drop(inner);
        let peers = self.clone();
        runtime.spawn(async move {
            let reply = service.serve(from.1.clone(), body).await;
            peers.send(
                Message { from: (host, to), to: from.1, call, body: reply, is_reply: true },
                false,
            );
        });
    }

    fn send(&self, message: Message, is_repeatable: bool) {
        let latency = self.network.latency();
        let mut inner = self.lock();
        let Weather { dropped, duplicated, delayed } = inner.weather;
        // Each draws each time, so that they do not shift each other.
        let is_dropped = inner.luck[0].hit(dropped);
        let is_duplicated = inner.luck[1].hit(duplicated) && is_repeatable;
        let is_delayed = inner.luck[2].hit(delayed);
        let delay = Duration::from_millis(inner.luck[3].below(200));
        if is_dropped {
            inner.fired.dropped += 1;
            let pair = inner.calls.get(&message.call).map(|call| call.pair);
            if let Some(pair) = pair {
                let back = inner.now + LINK_BACK_AFTER;
                inner.broken.insert(pair, back);
                let broken: Vec<u64> = inner
                    .calls
                    .iter()
                    .filter(|(_, call)| call.pair == pair)
                    .map(|(number, _)| *number)
                    .collect();
                inner.messages.retain(|_, message| !broken.contains(&message.call));
                inner.calls.retain(|_, call| call.pair != pair);
            }
            return;
        }
        let mut due = inner.now + latency;
        if is_delayed {
            inner.fired.delayed += 1;
            due += delay;
        }
        if is_duplicated {
            inner.fired.duplicated += 1;
            let Message { from, to, call, body, is_reply } = &message;
            let twin = Message {
                from: from.clone(),
                to: to.clone(),
                call: *call,
                body: body.clone(),
                is_reply: *is_reply,
            };
            inner.last += 1;
            let key = (due + latency, inner.last);
            inner.messages.insert(key, twin);
        }
        inner.last += 1;
        let key = (due, inner.last);
        inner.messages.insert(key, message);
    }

    /// Whether there is a link: not to a process that has ended, nor over one that has been cut for long.
    fn is_linked(&self, from: HostId, to: &str) -> bool {
        let mut inner = self.lock();
        let Some(member) = inner.members.get(to) else { return false };
        let pair = pair(from, member.host);
        let is_gone = self.network.boot(member.host) != Some(member.boot);
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
        self.lock().members.get(peer).map(|member| member.host)
    }
}

/// Both ends of a link.
fn pair(one: HostId, other: HostId) -> (HostId, HostId) {
    (one.min(other), one.max(other))
}

/// One member's way to the others.
pub struct SimTransport {
    peers: PeerNetwork,
    host: HostId,
    peer: String,
    met: Mutex<BTreeSet<String>>,
}

impl SimTransport {
    fn met(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
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
            if !self.met().contains(peer) || !self.peers.is_linked(self.host, peer) {
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
                inner.last += 1;
                let call = inner.last;
                inner.calls.insert(call, Call { pair: pair(self.host, host), caller });
                call
            };
            let from = (self.host, self.peer.clone());
            let sent = Message { from, to: peer.to_owned(), call, body: message, is_reply: false };
            self.peers.send(sent, is_repeatable);
            let answer = timeout(limit, reply).await;
            self.peers.lock().calls.remove(&call);
            match answer {
                Ok(Ok(body)) => Ok(body),
                _ => Err(PeerError::Unknown),
            }
        })
    }

    fn meet(&self, peers: BTreeMap<String, String>) {
        *self.met() = peers.into_keys().collect();
    }

    fn links(&self) -> BTreeMap<String, LinkState> {
        let met = self.met().clone();
        let state = |peer: &str| {
            if self.peers.is_linked(self.host, peer) { LinkState::Up } else { LinkState::Down }
        };
        met.into_iter().map(|peer| (peer.clone(), state(&peer))).collect()
    }
}
