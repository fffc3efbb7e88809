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
//! | `ANSWER-FILTER` | a lease finds what is available, and one of a type has only such events |
//! | `ANSWER-TOKEN` | a token that was never granted, or whose lease is over, changes nothing |
//! | `ANSWER-WHOLE` | a change of a whole lease includes every event that it holds |
//! | `ANSWER-WALK` | pages are ordered, repeat nothing and skip nothing |
//! | `ANSWER-OWN` | a tenant never sees events or keys of another tenant |
//! | `ANSWER-COUNT` | the event counts equal a recount |
//! | `ANSWER-KEY` | a key is revoked once, and is rejected everywhere a second later |
//! | `ANSWER-MOVE` | if all faults are planned stops, no request fails |
//! | `ANSWER-PUSHED` | webhooks are sent as often as the policy says, none is forgotten |
//! | `ANSWER-BLAME` | what a node lacks is not held against an endpoint |
//! | `ANSWER-PROMPT` | a healthy receiver gets its events soon, whatever the other one does |
//! | `ANSWER-SUBSCRIBED` | every request for a subscription that was answered 201 made one |
//!
//! An answer that is unknown (`CallRecord::is_unknown`) breaks no rule.

mod events;
mod filters;
mod final_check;
mod leases;
mod pages;
mod statuses;
mod webhooks;

use super::Violation;
use crate::plan::{Fault, FaultKind, Plan, RETENTION};
use crate::workload::history::{CallRecord, ClientCall, History};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use triggers_protocol::Timestamp;

