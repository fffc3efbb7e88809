//! The answers about single events, as histories for [`crate::linearize`]: rule `ANSWER-LINEAR`.

use super::AnswerChecks;
use super::statuses::{BatchResult, batch_result, event_state};
use crate::linearize::{self, Action, EventOperation, Seen, Spontaneous};
use crate::plan::LeaseAction;
use crate::workload::history::{CallRecord, ClientCall};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ptr;
use std::time::Duration;

impl AnswerChecks<'_> {
    pub(super) fn linear(&self, tenant: usize) {
        if self.may_expire {
            return;
        }
        let mut histories: BTreeMap<String, Vec<EventOperation>> = BTreeMap::new();
        let mut lines: BTreeMap<String, Vec<&CallRecord>> = BTreeMap::new();
        let mut is_leased = false;
        for record in self.of(tenant) {
            is_leased |= matches!(record.call, ClientCall::Lease { .. } | ClientCall::Nack { .. });
            for (id, operation) in self.operations(record) {
                lines.entry(id.clone()).or_default().push(record);
                histories.entry(id).or_default().push(operation);
            }
        }
        let replays_of_all: Vec<&CallRecord> =
            self.of(tenant).filter(|record| record.may_replay_many()).collect();
        let is_subscribed = self.plan.is_subscribed(tenant);
        let spontaneous = Spontaneous {
            may_deliver: is_subscribed,
            may_fail: is_subscribed || is_leased,
            may_expire: false,
        };
        for (id, mut history) in histories {
            if !history.iter().any(|operation| operation.action == Action::Append) {
                continue;
            }
            for record in &replays_of_all {
                let action = match record.call {
                    ClientCall::Recover { .. } => Action::Recover,
                    _ => Action::ReplayFailed,
                };
                history.extend(seen(record, action).map(|seen| operation(record, action, seen)));
            }
            if let Err(counterexample) = linearize::check(&history, spontaneous) {
                let lines: String =
                    lines[&id].iter().map(|record| format!("    {record}\n")).collect();
                let details = format!("t-{tenant}, event {id}\n{lines}{counterexample}");
                self.report("ANSWER-LINEAR", details);
            }
        }
    }

    /// What a request did to single events, or saw of them.
    fn operations(&self, record: &CallRecord) -> Vec<(String, EventOperation)> {
        let one = |id: &str, action| -> Vec<(String, EventOperation)> {
            let seen = seen(record, action);
            seen.map(|seen| (id.to_owned(), operation(record, action, seen))).into_iter().collect()
        };
        match &record.call {
            ClientCall::Send { .. } | ClientCall::SendOther { .. }
                if record.is_done() && !record.is_replayed =>
            {
                record.event_id().map(|id| one(id, Action::Append)).unwrap_or_default()
            }
            ClientCall::Send { key: Some(key), .. } if record.is_done() => {
                self.append_of_replay(record, key).into_iter().collect()
            }
            // `ANSWER-REPLAY` covers the other answers.
            ClientCall::Send { .. } | ClientCall::SendOther { .. } => Vec::new(),
            ClientCall::SendBatch { .. } => {
                let ids = record.results().iter().filter_map(|result| result["event_id"].as_str());
                ids.map(|id| (id.to_owned(), operation(record, Action::Append, Seen::Done)))
                    .collect()
            }
            ClientCall::Acknowledge { id, .. } => one(id, Action::Acknowledge),
            ClientCall::AcknowledgeBatch { ids } => results(record, ids, Action::Acknowledge),
            ClientCall::ChangeLease { lease, action, .. } => {
                let action = match action {
                    LeaseAction::Ack => Action::Acknowledge,
                    LeaseAction::Nack => Action::Nack,
                    LeaseAction::Extend => Action::Extend,
                };
                results(record, &lease.events, action)
            }
            ClientCall::Lease { .. } => {
                let ids = record.events().iter().filter_map(|event| event["event_id"].as_str());
                ids.flat_map(|id| one(id, Action::Lease)).collect()
            }
            ClientCall::Extend { id, .. } | ClientCall::WrongToken { id, .. } => {
                one(id, Action::Extend)
            }
            ClientCall::Nack { id, .. } => one(id, Action::Nack),
            ClientCall::Delete { id } => one(id, Action::Delete),
            ClientCall::Replay { id } => one(id, Action::Replay),
            ClientCall::Read { id } if !record.is_unknown() => one(id, Action::Read),
            ClientCall::Page { .. } if record.is_done() => {
                let read = |event: &Value| {
                    let seen = Seen::Status(event_state(event)?);
                    let id = event["event_id"].as_str()?.to_owned();
                    Some((id, operation(record, Action::Read, seen)))
                };
                record.events().iter().filter_map(read).collect()
            }
            // `linear` adds the replays of all failed events and the recoveries.
            ClientCall::ReplayFailed
            | ClientCall::Recover { .. }
            | ClientCall::Read { .. }
            | ClientCall::Page { .. }
            | ClientCall::Statistics
            | ClientCall::ListKeys
            | ClientCall::RevokeKey { .. }
            | ClientCall::UseRevokedKey
            | ClientCall::Subscribe { .. }
            | ClientCall::ListSubscriptions => Vec::new(),
        }
    }

    /// The append behind a replayed answer, if the first answer was lost: the event was accepted at
    /// some time since the first request with the key.
    fn append_of_replay(&self, record: &CallRecord, key: &str) -> Option<(String, EventOperation)> {
        let has_key = |other: &&CallRecord| match &other.call {
            ClientCall::Send { key: other, .. } => other.as_deref() == Some(key),
            _ => false,
        };
        let all: Vec<&CallRecord> = self.of(record.tenant).filter(has_key).collect();
        let done = || all.iter().filter(|other| other.is_done());
        let is_first_known = done().any(|other| !other.is_replayed);
        // A doubled request has two answers of the same time; the first stands for both.
        let is_first_replay =
            done().min_by_key(|other| other.end).is_some_and(|first| ptr::eq(*first, record));
        if is_first_known || !is_first_replay {
            return None;
        }
        let mut append = operation(record, Action::Append, Seen::Done);
        append.begin = micros(all.iter().map(|other| other.begin).min().unwrap_or(record.begin));
        Some((record.event_id()?.to_owned(), append))
    }
}

