//! Leases of one event type: rule `ANSWER-FILTER`.

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
            let ClientCall::Lease { event_type: Some(kind), .. } = lease.call else { continue };
            let name = type_name(kind);
            if lease.events().iter().any(|event| event["event_type"] != name.as_str()) {
                self.report("ANSWER-FILTER", format!("another type: {lease}"));
            }
            let is_short = lease.end.saturating_sub(lease.begin) < SEARCH_TIME_MAX;
            if lease.events().is_empty() && is_short {
                self.missed(tenant, lease, &name);
            }
        }
    }

    /// An event that was available throughout a lease which did not find any.
    fn missed(&self, tenant: usize, lease: &CallRecord, name: &str) {
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
            let touches =
                |other: &CallRecord| other.begin < lease.end && may_change_status(other, id);
            if type_name(number) == name
                && record.end < lease.begin
                && !self.of(tenant).any(touches)
            {
                let details = format!("t-{tenant}: {id} was missed\n    {record}\n    {lease}");
                self.report("ANSWER-FILTER", details);
            }
        }
    }
}