/// Checks the history of a run. `checked_tenants` are the tenants of the final check.
pub fn check(plan: &Plan, history: &History, checked_tenants: &BTreeSet<usize>) -> Vec<Violation> {
    let checks = AnswerChecks::new(plan, history);
    checks.statuses();
    checks.moves();
    checks.own();
    for tenant in &checks.tenants {
        checks.once(*tenant);
        checks.linear(*tenant);
        checks.order(*tenant);
        checks.replays(*tenant);
        checks.leases(*tenant);
        checks.filters(*tenant);
        checks.tokens(*tenant);
        checks.whole_leases(*tenant);
        checks.walks(*tenant);
        checks.revocations(*tenant);
        if checked_tenants.contains(tenant) {
            checks.kept(*tenant);
            checks.counts(*tenant);
            checks.pushed(*tenant);
            checks.prompt(*tenant);
            checks.subscribed(*tenant);
        }
    }
    checks.found.into_inner()
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
    found: RefCell<Vec<Violation>>,
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
            FaultKind::ClockJump { by_ms, .. } | FaultKind::ClockStep { by_ms, .. } => {
                by_ms.unsigned_abs()
            }
            FaultKind::DayPasses {} => u64::MAX / 4,
            _ => 0,
        };
        let jumps_ms = plan.faults.iter().map(jump_ms).fold(0, u64::saturating_add);
        let skew_ms = plan.skew_ms.iter().map(|skew| skew.unsigned_abs()).max().unwrap_or(0);
        let skew_ms = jumps_ms.saturating_add(2 * skew_ms).saturating_add(plan.clock_step_ms);
        Self {
            plan,
            history,
            tenants: history.calls.iter().map(|record| record.tenant).collect(),
            may_expire: plan.has_expiry(),
            expired_before: plan.latest_clock().minus(RETENTION),
            skew: Duration::from_millis(skew_ms),
            found: RefCell::default(),
        }
    }

    fn report(&self, rule: &str, details: String) {
        self.found.borrow_mut().push(Violation::new(rule, details));
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
                    let id = record.event_id();
                    accepted.extend(id.map(|id| AcceptedEvent { id, number: *number, record }));
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

    fn order(&self, tenant: usize) {
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
                self.report("ANSWER-ORDER", details);
            }
        }
    }

    /// All accepted requests with one idempotency key have one number and one event id. A request
    /// is rejected as a reuse of its key only if another request with that key may have come
    /// before.
    fn replays(&self, tenant: usize) {
        let mut firsts: BTreeMap<&str, (u64, &str, &CallRecord)> = BTreeMap::new();
        for record in self.of(tenant) {
            let Some((key, number)) = record.call.key_and_number() else { continue };
            if record.status == Some(422) {
                // A 409 says that an event with the key is being accepted: by another request, or
                // by this one, if it was forwarded again after an unknown outcome.
                let is_other = |other: &CallRecord| {
                    other
                        .call
                        .key_and_number()
                        .is_some_and(|(same, another)| same == key && another != number)
                        && (other.may_have_happened() || other.status == Some(409))
                        && other.begin < record.end
                };
                if !self.of(tenant).any(is_other) {
                    let details = format!("the key was not used for another event: {record}");
                    self.report("ANSWER-REPLAY", details);
                }
            }
            let Some(id) = record.event_id() else { continue };
            if record.is_done() && !self.may_expire {
                let (first_number, first_id, first) =
                    *firsts.entry(key).or_insert((number, id, record));
                if (first_number, first_id) != (number, id) {
                    self.report("ANSWER-REPLAY", format!("\n    {first}\n    {record}"));
                }
            }
        }
        let is_wrong = |record: &&CallRecord| record.call.has_no_key() && record.is_replayed;
        for record in self.of(tenant).filter(is_wrong) {
            self.report("ANSWER-REPLAY", record.to_string());
        }
    }

    /// Numbers and ids of events belong together one to one, in every answer. With expiry, an event
    /// that was sent with a key may be accepted again.
    fn once(&self, tenant: usize) {
        let keys = self.of(tenant).filter_map(|record| record.call.key_and_number());
        let keyed: BTreeSet<u64> = keys.map(|(_, number)| number).collect();
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
                self.report("ANSWER-ONCE", format!("{details}\n    {other}\n    {record}"));
            }
            if self.may_expire && keyed.contains(&number) {
                continue;
            }
            let (first_id, other) = *ids.entry(number).or_insert((id, record));
            if first_id != id {
                let details = format!("event {number} is {first_id} and {id}");
                self.report("ANSWER-ONCE", format!("{details}\n    {other}\n    {record}"));
            }
        }
    }

    fn own(&self) {
        for record in &self.history.calls {
            let own = format!("t-{}", record.tenant);
            let keys = record.body["keys"].as_array().into_iter().flatten();
            let events = record.events().iter().chain([&record.body]);
            let of_keys = keys.map(|key| &key["tenant_id"]);
            let of_events = events.map(|event| &event["payload"]["tenant"]);
            let tenants = of_keys.chain(of_events).filter_map(|tenant| tenant.as_str());
            for tenant in tenants.filter(|tenant| *tenant != own) {
                let details = format!("{own} sees something of {tenant}\n    {record}");
                self.report("ANSWER-OWN", details);
            }
        }
    }

    /// One revocation of a key succeeds, and the key is never accepted afterwards.
    fn revocations(&self, tenant: usize) {
        let mut is_revoked = false;
        for record in self.of(tenant).filter(|record| record.is_done()) {
            let is_wrong = match record.call {
                ClientCall::RevokeKey { .. } => std::mem::replace(&mut is_revoked, true),
                ClientCall::UseRevokedKey => true,
                _ => false,
            };
            if is_wrong {
                self.report("ANSWER-KEY", record.to_string());
            }
        }
    }

    fn moves(&self) {
        use FaultKind::{HangUps, Restart, ScaleIn, ScaleOut};
        let is_planned = |fault: &Fault| {
            matches!(fault.kind, Restart { .. } | ScaleIn { .. } | ScaleOut {} | HangUps { .. })
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
        for record in self.history.calls.iter().filter(has_failed) {
            self.report("ANSWER-MOVE", record.to_string());
        }
    }
}
