//! What clients and receivers remember: every operation with its time and answer, in the order in which they began.

use crate::plan::Status;
use crate::world::http::Answer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What was asked, with everything that was chosen when it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the operations of a plan, with their choices")]
pub enum Asked {
    Send { number: u64, key: Option<String> },
    SendOther { number: u64, key: String },
    SendBatch { numbers: Vec<u64> },
    Acknowledge { id: String, token: Option<String> },
    AcknowledgeBatch { ids: Vec<String> },
    Lease { visibility_s: u64 },
    Extend { id: String, token: String, visibility_s: u64 },
    WrongToken { id: String },
    Refuse { id: String, token: String },
    Delete { id: String },
    Replay { id: String },
    ReplayFailed,
    Read { id: String },
    Page { status: Status, walk: u64, is_first: bool },
    Statistics,
    ListKeys,
    RevokeKey,
    UseRevokedKey,
}

/// An operation. One that has not ended may have been done, as one without an answer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was sent.
    pub begin: Duration,
    /// When its answer was there, or was given up; [`Duration::MAX`] until then.
    pub end: Duration,
    /// For which tenant.
    pub tenant: usize,
    /// At which node.
    pub node: usize,
    /// What was asked.
    pub asked: Asked,
    /// The status of the answer; none if there was no whole one.
    pub status: Option<u16>,
    /// Whether the answer repeats an earlier one.
    pub is_replayed: bool,
    /// The body of the answer, if it is JSON.
    pub body: Value,
}

impl Entry {
    /// Whether it may or may not have been done.
    pub fn is_unknown(&self) -> bool {
        self.status.is_none_or(|status| status >= 500 || status == 408)
    }

    /// Whether it was done as it was asked.
    pub fn is_done(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// The id of the event in the answer.
    pub fn event_id(&self) -> Option<&str> {
        self.body["event_id"].as_str()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = self.begin.as_millis();
        let end = if self.end == Duration::MAX {
            String::new()
        } else {
            self.end.as_millis().to_string()
        };
        write!(
            f,
            "{begin:>6}-{end:<6} t-{} at node {}: {:?} -> ",
            self.tenant,
            self.node + 1,
            self.asked
        )?;
        match self.status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("no answer")?,
        }
        match &self.body["error"]["code"] {
            Value::String(code) => write!(f, " {code}: {}", self.body["error"]["message"]),
            _ => match self.event_id() {
                Some(id) => write!(f, " {id} {}", self.body["status"]),
                None => Ok(()),
            },
        }
    }
}

/// A webhook that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Duration,
    /// For which tenant.
    pub tenant: usize,
    /// By which of its receivers.
    pub receiver: usize,
    /// Of which subscription: the number of the try that made it.
    pub subscription: usize,
    /// The event.
    pub id: String,
    /// What was answered; none if nothing was.
    pub answered: Option<u16>,
}

/// What a client knows of its tenant.
#[derive(Debug, Default)]
pub struct Known {
    /// Events that were accepted.
    pub ids: Vec<String>,
    /// Leases that were given, with their tokens.
    pub leases: Vec<(String, String)>,
    /// Events that were sent with a key: their number, key, and length.
    pub keyed: Vec<(u64, String, usize)>,
}

/// All of it; cheap to clone.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

/// What is remembered.
#[derive(Default)]
pub struct Inner {
    /// Operations.
    pub entries: Vec<Entry>,
    /// Webhooks.
    pub received: Vec<Received>,
    /// By tenant.
    pub known: BTreeMap<usize, Known>,
    /// Walks so far.
    pub walks: u64,
}

impl History {
    /// The memory.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Remembers an operation that begins; its number.
    pub fn begin(
        &mut self,
        begin: Duration,
        (tenant, node): (usize, usize),
        asked: Asked,
    ) -> usize {
        let (end, is_replayed, body) = (Duration::MAX, false, Value::Null);
        self.entries.push(Entry {
            begin,
            end,
            tenant,
            node,
            asked,
            status: None,
            is_replayed,
            body,
        });
        self.entries.len() - 1
    }

    /// Remembers how it ended, and what that tells of its tenant.
    pub fn end(&mut self, number: usize, end: Duration, answer: Option<Answer>) -> &Entry {
        let entry = &mut self.entries[number];
        entry.end = end;
        if let Some(answer) = answer {
            entry.body = serde_json::from_slice(&answer.body).unwrap_or_default();
            (entry.status, entry.is_replayed) = (Some(answer.status), answer.is_replayed);
        }
        if entry.is_done() {
            learn(self.known.entry(entry.tenant).or_default(), entry);
        }
        entry
    }
}

fn learn(known: &mut Known, entry: &Entry) {
    let id = |value: &Value| value["event_id"].as_str().map(str::to_owned);
    match &entry.asked {
        Asked::Send { .. } | Asked::SendOther { .. } => known.ids.extend(id(&entry.body)),
        Asked::SendBatch { .. } => {
            known.ids.extend(entry.body["results"].as_array().into_iter().flatten().filter_map(id));
        }
        Asked::Lease { .. } => {
            for event in entry.body["events"].as_array().into_iter().flatten() {
                let token = event["lease_token"].as_str().map(str::to_owned);
                known.leases.extend(id(event).zip(token));
            }
        }
        _ => {}
    }
}
