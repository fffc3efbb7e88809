//! The simulated way between members: what ractor_cluster is in production.
//!
//! Invariants: `SIM-PEERS-1` it keeps the contract of [`PeerTransport`]: a call ends within its time, after `Unreachable`
//! nothing was sent; `SIM-PEERS-2` messages may be delayed, overtake each other and be lost; only those that members repeat
//! themselves arrive twice, since a link in production gives no message twice.

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

/// How messages fare; per mille of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Lost.
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
    calls: BTreeMap<u64, oneshot::Sender<Vec<u8>>>,
    last: u64,
    /// Since when a pair of hosts has not been able to speak.
    lost: BTreeMap<(HostId, HostId), Duration>,
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
            lost: BTreeMap::new(),
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
        self.lock().members.retain(|_, member| member.host != host);
    }

    /// Delivers what is due.
    pub fn deliver(&self, now: Duration) {
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
        let (host, runtime, service) = (member.host, member.runtime.clone(), member.service.clone());
        if self.network.boot(host) != Some(member.boot) || self.network.is_cut(message.from.0, host) {
            return;
        }
        let kind = if message.is_reply { "reply" } else { "call" };
        let Message { from, to, call, body, is_reply } = message;
        inner.trace.note(now, "peers", format_args!("{kind} {call} {} to {to}: {}", from.1, Digest(&body)));
        if is_reply {
            if let Some(caller) = inner.calls.remove(&call) {
                // Who called may have given up.
                let _ = caller.send(body);
            }
            return;
        }
        drop(inner);
        let peers = self.clone();
        runtime.spawn(async move {
            let reply = service.serve(from.1.clone(), body).await;
            peers.send(Message { from: (host, to), to: from.1, call, body: reply, is_reply: true }, false);
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
        let (host, boot) = (member.host, member.boot);
        if self.network.boot(host) != Some(boot) {
            return false;
        }
        if self.network.is_cut(from, host) || self.network.is_cut(host, from) {
            let now = inner.now;
            let since = *inner.lost.entry((from, host)).or_insert(now);
            return now.saturating_sub(since) < LINK_LOST_AFTER;
        }
        inner.lost.remove(&(from, host));
        true
    }
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
            if !self.met().contains(peer) || !self.peers.is_linked(self.host, peer) {
                return Err(PeerError::Unreachable);
            }
            let is_repeatable = matches!(
                PeerRequest::decode(&message),
                Ok(PeerRequest::Ping | PeerRequest::Prepare { .. } | PeerRequest::Serve { .. } | PeerRequest::Close { .. })
            );
            let (caller, reply) = oneshot::channel();
            let call = {
                let mut inner = self.peers.lock();
                inner.last += 1;
                let call = inner.last;
                inner.calls.insert(call, caller);
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
        let state = |peer: &str| if self.peers.is_linked(self.host, peer) { LinkState::Up } else { LinkState::Down };
        met.into_iter().map(|peer| (peer.clone(), state(&peer))).collect()
    }
}
