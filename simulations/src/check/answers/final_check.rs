//! What the final check of a tenant must show: rules `ANSWER-KEPT`, `ANSWER-COUNT` and
//! `ANSWER-SUBSCRIBED`.

use super::{AcceptedEvent, AnswerChecks};
use crate::check::Violation;
use crate::plan::Status;
use crate::workload::history::{CallRecord, ClientCall};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::EventId;

impl AnswerChecks<'_> {
    pub(super) fn kept(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut last_reads: BTreeMap<&str, &CallRecord> = BTreeMap::new();
        let mut deleted: BTreeSet<&str> = BTreeSet::new();
        for record in self.of(tenant) {
            match &record.call {
                ClientCall::Read { id } if !record.is_unknown() => {
                    last_reads.insert(id, record);
                }
                ClientCall::Delete { id } if record.may_have_happened() => {
                    deleted.insert(id);
                }
                _ => {}
            }
        }
        for AcceptedEvent { id, number, record } in self.accepted(tenant) {
            let Some(last) = last_reads.get(id) else {
                let details = format!("{id} was not read in the final check: {record}");
                found.push(Violation::new("ANSWER-KEPT", details));
                continue;
            };
            let has_expired = || {
                self.may_expire
                    && EventId::parse(id).is_ok_and(|id| id.created_at() < self.expired_before)
            };
            let is_right = match last.status {
                Some(200) => last.body["payload"]["number"] == number,
                Some(410) => deleted.contains(id) || has_expired(),
                Some(404) => has_expired(),
                _ => false,
            };
            if !is_right {
                let details = format!("event {number}\n    {record}\n    {last}");
                found.push(Violation::new("ANSWER-KEPT", details));
            }
        }
    }

    /// Compares the counts of the final check with the number of events that its walks listed.
    pub(super) fn counts(&self, tenant: usize, found: &mut Vec<Violation>) {
        let is_done = |record: &&CallRecord| {
            record.call == ClientCall::Statistics && record.status == Some(200)
        };
        let Some(last) = self.of(tenant).filter(is_done).last() else { return };
        if self.plan.is_subscribed(tenant) || self.may_expire {
            return;
        }
        /// Events of the last walk over a status.
        #[derive(Default)]
        struct LastWalk {
            walk: u64,
            events: u64,
        }
        let mut walked: BTreeMap<Status, LastWalk> = BTreeMap::new();
        for record in self.of(tenant).filter(|record| record.is_done()) {
            if let ClientCall::Page { status, walk, .. } = record.call {
                let last = walked.entry(status).or_default();
                if last.walk != walk {
                    *last = LastWalk { walk, events: 0 };
                }
                last.events += record.events().len() as u64;
            }
        }
        for status in Status::ALL {
            let counted = last.body["counts"][status.as_str()].as_u64();
            let listed = walked.get(&status).map_or(0, |last| last.events);
            if counted != Some(listed) {
                let status = status.as_str();
                let details =
                    format!("t-{tenant}: {listed} events are {status}, counts: {}", last.body);
                found.push(Violation::new("ANSWER-COUNT", details));
            }
        }
    }

    /// Each accepted request for a subscription made one of its own, and no request made two.
    pub(super) fn subscribed(&self, tenant: usize, found: &mut Vec<Violation>) {
        let is_list =
            |record: &&CallRecord| record.call == ClientCall::ListSubscriptions && record.is_done();
        let Some(last) = self.of(tenant).filter(is_list).last() else { return };
        let listed: &[Value] = last.body["subscriptions"].as_array().map_or(&[], Vec::as_slice);
        let mut report = |record: &CallRecord| {
            let details = format!("listed: {}\n    {record}", last.body);
            found.push(Violation::new("ANSWER-SUBSCRIBED", details));
        };
        let mut may_be_listed = 0;
        for record in self.of(tenant) {
            let ClientCall::Subscribe { target_url } = &record.call else { continue };
            let own: Vec<&Value> = listed
                .iter()
                .filter(|subscription| subscription["target_url"] == target_url.as_str())
                .collect();
            let is_right = match own.as_slice() {
                [] => !record.is_done(),
                [one] => record.is_unknown() || one["id"] == record.body["id"],
                _ => false,
            };
            may_be_listed += own.len();
            if !is_right {
                report(record);
            }
        }
        if may_be_listed != listed.len() {
            report(last);
        }
    }
}
