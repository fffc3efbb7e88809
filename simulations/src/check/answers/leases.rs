//! Leases and their tokens: rules `ANSWER-LEASE` and `ANSWER-TOKEN`.

use super::AnswerChecks;
use crate::workload::history::{CallRecord, ClientCall};
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
            let Some((id, token)) = token_of(&record.call) else { continue };
            let is_own = |grant: &&Grant<'_>| grant.id == id && grant.token == token;
            let Some(own) = grants.iter().find(is_own) else { continue };
            let report = |why: &str, other: &CallRecord| {
                let details = format!("{why}\n    {}\n    {other}\n    {record}", own.record);
                self.report("ANSWER-TOKEN", details);
            };
            let later = grants.iter().find(|later| {
                later.id == id
                    && later.record.begin > own.record.end
                    && later.record.end < record.begin
            });
            if let Some(later) = later {
                report("a later lease was granted before the token was used", later.record);
            }
            // An acknowledged event can be acknowledged again with the same token.
            if matches!(record.call, ClientCall::Acknowledge { .. }) {
                continue;
            }
            if let Some(ended) = self.ended_before(record) {
                report("the lease was ended before the token was used", ended);
            }
            if record.begin > self.latest_end(tenant, own) {
                report("the lease ran out before the token was used", own.record);
            }
        }
    }

    /// The request that ended a lease before `record` began, if there is one.
    fn ended_before(&self, record: &CallRecord) -> Option<&CallRecord> {
        self.of(record.tenant).find(|other| {
            matches!(other.call, ClientCall::Nack { .. } | ClientCall::Acknowledge { .. })
                && other.is_done()
                && other.end < record.begin
                && token_of(&other.call) == token_of(&record.call)
        })
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
            _ => None,
        });
        let granted = grant.record.end + grant.visibility;
        extensions.fold(granted, Duration::max).saturating_add(self.skew)
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
    is_about_event && record.may_have_happened()
}
