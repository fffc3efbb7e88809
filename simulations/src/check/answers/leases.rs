//! Leases and their tokens: rules `ANSWER-LEASE` and `ANSWER-TOKEN`.

use super::AnswerChecks;
use crate::plan::LeaseAction;
use crate::workload::history::{CallRecord, ClientCall};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// One event in the answer to a lease request.
struct Grant<'a> {
    id: &'a str,
    token: &'a str,
    record: &'a CallRecord,
    visibility: Duration,
}

impl AnswerChecks<'_> {
    fn grants(&self, tenant: usize) -> Vec<Grant<'_>> {
        let mut grants = Vec::new();
        for record in self.of(tenant).filter(|record| record.is_done()) {
            let ClientCall::Lease { visibility_seconds, .. } = record.call else { continue };
            let visibility = Duration::from_secs(visibility_seconds);
            for event in record.events() {
                let id = event["event_id"].as_str().unwrap_or_default();
                let token = event["lease_token"].as_str().unwrap_or_default();
                grants.push(Grant { id, token, record, visibility });
            }
        }
        grants
    }

    pub(super) fn leases(&self, tenant: usize) {
        let mut by_event: BTreeMap<&str, Vec<&Grant<'_>>> = BTreeMap::new();
        let grants = self.grants(tenant);
        for grant in &grants {
            by_event.entry(grant.id).or_default().push(grant);
        }
        let report = |rule: &str, first: &Grant<'_>, second: &Grant<'_>| {
            let details = format!("{}\n    {}\n    {}", first.id, first.record, second.record);
            self.report(rule, details);
        };
        for grants in by_event.values() {
            for (index, first) in grants.iter().enumerate() {
                let later = || grants[index + 1..].iter();
                if let Some(second) = later().find(|second| second.token == first.token) {
                    report("ANSWER-TOKEN", first, second);
                }
                let until = (first.record.begin + first.visibility).saturating_sub(self.skew);
                let overlaps = |second: &&&Grant<'_>| {
                    second.record.begin > first.record.end && second.record.end < until
                };
                let Some(second) = later().find(overlaps) else { continue };
                let is_released = self.of(tenant).any(|record| {
                    may_release(record, first.id)
                        && record.overlaps(first.record.begin, second.record.end)
                });
                if !is_released {
                    report("ANSWER-LEASE", first, second);
                }
            }
        }
    }

    pub(super) fn tokens(&self, tenant: usize) {
        let grants = self.grants(tenant);
        for record in self.of(tenant).filter(|record| record.is_done()) {
            if matches!(record.call, ClientCall::WrongToken { .. }) {
                self.report("ANSWER-TOKEN", record.to_string());
            }
            for own in grants.iter().filter(|grant| grant.is_used_by(record)) {
                self.check_use(tenant, record, own, &grants);
            }
        }
    }

    /// Checks that a lease of an event lasted when a request used it successfully.
    fn check_use(&self, tenant: usize, record: &CallRecord, own: &Grant<'_>, grants: &[Grant<'_>]) {
        let report = |why: &str, other: &CallRecord| {
            let details = format!("{why}\n    {}\n    {other}\n    {record}", own.record);
            self.report("ANSWER-TOKEN", details);
        };
        let later = grants.iter().find(|later| {
            later.id == own.id
                && later.record.begin > own.record.end
                && later.record.end < record.begin
        });
        if let Some(later) = later {
            report("a later lease was granted before the token was used", later.record);
        }
        // An acknowledged event can be acknowledged again with the same token.
        let is_ack = match &record.call {
            ClientCall::ChangeLease { action, .. } => *action == LeaseAction::Ack,
            call => matches!(call, ClientCall::Acknowledge { .. }),
        };
        if is_ack {
            return;
        }
        if let Some(ended) = self.ended_before(record, own) {
            report("the lease was ended before the token was used", ended);
        }
        if record.begin > self.latest_end(tenant, own) {
            report("the lease ran out before the token was used", own.record);
        }
    }

    /// The request that ended a lease before `record` began, if there is one.
    fn ended_before(&self, record: &CallRecord, own: &Grant<'_>) -> Option<&CallRecord> {
        self.of(record.tenant).find(|other| {
            let is_end = match &other.call {
                ClientCall::ChangeLease { action, .. } => *action != LeaseAction::Extend,
                call => matches!(call, ClientCall::Nack { .. } | ClientCall::Acknowledge { .. }),
            };
            is_end && other.is_done() && other.end < record.begin && own.is_used_by(other)
        })
    }

    /// A change of a whole lease names every event that the lease must still hold.
    pub(super) fn whole_leases(&self, tenant: usize) {
        let grants = self.grants(tenant);
        for record in self.of(tenant) {
            let ClientCall::ChangeLease { lease, is_named: false, .. } = &record.call else {
                continue;
            };
            if !record.is_done() && record.status != Some(409) {
                continue;
            }
            let of_lease = |grant: &&Grant<'_>| grant.record.body["lease_id"] == lease.id;
            for grant in grants.iter().filter(of_lease) {
                let until = (grant.record.begin + grant.visibility).saturating_sub(self.skew);
                let is_named = record.results().iter().any(|result| result["event_id"] == grant.id);
                let may_have_left = || {
                    self.of(tenant).any(|other| {
                        !std::ptr::eq(other, record)
                            && other.begin < record.end
                            && may_leave_lease(other, grant.id)
                    })
                };
                if record.end < until && !is_named && !may_have_left() {
                    let details = format!("{}\n    {}\n    {record}", grant.id, grant.record);
                    self.report("ANSWER-WHOLE", details);
                }
            }
        }
    }

    /// Upper bound on the time at which a lease ends, with all its extensions.
    fn latest_end(&self, tenant: usize, grant: &Grant<'_>) -> Duration {
        let extensions = self.of(tenant).filter_map(|record| match &record.call {
            ClientCall::Extend { id, token, visibility_seconds }
                if (id.as_str(), token.as_str()) == (grant.id, grant.token)
                    && record.may_have_happened() =>
            {
                // An unanswered extension may take effect at any later time.
                let end = if record.is_done() { record.end } else { Duration::MAX };
                Some(end.saturating_add(Duration::from_secs(*visibility_seconds)))
            }
            ClientCall::ChangeLease { visibility_seconds, .. }
                if record.may_change_in_lease(grant.id, &[LeaseAction::Extend]) =>
            {
                let end = if record.is_done() { record.end } else { Duration::MAX };
                Some(end.saturating_add(Duration::from_secs(*visibility_seconds)))
            }
            _ => None,
        });
        let granted = grant.record.end + grant.visibility;
        extensions.fold(granted, Duration::max).saturating_add(self.skew)
    }
}

