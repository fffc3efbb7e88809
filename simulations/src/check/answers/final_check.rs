//! What the final check of a tenant must show: rules `ANSWER-KEPT`, `ANSWER-COUNT` and
//! `ANSWER-SUBSCRIBED`.

use super::{AcceptedEvent, AnswerChecks};
use crate::workload::history::{CallRecord, ClientCall};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::{EventId, EventStatus};

impl AnswerChecks<'_> {
    pub(super) fn kept(&self, tenant: usize) {
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
                self.report("ANSWER-KEPT", details);
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
                self.report("ANSWER-KEPT", format!("event {number}\n    {record}\n    {last}"));
            }
        }
    }

    /// Compares the counts of the final check with the number of events that its walks listed.
    pub(super) fn counts(&self, tenant: usize) {
        let is_done = |record: &&CallRecord| {
            record.call == ClientCall::Statistics && record.status == Some(200)
        };
        let Some(last) = self.of(tenant).filter(is_done).last() else { return };
        if self.plan.is_subscribed(tenant) || self.may_expire {
            return;
        }
        for status in EventStatus::ALL {
            let events_of_page = |record: &CallRecord| match record.call {
                ClientCall::Page { status: listed, walk, .. } if listed == status => {
                    Some((walk, record.events().len() as u64))
                }
                _ => None,
            };
            let done = self.of(tenant).filter(|record| record.is_done());
            let pages: Vec<(u64, u64)> = done.filter_map(events_of_page).collect();
            let last_walk = pages.iter().map(|(walk, _)| *walk).max();
            let of_last_walk = pages.iter().filter(|(walk, _)| Some(*walk) == last_walk);
            let listed: u64 = of_last_walk.map(|(_, events)| events).sum();
            let counted = last.body["counts"][status.as_str()].as_u64();
            if counted != Some(listed) {
                let details =
                    format!("t-{tenant}: {listed} events are {status}, counts: {}", last.body);
                self.report("ANSWER-COUNT", details);
            }
        }
    }

    /// Each accepted request for a subscription made one of its own, and no request made two.
    pub(super) fn subscribed(&self, tenant: usize) {
        let is_list =
            |record: &&CallRecord| record.call == ClientCall::ListSubscriptions && record.is_done();
        let Some(last) = self.of(tenant).filter(is_list).last() else { return };
        let listed: &[Value] = last.body["subscriptions"].as_array().map_or(&[], Vec::as_slice);
        let report = |record: &CallRecord| {
            self.report("ANSWER-SUBSCRIBED", format!("listed: {}\n    {record}", last.body));
        };
        let mut may_be_listed = 0;
        for record in self.of(tenant) {
            let ClientCall::Subscribe { target_url } = &record.call else { continue };
            let is_own = |subscription: &&Value| subscription["target_url"] == target_url.as_str();
            let own: Vec<&Value> = listed.iter().filter(is_own).collect();
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
