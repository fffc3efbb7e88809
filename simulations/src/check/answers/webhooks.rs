//! What receivers of webhooks saw.
//!
//! Rule: `ANSWER-PUSHED` an event is delivered only when each of its receivers has taken it or was asked often enough, or a
//! consumer has acknowledged it; it is sent no more often than an attempt was begun, and than its policy says.

use super::Answers;
use crate::check::Violation;
use crate::plan::FaultKind;
use crate::workload::history::{Asked, Entry, Received};
use crate::workload::receivers::EACH;
use crate::workload::setup::RETRY_DELAYS_S;
use std::collections::BTreeMap;

/// Attempts of one webhook at one receiver.
const ATTEMPTS: usize = RETRY_DELAYS_S.len() + 1;

impl Answers<'_> {
    pub(super) fn pushed(&self, tenant: usize, found: &mut Vec<Violation>) {
        if tenant < self.plan.tenants - self.plan.pushed || self.expires {
            return;
        }
        let mut report = |entry: &Entry, account: String| {
            found.push(Violation::new("ANSWER-PUSHED", format!("{account}\n    {entry}")));
        };
        let reads = self
            .of(tenant)
            .filter(|entry| matches!(entry.asked, Asked::Read { .. }) && entry.is_done());
        let mut last: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in reads {
            let Some(id) = entry.event_id() else { continue };
            last.insert(id, entry);
            let is_by_others = self
                .of(tenant)
                .any(|other| other.begin < entry.end && acknowledges_or_replays(other, id));
            if entry.body["status"] == "delivered" && !is_by_others {
                let came =
                    |receiver| self.came(id, receiver).filter(|received| received.at <= entry.end);
                let is_done = |receiver: usize| {
                    came(receiver).any(|received| received.answered == Some(200))
                        || came(receiver).count() >= ATTEMPTS
                };
                let is_taken = (0..EACH)
                    .any(|receiver| came(receiver).any(|received| received.answered == Some(200)));
                if !is_taken || !(0..EACH).all(is_done) {
                    report(
                        entry,
                        "it is delivered, and not every receiver has taken it or was asked often enough".into(),
                    );
                }
            }
        }
        // What interrupts an attempt makes it one that does not count.
        let interrupts_nothing = self.plan.faults.iter().all(|fault| {
            matches!(
                fault.kind,
                FaultKind::Receiver { .. }
                    | FaultKind::Conflicts { .. }
                    | FaultKind::PeerWeather { .. }
                    | FaultKind::SlowNetwork { .. }
            )
        });
        last.retain(|id, _| {
            !self
                .of(tenant)
                .any(|other| matches!(&other.asked, Asked::Delete { id: other } if other == id))
        });
        for (id, entry) in last {
            let replays = 1 + self.of(tenant).filter(|other| replays(other, id)).count();
            let attempts = entry.body["attempts"].as_u64().unwrap_or(0);
            // An attempt is stored as begun before its webhook is sent; what came later may be of a later attempt.
            let before = |receiver| {
                self.came(id, receiver).filter(|received| received.at <= entry.begin).count()
            };
            let all: usize = (0..EACH).map(before).sum();
            if all as u64 > attempts {
                report(entry, format!("it came {all} times"));
            }
            let mut each: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            for received in (0..EACH).flat_map(|receiver| self.came(id, receiver)) {
                *each.entry((received.receiver, received.subscription)).or_default() += 1;
            }
            let most = each.into_values().max().unwrap_or(0);
            if interrupts_nothing && most > ATTEMPTS * replays {
                report(entry, format!("one subscription got it {most} times"));
            }
        }
    }

    fn came<'b>(&'b self, id: &'b str, receiver: usize) -> impl Iterator<Item = &'b Received> {
        let is_it = move |received: &&Received| received.receiver == receiver && received.id == id;
        self.history.received.iter().filter(is_it)
    }
}

fn replays(entry: &Entry, id: &str) -> bool {
    match &entry.asked {
        Asked::Replay { id: other } => other == id,
        Asked::ReplayFailed => !entry.is_done() || entry.body["replayed"] != 0,
        _ => false,
    }
}

fn acknowledges_or_replays(entry: &Entry, id: &str) -> bool {
    match &entry.asked {
        Asked::Acknowledge { id: other, .. } | Asked::WrongToken { id: other } => other == id,
        Asked::AcknowledgeBatch { ids } => ids.iter().any(|other| other == id),
        _ => replays(entry, id),
    }
}
