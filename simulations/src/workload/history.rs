//! The history that clients and webhook receivers record: every operation with its times and its
//! answer, in the order in which they began.

use crate::plan::LeaseAction;
use crate::world::http::HttpAnswer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use triggers_protocol::EventStatus;
use triggers_protocol::lock::lock;

/// A request, with everything that the client chose when it sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCall {
    Send {
        number: u64,
        key: Option<String>,
        bytes: usize,
    },
    SendOther {
        number: u64,
        key: String,
    },
    SendBatch {
        numbers: Vec<u64>,
    },
    Acknowledge {
        id: String,
        token: Option<String>,
    },
    AcknowledgeBatch {
        ids: Vec<String>,
    },
    /// Leases events, of one type if it is named.
    Lease {
        limit: usize,
        visibility_seconds: u64,
        event_type: Option<u64>,
    },
    Extend {
        id: String,
        token: String,
        visibility_seconds: u64,
    },
    WrongToken {
        id: String,
        action: &'static str,
    },
    Nack {
        id: String,
        token: String,
    },
    /// Changes a lease as a whole, or the events of it by name.
    ChangeLease {
        lease: GrantedLease,
        action: LeaseAction,
        is_named: bool,
        visibility_seconds: u64,
    },
    Delete {
        id: String,
    },
    Replay {
        id: String,
    },
    ReplayFailed,
    Read {
        id: String,
    },
    Page {
        status: EventStatus,
        walk: u64,
        cursor: Option<String>,
    },
    Statistics,
    ListKeys,
    RevokeKey {
        id: String,
    },
    UseRevokedKey,
    Subscribe {
        target_url: String,
    },
    ListSubscriptions,
    Recover {
        id: String,
    },
}

impl ClientCall {
    /// Whether the request sends events without an idempotency key.
    pub fn has_no_key(&self) -> bool {
        matches!(self, Self::Send { key: None, .. } | Self::SendBatch { .. })
    }

    /// The idempotency key and the event number of a request that has a key.
    pub fn key_and_number(&self) -> Option<(&str, u64)> {
        match self {
            Self::Send { key: Some(key), number, .. } | Self::SendOther { key, number } => {
                Some((key, *number))
            }
            _ => None,
        }
    }
}

/// A request and its answer. A request without an answer may or may not have taken effect.
#[derive(Debug, Clone)]
pub struct CallRecord {
    pub begin: Duration,
    /// Time at which the client had the answer or gave up; [`Duration::MAX`] until then.
    pub end: Duration,
    pub tenant: usize,
    pub node: usize,
    pub call: ClientCall,
    /// HTTP status of the answer; none without a complete answer.
    pub status: Option<u16>,
    /// The answer says that it repeats an earlier one.
    pub is_replayed: bool,
    pub body: Value,
}

impl CallRecord {
    /// Whether the request may or may not have taken effect.
    pub fn is_unknown(&self) -> bool {
        self.status.is_none_or(|status| status >= 500 || status == 408)
    }

