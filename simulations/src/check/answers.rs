//! Checks what clients and webhook receivers saw, after the final check of a run.
//!
//! | rule | what must hold |
//! |---|---|
//! | `ANSWER-STATUS` | every answer has a status and content that its request can have |
//! | `ANSWER-KEPT` | an event whose sender got 201 is there, unless it was deleted or expired |
//! | `ANSWER-ONCE` | a request is one event, and an event is one request |
//! | `ANSWER-ORDER` | event ids grow in the order of acceptance |
//! | `ANSWER-REPLAY` | an idempotency key stands for its first event |
//! | `ANSWER-LINEAR` | the answers about one event fit one order of operations |
//! | `ANSWER-LEASE` | an event has at most one live lease, and each lease has its own token |
//! | `ANSWER-TOKEN` | a token that was never granted, or whose lease is over, changes nothing |
//! | `ANSWER-WALK` | pages are ordered, repeat nothing and skip nothing |
//! | `ANSWER-OWN` | a tenant never sees events or keys of another tenant |
//! | `ANSWER-COUNT` | the event counts equal a recount |
//! | `ANSWER-KEY` | a key is revoked once, and is rejected everywhere a second later |
//! | `ANSWER-MOVE` | if all faults are planned stops, no request fails |
//! | `ANSWER-PUSHED` | webhooks are sent as often as the policy says, and none is forgotten |
//! | `ANSWER-SUBSCRIBED` | every request for a subscription that was answered 201 made one |
//!
//! An answer that is unknown (`CallRecord::is_unknown`) breaks no rule.

mod events;
mod final_check;
mod leases;
mod pages;
mod statuses;
mod webhooks;

use super::Violation;
use crate::plan::{Fault, FaultKind, Plan, RETENTION};
use crate::workload::history::{CallRecord, ClientCall, History};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use triggers_protocol::Timestamp;

/// Checks the history of a run. `checked_tenants` are the tenants of the final check.
pub fn check(plan: &Plan, history: &History, checked_tenants: &BTreeSet<usize>) -> Vec<Violation> {
    let mut found = Vec::new();
    let checks = AnswerChecks::new(plan, history);
    checks.statuses(&mut found);
    checks.moves(&mut found);
    checks.own(&mut found);
    for tenant in &checks.tenants {
        checks.once(*tenant, &mut found);
        checks.linear(*tenant, &mut found);
        checks.order(*tenant, &mut found);
        checks.replays(*tenant, &mut found);
        checks.leases(*tenant, &mut found);
        checks.tokens(*tenant, &mut found);
        checks.walks(*tenant, &mut found);
        checks.revocations(*tenant, &mut found);
        if checked_tenants.contains(tenant) {
            checks.kept(*tenant, &mut found);
            checks.counts(*tenant, &mut found);
            checks.pushed(*tenant, &mut found);
            checks.subscribed(*tenant, &mut found);
        }
    }
    found
}

struct AnswerChecks<'a> {
    plan: &'a Plan,
    history: &'a History,
    tenants: BTreeSet<usize>,
    /// Events may expire during the run.
    may_expire: bool,
    /// Events created before this time may have expired.
    expired_before: Timestamp,
    /// Upper bound on the difference between two wall clocks, and on their resolution.
    skew: Duration,
}

/// An event that a client knows was accepted.
struct AcceptedEvent<'a> {
    id: &'a str,
    number: u64,
    record: &'a CallRecord,
}

impl<'a> AnswerChecks<'a> {
    fn new(plan: &'a Plan, history: &'a History) -> Self {
        let jump_ms = |fault: &Fault| match fault.kind {
            FaultKind::ClockJump { by_ms, .. } => by_ms.unsigned_abs(),
            FaultKind::DayPasses {} => u64::MAX / 4,
            _ => 0,
        };
        let jumps_ms = plan.faults.iter().map(jump_ms).fold(0, u64::saturating_add);
        let skew_ms = plan.skew_ms.iter().map(|skew| skew.unsigned_abs()).max().unwrap_or(0);
        Self {
            plan,
            history,
            tenants: history.calls.iter().map(|record| record.tenant).collect(),
            may_expire: plan.has_expiry(),
            expired_before: plan.latest_clock().minus(RETENTION),
            skew: Duration::from_millis(
                jumps_ms.saturating_add(2 * skew_ms).saturating_add(plan.clock_step_ms),
            ),
        }
    }