/// Whether a request may have ended or changed the lease of an event, or removed the event.
fn may_leave_lease(record: &CallRecord, id: &str) -> bool {
    let ends = match &record.call {
        ClientCall::Acknowledge { id: other, .. } | ClientCall::Delete { id: other } => other == id,
        ClientCall::AcknowledgeBatch { ids } => ids.iter().any(|other| other == id),
        _ => false,
    };
    (ends && record.may_have_happened())
        || may_release(record, id)
        || record.may_change_in_lease(id, &[LeaseAction::Ack])
}

impl Grant<'_> {
    /// Whether a request has used the lease of the event successfully.
    fn is_used_by(&self, record: &CallRecord) -> bool {
        match &record.call {
            ClientCall::ChangeLease { lease, .. } => {
                let is_done =
                    |result: &Value| result["event_id"] == self.id && result["error"].is_null();
                self.record.body["lease_id"] == lease.id && record.results().iter().any(is_done)
            }
            call => token_of(call) == Some((self.id, self.token)),
        }
    }
}

/// The event and the token of a request that uses a granted token.
fn token_of(call: &ClientCall) -> Option<(&str, &str)> {
    match call {
        ClientCall::Extend { id, token, .. }
        | ClientCall::Nack { id, token }
        | ClientCall::Acknowledge { id, token: Some(token) } => Some((id, token)),
        _ => None,
    }
}

/// Whether a request may have ended or shortened the lease of an event, or made the event available
/// again. An acknowledgement alone does not.
fn may_release(record: &CallRecord, id: &str) -> bool {
    let is_about_event = match &record.call {
        ClientCall::Nack { id: other, .. }
        | ClientCall::Extend { id: other, .. }
        | ClientCall::Replay { id: other } => other == id,
        ClientCall::ReplayFailed | ClientCall::Recover { .. } => record.may_replay_many(),
        _ => false,
    };
    (is_about_event && record.may_have_happened())
        || record.may_change_in_lease(id, &[LeaseAction::Nack, LeaseAction::Extend])
}