    pub fn is_done(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the request succeeded, or may have.
    pub fn may_have_happened(&self) -> bool {
        self.is_done() || self.is_unknown()
    }

    /// Whether the request is a replay of all failed events, or a recovery, that may have made some
    /// events wait again.
    pub fn may_replay_many(&self) -> bool {
        let count = match self.call {
            ClientCall::ReplayFailed => "replayed",
            ClientCall::Recover { .. } => "recovered",
            _ => return false,
        };
        self.is_unknown() || (self.is_done() && self.body[count] != 0)
    }

    /// Whether the request may have changed an event in one of these ways, as part of its lease.
    pub fn may_change_in_lease(&self, id: &str, actions: &[LeaseAction]) -> bool {
        let ClientCall::ChangeLease { lease, action, .. } = &self.call else { return false };
        let is_meant = actions.contains(action) && lease.events.iter().any(|event| event == id);
        let is_changed = || self.results().iter().any(|result| result["event_id"] == id);
        is_meant && (self.is_unknown() || (self.is_done() && is_changed()))
    }

    /// Whether the request was in progress at some time between `begin` and `end`.
    pub fn overlaps(&self, begin: Duration, end: Duration) -> bool {
        self.begin < end && self.end > begin
    }

    pub fn event_id(&self) -> Option<&str> {
        self.body["event_id"].as_str()
    }

    pub fn events(&self) -> &[Value] {
        self.body["events"].as_array().map_or(&[], Vec::as_slice)
    }

    pub fn results(&self) -> &[Value] {
        self.body["results"].as_array().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Display for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { begin, end, tenant, node, call, status, body, .. } = self;
        let has_ended = *end != Duration::MAX;
        let end = if has_ended { end.as_millis().to_string() } else { String::new() };
        let status = status.map_or("no answer".to_owned(), |status| status.to_string());
        let (begin, node) = (begin.as_millis(), node + 1);
        write!(f, "{begin:>6}-{end:<6} t-{tenant} at node {node}: {call:?} -> {status}")?;
        match (body["error"]["code"].as_str(), self.event_id()) {
            (Some(code), _) => write!(f, " {code}: {}", body["error"]["message"]),
            (None, Some(id)) => write!(f, " {id} {}", body["status"]),
            (None, None) => Ok(()),
        }
    }
}

/// A webhook that a receiver got.
#[derive(Debug, Clone)]
pub struct Received {
    pub at: Duration,
    pub tenant: usize,
    pub receiver: usize,
    /// The subscription: the number of the client's try that created it.
    pub subscription: usize,
    pub id: String,
    /// HTTP status of the receiver's answer, if it gave one.
    pub answered: Option<u16>,
    /// The connection was used before and ends without an answer: the sender sends it again.
    pub is_resent: bool,
}

/// What a client knows about its tenant.
#[derive(Debug, Default)]
pub struct ClientKnowledge {
    pub ids: Vec<String>,
    /// Event ids and tokens of granted leases.
    pub leases: Vec<(String, String)>,
    /// Leases with events.
    pub whole_leases: Vec<GrantedLease>,
    /// Events that were sent with an idempotency key.
    pub keyed: Vec<KeyedEvent>,
}

/// A lease with its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedLease {
    pub id: String,
    pub events: Vec<String>,
}

/// An event that a client sent with an idempotency key.
#[derive(Debug, Clone)]
pub struct KeyedEvent {
    pub number: u64,
    pub key: String,
    /// Length of the padding in the payload.
    pub bytes: usize,
}

/// The history of a run; cheap to clone.
#[derive(Clone, Default)]
pub struct SharedHistory(Arc<Mutex<History>>);

/// All that clients and receivers recorded.
#[derive(Default)]
pub struct History {
    /// Requests, in the order in which they began.
    pub calls: Vec<CallRecord>,
    /// Webhooks, in the order in which they arrived.
    pub received: Vec<Received>,
    pub known: BTreeMap<usize, ClientKnowledge>,
    /// Number of walks so far.
    walks: u64,
}

impl SharedHistory {
    pub fn lock(&self) -> MutexGuard<'_, History> {
        lock(&self.0)
    }
}

impl History {
    /// Counts a walk, and returns its number.
    pub fn next_walk(&mut self) -> u64 {
        self.walks += 1;
        self.walks
    }

    /// Records that a request begins, and returns its index.
    pub fn begin(
        &mut self,
        begin: Duration,
        tenant: usize,
        node: usize,
        call: ClientCall,
    ) -> usize {
        let (end, status, is_replayed, body) = (Duration::MAX, None, false, Value::Null);
        self.calls.push(CallRecord { begin, end, tenant, node, call, status, is_replayed, body });
        self.calls.len() - 1
    }

    /// Records the end of a request, and what the client learns from the answer.
    pub fn end(&mut self, index: usize, end: Duration, answer: Option<HttpAnswer>) -> &CallRecord {
        let record = &mut self.calls[index];
        record.end = end;
        if let Some(answer) = answer {
            record.body = serde_json::from_slice(&answer.body).unwrap_or_default();
            (record.status, record.is_replayed) = (Some(answer.status), answer.is_replayed);
        }
        if record.is_done() {
            learn(self.known.entry(record.tenant).or_default(), record);
        }
        record
    }
}

fn learn(known: &mut ClientKnowledge, record: &CallRecord) {
    let id = |value: &Value| value["event_id"].as_str().map(str::to_owned);
    match &record.call {
        ClientCall::Send { .. } | ClientCall::SendOther { .. } => {
            known.ids.extend(id(&record.body))
        }
        ClientCall::SendBatch { .. } => known.ids.extend(record.results().iter().filter_map(id)),
        ClientCall::Lease { .. } => {
            for event in record.events() {
                let token = event["lease_token"].as_str().map(str::to_owned);
                known.leases.extend(id(event).zip(token));
            }
            let lease = record.body["lease_id"].as_str().map(|lease| GrantedLease {
                id: lease.to_owned(),
                events: record.events().iter().filter_map(id).collect(),
            });
            known.whole_leases.extend(lease);
        }
        _ => {}
    }
}
