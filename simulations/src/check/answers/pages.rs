//! Walks over the pages of a status: rule `ANSWER-WALK`.

use super::{AcceptedEvent, AnswerChecks};
use crate::plan::LeaseAction;
use crate::workload::history::{CallRecord, ClientCall};
use std::collections::BTreeMap;
use triggers_protocol::EventStatus;

impl AnswerChecks<'_> {
    pub(super) fn walks(&self, tenant: usize) {
        let mut walks: BTreeMap<(u64, EventStatus), Vec<&CallRecord>> = BTreeMap::new();
        for record in self.of(tenant) {
            if let ClientCall::Page { walk, status, .. } = record.call {
                walks.entry((walk, status)).or_default().push(record);
            }
        }
        for ((_, status), pages) in &walks {
            let events = pages.iter().flat_map(|page| page.events());
            let ids: Vec<&str> = events.filter_map(|event| event["event_id"].as_str()).collect();
            if !ids.is_sorted_by(|one, other| one < other) {
                let details = format!("t-{tenant}, {status}: {ids:?}\n    {}", pages[0]);
                self.report("ANSWER-WALK", details);
            }
            let is_complete = pages.iter().all(|page| page.is_done())
                && pages.last().is_some_and(|page| page.body["has_more"] == false);
            if *status == EventStatus::Received && is_complete && !self.may_expire {
                self.skipped(tenant, pages, &ids);
            }
        }
    }

    /// Events that a complete walk does not list, although they were accepted before it and no
    /// request touched them until it ended.
    fn skipped(&self, tenant: usize, pages: &[&CallRecord], ids: &[&str]) {
        let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return };
        // The client does not know which events such a lease has.
        let has_unknown_lease = self.of(tenant).any(|record| {
            matches!(record.call, ClientCall::Lease { .. })
                && record.begin < last.end
                && record.is_unknown()
        });
        if has_unknown_lease || self.plan.is_subscribed(tenant) {
            return;
        }
        for AcceptedEvent { id, record, .. } in self.accepted(tenant) {
            let touches =
                |other: &CallRecord| other.begin < last.end && may_change_status(other, id);
            let is_touched = || self.of(tenant).any(touches);
            if record.end < first.begin && !ids.contains(&id) && !is_touched() {
                let details =
                    format!("t-{tenant}: {id} is not among {ids:?}\n    {record}\n    {first}");
                self.report("ANSWER-WALK", details);
            }
        }
    }
}

/// Whether a request may have changed an event's status.
pub(super) fn may_change_status(record: &CallRecord, id: &str) -> bool {
    let is_about_event = match &record.call {
        ClientCall::Acknowledge { id: other, .. }
        | ClientCall::Nack { id: other, .. }
        | ClientCall::Delete { id: other }
        | ClientCall::Replay { id: other } => other == id,
        ClientCall::AcknowledgeBatch { ids } => ids.iter().any(|other| other == id),
        ClientCall::Lease { .. } => record.events().iter().any(|event| event["event_id"] == id),
        _ => false,
    };
    (is_about_event && record.may_have_happened())
        || record.may_change_in_lease(id, &[LeaseAction::Ack, LeaseAction::Nack])
}
