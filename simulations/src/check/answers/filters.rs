//! Leases find what is available: rule `ANSWER-FILTER`, with and without an event type.

use super::pages::may_change_status;
use super::{AcceptedEvent, AnswerChecks};
use crate::workload::clients::type_name;
use crate::workload::history::{CallRecord, ClientCall};
use std::time::Duration;

/// A lease that took less time than this has searched everything.
const SEARCH_TIME_MAX: Duration = Duration::from_secs(3);

impl AnswerChecks<'_> {
    pub(super) fn filters(&self, tenant: usize) {
        for lease in self.of(tenant).filter(|record| record.is_done()) {
            let ClientCall::Lease { event_type, limit, .. } = lease.call else { continue };
            let name = event_type.map(type_name);
            let is_other = |found: &str| name.as_ref().is_some_and(|name| found != name);
            if lease.events().iter().any(|event| event["event_type"].as_str().is_none_or(is_other))
            {
                self.report("ANSWER-FILTER", format!("another type: {lease}"));
            }
            let is_short = lease.end.saturating_sub(lease.begin) < SEARCH_TIME_MAX;
            if lease.events().len() < limit && is_short {
                self.missed(tenant, lease, name.as_deref());
            }
        }
    }

    /// An event that was available throughout a lease which had room for it and did not find it.
    fn missed(&self, tenant: usize, lease: &CallRecord, name: Option<&str>) {
        // The client does not know which events such a lease has.
        let has_unknown_lease = self.of(tenant).any(|record| {
            matches!(record.call, ClientCall::Lease { .. })
                && record.begin < lease.end
                && record.is_unknown()
        });
        if has_unknown_lease || self.may_expire || self.plan.is_subscribed(tenant) {
            return;
        }
        for AcceptedEvent { id, number, record } in self.accepted(tenant) {
            if name.is_none_or(|name| type_name(number) == name)
                && record.end < lease.begin
                && self.is_available(tenant, id, lease)
            {
                let details = format!("t-{tenant}: {id} was missed\n    {record}\n    {lease}");
                self.report("ANSWER-FILTER", details);
            }
        }
    }

    /// Whether no request has changed an event's status until the end of a lease, or the last one
    /// that did has replayed it before the lease.
    fn is_available(&self, tenant: usize, id: &str, lease: &CallRecord) -> bool {
        let touches = |other: &&CallRecord| other.begin < lease.end && may_change_status(other, id);
        let touched: Vec<&CallRecord> = self.of(tenant).filter(touches).collect();
        let Some(last) = touched.iter().max_by_key(|record| record.begin) else { return true };
        let is_before = |other: &&CallRecord| {
            other.begin == last.begin && other.end == last.end
                || other.is_done() && other.end < last.begin
        };
        matches!(last.call, ClientCall::Replay { .. })
            && last.is_done()
            && last.end < lease.begin
            && touched.iter().filter(|other| other.begin == last.begin).count() == 1
            && touched.iter().all(is_before)
    }
}