    fn of(&self, tenant: usize) -> impl Iterator<Item = &'a CallRecord> {
        self.history.calls.iter().filter(move |record| record.tenant == tenant)
    }

    /// Every event that a client knows was accepted, with the first answer that says so.
    fn accepted(&self, tenant: usize) -> Vec<AcceptedEvent<'a>> {
        let mut accepted = Vec::new();
        for record in self.of(tenant).filter(|record| record.is_done() && !record.is_replayed) {
            match &record.call {
                ClientCall::Send { number, .. } | ClientCall::SendOther { number, .. } => {
                    let event =
                        record.event_id().map(|id| AcceptedEvent { id, number: *number, record });
                    accepted.extend(event);
                }
                ClientCall::SendBatch { numbers } => {
                    for (number, result) in numbers.iter().zip(record.results()) {
                        let id = result["event_id"].as_str();
                        accepted.extend(id.map(|id| AcceptedEvent { id, number: *number, record }));
                    }
                }
                _ => {}
            }
        }
        accepted
    }

    fn order(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut accepted = self.accepted(tenant);
        accepted.sort_by_key(|event| event.record.end);
        let mut greatest: Option<&AcceptedEvent<'_>> = None;
        let mut by_begin: Vec<&AcceptedEvent<'_>> = accepted.iter().collect();
        by_begin.sort_by_key(|event| event.record.begin);
        let mut ended = accepted.iter().peekable();
        for later in by_begin {
            while let Some(earlier) =
                ended.next_if(|earlier| earlier.record.end < later.record.begin)
            {
                if greatest.is_none_or(|greatest| greatest.id < earlier.id) {
                    greatest = Some(earlier);
                }
            }
            if let Some(earlier) = greatest.filter(|earlier| earlier.id >= later.id) {
                let details = format!("\n    {}\n    {}", earlier.record, later.record);
                found.push(Violation::new("ANSWER-ORDER", details));
            }
        }
    }

    /// All accepted requests with one idempotency key have one number and one event id. A request
    /// is rejected as a reuse of its key only if another request with that key may have come
    /// before.
    fn replays(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut firsts: BTreeMap<&str, (u64, &str, &CallRecord)> = BTreeMap::new();
        for record in self.of(tenant) {
            let Some((key, number)) = key_and_number(&record.call) else { continue };
            if record.status == Some(422) {
                let is_other = |other: &CallRecord| {
                    key_and_number(&other.call)
                        .is_some_and(|(same, another)| same == key && another != number)
                        && other.may_have_happened()
                        && other.begin < record.end
                };
                if !self.of(tenant).any(is_other) {
                    let details = format!("the key was not used for another event: {record}");
                    found.push(Violation::new("ANSWER-REPLAY", details));
                }
            }
            let Some(id) = record.event_id().filter(|_| record.is_done() && !self.may_expire)
            else {
                continue;
            };
            let (first_number, first_id, first) =
                *firsts.entry(key).or_insert((number, id, record));
            if (first_number, first_id) != (number, id) {
                found.push(Violation::new("ANSWER-REPLAY", format!("\n    {first}\n    {record}")));
            }
        }
        let has_no_key = |record: &&CallRecord| {
            matches!(record.call, ClientCall::Send { key: None, .. } | ClientCall::SendBatch { .. })
        };
        let replayed = self.of(tenant).filter(has_no_key).filter(|record| record.is_replayed);
        found.extend(replayed.map(|record| Violation::new("ANSWER-REPLAY", record.to_string())));
    }

    /// Numbers and ids of events belong together one to one, in every answer. With expiry, an event
    /// that was sent with a key may be accepted again.
    fn once(&self, tenant: usize, found: &mut Vec<Violation>) {
        let has_key = |record: &&CallRecord| key_and_number(&record.call).is_some();
        let keyed: BTreeSet<u64> = self
            .of(tenant)
            .filter(has_key)
            .filter_map(|record| key_and_number(&record.call).map(|(_, number)| number))
            .collect();
        let mut ids: BTreeMap<u64, (&str, &CallRecord)> = BTreeMap::new();
        let mut numbers: BTreeMap<&str, (u64, &CallRecord)> = BTreeMap::new();
        let accepted = self.accepted(tenant);
        let accepted = accepted.iter().map(|event| (event.id, event.number, event.record));
        let shown = self.of(tenant).flat_map(|record| {
            record.events().iter().chain([&record.body]).filter_map(move |event| {
                let number = event["payload"]["number"].as_u64()?;
                Some((event["event_id"].as_str()?, number, record))
            })
        });
        for (id, number, record) in accepted.chain(shown) {
            let (first_number, other) = *numbers.entry(id).or_insert((number, record));
            if first_number != number {
                let details = format!("{id} is event {first_number} and event {number}");
                let details = format!("{details}\n    {other}\n    {record}");
                found.push(Violation::new("ANSWER-ONCE", details));
            }
            if self.may_expire && keyed.contains(&number) {
                continue;
            }
            let (first_id, other) = *ids.entry(number).or_insert((id, record));
            if first_id != id {
                let details = format!("event {number} is {first_id} and {id}");
                let details = format!("{details}\n    {other}\n    {record}");
                found.push(Violation::new("ANSWER-ONCE", details));
            }
        }
    }

    fn own(&self, found: &mut Vec<Violation>) {
        for record in &self.history.calls {
            let own = format!("t-{}", record.tenant);
            let keys = record.body["keys"].as_array().into_iter().flatten();
            let events = record.events().iter().chain([&record.body]);
            let tenants = keys
                .map(|key| &key["tenant_id"])
                .chain(events.map(|event| &event["payload"]["tenant"]));
            for tenant in tenants.filter_map(|tenant| tenant.as_str()) {
                if tenant != own {
                    let details = format!("{own} sees something of {tenant}\n    {record}");
                    found.push(Violation::new("ANSWER-OWN", details));
                }
            }
        }
    }

    /// A revocation that begins after another one succeeded finds no key. Two concurrent
    /// revocations may both succeed: one that runs again after an unknown commit cannot tell who
    /// removed the key.
    fn revocations(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut revoked: Option<&CallRecord> = None;
        for record in self.of(tenant).filter(|record| record.is_done()) {
            let is_wrong = match record.call {
                ClientCall::RevokeKey { .. } => {
                    let first = *revoked.get_or_insert(record);
                    first.end < record.begin
                }
                ClientCall::UseRevokedKey => true,
                _ => false,
            };
            if is_wrong {
                found.push(Violation::new("ANSWER-KEY", record.to_string()));
            }
        }
    }

    fn moves(&self, found: &mut Vec<Violation>) {
        let is_planned = |fault: &Fault| {
            matches!(
                fault.kind,
                FaultKind::Restart { .. } | FaultKind::ScaleIn { .. } | FaultKind::ScaleOut {}
            )
        };
        if !self.plan.faults.iter().all(is_planned) {
            return;
        }
        // Receivers are subscribed while nodes still start. The final check sends so many requests
        // at once that small nodes reject some.
        let end = Duration::from_millis(self.plan.run_ms);
        let has_failed = |record: &&CallRecord| {
            record.begin < end
                && !matches!(record.call, ClientCall::Subscribe { .. })
                && record.status.is_some_and(|status| status >= 500)
        };
        let failed = self.history.calls.iter().filter(has_failed);
        found.extend(failed.map(|record| Violation::new("ANSWER-MOVE", record.to_string())));
    }
}

/// The idempotency key and the event number of a request that has a key.
fn key_and_number(call: &ClientCall) -> Option<(&str, u64)> {
    match call {
        ClientCall::Send { key: Some(key), number, .. } | ClientCall::SendOther { key, number } => {
            Some((key, *number))
        }
        _ => None,
    }
}
