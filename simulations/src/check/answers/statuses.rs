//! Which answers each request can have: rule `ANSWER-STATUS`.

use super::AnswerChecks;
use crate::linearize::EventState;
use crate::workload::history::{CallRecord, ClientCall};
use serde_json::Value;

impl AnswerChecks<'_> {
    pub(super) fn statuses(&self) {
        for record in self.history.calls.iter().filter(|record| !record.is_unknown()) {
            // Rates, quotas and admission may reject any request.
            let is_known = record.status.is_some_and(|status| {
                status == 429 || expected_statuses(&record.call).contains(&status)
            });
            if !is_known {
                self.report("ANSWER-STATUS", record.to_string());
            } else if record.is_done() && !has_expected_body(record) {
                self.report("ANSWER-STATUS", format!("unexpected body {}: {record}", record.body));
            }
        }
    }
}

fn expected_statuses(call: &ClientCall) -> &'static [u16] {
    match call {
        ClientCall::Send { key: Some(_), .. } | ClientCall::SendOther { .. } => &[201, 409, 422],
        ClientCall::Send { key: None, .. } | ClientCall::SendBatch { .. } => &[201],
        ClientCall::Acknowledge { token: None, .. } => &[200, 404, 410],
        ClientCall::Acknowledge { token: Some(_), .. }
        | ClientCall::Extend { .. }
        | ClientCall::Nack { .. } => &[200, 404, 409, 410],
        ClientCall::ChangeLease { is_named: true, .. } => &[200],
        ClientCall::ChangeLease { is_named: false, .. } => &[200, 409],
        // A 2xx would also break `ANSWER-TOKEN`, which explains it better.
        ClientCall::WrongToken { .. } => &[200, 404, 409, 410],
        ClientCall::AcknowledgeBatch { .. }
        | ClientCall::Lease { .. }
        | ClientCall::Page { .. }
        | ClientCall::ListKeys
        | ClientCall::ListSubscriptions => &[200],
        ClientCall::Delete { .. } => &[204, 404, 410],
        ClientCall::Replay { .. } => &[202, 404, 409, 410],
        ClientCall::ReplayFailed => &[202],
        ClientCall::Recover { .. } => &[202, 409],
        ClientCall::Read { .. } => &[200, 404, 410],
        // Some of these requests use the key that other clients revoke.
        ClientCall::Statistics => &[200, 401],
        ClientCall::RevokeKey { .. } => &[204, 404],
        // A 200 would also break `ANSWER-KEY`.
        ClientCall::UseRevokedKey => &[200, 401],
        ClientCall::Subscribe { .. } => &[201],
    }
}

fn has_expected_body(record: &CallRecord) -> bool {
    let has_id = |value: &Value| value["event_id"].is_string();
    match &record.call {
        ClientCall::Send { .. } | ClientCall::SendOther { .. } => has_id(&record.body),
        ClientCall::SendBatch { numbers } => record.results().len() == numbers.len(),
        ClientCall::Acknowledge { id, .. }
        | ClientCall::Extend { id, .. }
        | ClientCall::Nack { id, .. }
        | ClientCall::Replay { id } => record.event_id() == Some(id),
        ClientCall::AcknowledgeBatch { ids } => {
            record.results().len() == ids.len()
                && record.results().iter().all(|result| batch_result(result).is_some())
        }
        ClientCall::ChangeLease { lease, is_named, .. } => {
            let results = record.results();
            let is_of_lease = |result: &Value| {
                let id = result["event_id"].as_str();
                id.is_some_and(|id| lease.events.iter().any(|event| event == id))
                    && batch_result(result).is_some()
            };
            results.iter().all(is_of_lease)
                && if *is_named { results.len() == lease.events.len() } else { !results.is_empty() }
        }
        ClientCall::Lease { limit, .. } => {
            let events = record.events();
            events.len() <= *limit
                && events.iter().all(|event| has_id(event) && event["lease_token"].is_string())
        }
        ClientCall::Read { id } => {
            record.event_id() == Some(id) && event_state(&record.body).is_some()
        }
        ClientCall::Page { status, .. } => {
            let events = record.body["events"].as_array();
            let has_status = |event: &Value| event["status"] == status.as_str() && has_id(event);
            events.is_some_and(|events| events.iter().all(has_status))
        }
        ClientCall::ReplayFailed => record.body["replayed"].is_u64(),
        ClientCall::Recover { .. } => record.body["recovered"].is_u64(),
        ClientCall::Statistics => record.body["counts"].is_object(),
        ClientCall::ListKeys => record.body["keys"].is_array(),
        ClientCall::Subscribe { target_url } => {
            record.body["id"].is_string() && record.body["target_url"] == target_url.as_str()
        }
        ClientCall::ListSubscriptions => record.body["subscriptions"].is_array(),
        ClientCall::WrongToken { .. }
        | ClientCall::Delete { .. }
        | ClientCall::RevokeKey { .. }
        | ClientCall::UseRevokedKey => true,
    }
}

/// The outcome of one event in a batch of acknowledgements.
pub(super) enum BatchResult {
    Done,
    Gone,
    NotFound,
    /// The lease does not hold the event; only with changes of a lease.
    Conflict,
}

/// Parses one result of a batch of acknowledgements; none if it is malformed.
pub(super) fn batch_result(result: &Value) -> Option<BatchResult> {
    match result["error"]["code"].as_str() {
        None if result["error"].is_null() => Some(BatchResult::Done),
        Some("GONE") => Some(BatchResult::Gone),
        Some("NOT_FOUND") => Some(BatchResult::NotFound),
        Some("CONFLICT") => Some(BatchResult::Conflict),
        _ => None,
    }
}

/// The state of an event in an answer; none if its status is malformed.
pub(super) fn event_state(event: &Value) -> Option<EventState> {
    match event["status"].as_str()? {
        "received" | "queued" => Some(EventState::Waiting),
        "delivered" => Some(EventState::Delivered),
        "failed" => Some(EventState::Failed),
        _ => None,
    }
}
