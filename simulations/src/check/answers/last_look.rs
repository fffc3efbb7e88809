//! What the last look at a tenant must show: rules `ANSWER-KEPT` and `ANSWER-COUNT`, which `answers` describes.

use super::{Answers, Sent};
use crate::check::Violation;
use crate::plan::Status;
use crate::workload::history::{Asked, Entry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::EventId;

impl Answers<'_> {
    pub(super) fn kept(&self, tenant: usize, found: &mut Vec<Violation>) {
        let last: BTreeMap<&str, &Entry> = self
            .of(tenant)
            .filter_map(|entry| match &entry.asked {
                Asked::Read { id } if entry.status.is_some_and(|status| status < 500) => {
                    Some((id.as_str(), entry))
                }
                _ => None,
            })
            .collect();
        let deletions: BTreeSet<&str> = self
            .of(tenant)
            .filter_map(|entry| match &entry.asked {
                Asked::Delete { id } => Some(id.as_str()),
                _ => None,
            })
            .collect();
        for Sent { id, number, entry } in self.sent(tenant) {
            let Some(last) = last.get(id) else {
                found.push(Violation::new(
                    "ANSWER-KEPT",
                    format!("{id} was not looked at last: {entry}"),
                ));
                continue;
            };
            let has_expired =
                || EventId::parse(id).is_ok_and(|id| id.created_at() < self.expired_before);
            let may_be_gone = deletions.contains(id) || (self.expires && has_expired());
            match last.status {
                Some(200) if last.body["payload"]["number"] == number => {}
                Some(404 | 410) if may_be_gone => {}
                _ => found.push(Violation::new(
                    "ANSWER-KEPT",
                    format!("event {number}\n    {entry}\n    {last}"),
                )),
            }
        }
    }

    /// The numbers of the last look are those of its walks.
    pub(super) fn counts(&self, tenant: usize, found: &mut Vec<Violation>) {
        let Some(last) = self
            .of(tenant)
            .filter(|entry| entry.asked == Asked::Statistics && entry.is_done())
            .last()
        else {
            return;
        };
        let is_pushed = tenant >= self.plan.tenants - self.plan.pushed;
        if is_pushed || self.expires {
            return;
        }
        let mut counted: BTreeMap<Status, (u64, usize)> = BTreeMap::new();
        for entry in self.of(tenant).filter(|entry| entry.is_done()) {
            if let Asked::Page { status, walk, .. } = entry.asked {
                let known = counted.entry(status).or_default();
                if known.0 != walk {
                    *known = (walk, 0);
                }
                known.1 += entry.body["events"].as_array().map_or(0, Vec::len);
            }
        }
        let total = |value: &Value| {
            Status::ALL.iter().filter_map(|status| value[status.as_str()].as_u64()).sum::<u64>()
        };
        let counts =
            if last.body["counts"].is_object() { &last.body["counts"] } else { &last.body };
        let walked: usize = counted.values().map(|(_, count)| count).sum();
        if total(counts) != walked as u64 {
            let account = format!(
                "t-{tenant}: {walked} events were seen ({counted:?}), the numbers are {}",
                last.body
            );
            found.push(Violation::new("ANSWER-COUNT", account));
        }
    }
}