/// What a request with a result for each event did to `ids`. An event of a lease without a result
/// was not looked at.
fn results(record: &CallRecord, ids: &[String], action: Action) -> Vec<(String, EventOperation)> {
    if record.is_unknown() {
        let unknown = operation(record, action, Seen::Unknown);
        return ids.iter().map(|id| (id.clone(), unknown)).collect();
    }
    let results = record.results().iter().filter_map(|result| {
        let seen = match batch_result(result)? {
            BatchResult::Done => Seen::Done,
            BatchResult::Gone => Seen::Gone,
            BatchResult::NotFound => Seen::NotFound,
            BatchResult::Conflict => Seen::Conflict,
        };
        let id = result["event_id"].as_str()?.to_owned();
        Some((id, operation(record, action, seen)))
    });
    results.collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn operation(record: &CallRecord, action: Action, seen: Seen) -> EventOperation {
    let end = if seen == Seen::Unknown { u64::MAX } else { micros(record.end) };
    EventOperation { begin: micros(record.begin), end, action, seen }
}

/// What an answer says about an event; none if the request was rejected before it reached the
/// event. Statuses that the request cannot have break `ANSWER-STATUS`.
fn seen(record: &CallRecord, action: Action) -> Option<Seen> {
    if record.is_unknown() {
        return Some(Seen::Unknown);
    }
    match record.status? {
        404 => Some(Seen::NotFound),
        409 => Some(Seen::Conflict),
        410 => Some(Seen::Gone),
        200 if action == Action::Read => event_state(&record.body).map(Seen::Status),
        200..300 => Some(Seen::Done),
        _ => None,
    }
}
