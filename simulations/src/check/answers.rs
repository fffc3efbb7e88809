//! Looks at what clients and receivers saw, when everything has come to rest and has been looked at a last time.
//!
//! Rules: `ANSWER-KEPT` an event whose sender was told 201 is there, with its payload, unless somebody deleted it or its time
//! is over; `ANSWER-ONCE` a request that was sent once is one event, whatever became of its answer; `ANSWER-ORDER` ids grow
//! in the order of acceptance; `ANSWER-REPLAY` an idempotency key gives the first event again; `ANSWER-LINEAR` the answers
//! about one event are those of some order; `ANSWER-LEASE` an event has one live lease; `ANSWER-TOKEN` a token that nobody has, or
//! of an earlier lease, changes nothing; `ANSWER-WALK` pages are in order, without repetition, and skip nothing that was there
//! before and stayed; `ANSWER-OWN` nobody sees another tenant's events or keys; `ANSWER-COUNT` the numbers are those of a
//! recount; `ANSWER-KEY` a revoked key is refused a second later; `ANSWER-MOVE` without faults other than planned stops, no
//! request fails. Those of the last look are in `last_look`, those about webhooks in
//! `webhooks`.

mod last_look;
mod webhooks;

use super::Violation;
use crate::linearize::{self, Action, Operation, Seen, Spontaneous, State};
use crate::plan::{FaultKind, Plan, RETENTION, Status};
use crate::workload::history::{Asked, Entry, Inner};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use triggers_protocol::Timestamp;

/// Checks a whole history.
///
/// `looked_at` are the tenants of the last look.
pub fn check(plan: &Plan, history: &Inner, looked_at: &BTreeSet<usize>) -> Vec<Violation> {
    let mut found = Vec::new();
    let checks = Answers::new(plan, history);
    checks.moves(&mut found);
    checks.own(&mut found);
    checks.once(&mut found);
    for tenant in &checks.tenants {
        checks.linear(*tenant, &mut found);
        checks.order(*tenant, &mut found);
        checks.replays(*tenant, &mut found);
        checks.leases(*tenant, &mut found);
        checks.tokens(*tenant, &mut found);
        checks.walks(*tenant, &mut found);
        if looked_at.contains(tenant) {
            checks.kept(*tenant, &mut found);
            checks.counts(*tenant, &mut found);
            checks.pushed(*tenant, &mut found);
        }
    }
    let revoked = checks
        .entries
        .iter()
        .filter(|entry| entry.asked == Asked::UseRevokedKey && entry.is_done());
    found.extend(revoked.map(|entry| Violation::new("ANSWER-KEY", entry.to_string())));
    found
}

struct Answers<'a> {
    plan: &'a Plan,
    history: &'a Inner,
    entries: Vec<&'a Entry>,
    tenants: BTreeSet<usize>,
    /// Whether events may go because their time is over: days pass.
    expires: bool,
    /// Events of before this may have gone for that reason.
    expired_before: Timestamp,
    /// The greatest difference between two wall clocks.
    skew: Duration,
}

/// An event as a client got to know of it.
struct Sent<'a> {
    id: &'a str,
    number: u64,
    entry: &'a Entry,
}

impl<'a> Answers<'a> {
    fn new(plan: &'a Plan, history: &'a Inner) -> Self {
        let jump = |fault: &crate::plan::Fault| match fault.kind {
            FaultKind::ClockJump { by_ms, .. } => by_ms.unsigned_abs(),
            FaultKind::DayPasses {} => u64::MAX / 4,
            _ => 0,
        };
        let jumps = plan.faults.iter().map(jump).fold(0, u64::saturating_add);
        let skews = plan.skew_ms.iter().map(|skew| skew.unsigned_abs()).max().unwrap_or(0);
        Self {
            plan,
            history,
            entries: history.entries.iter().collect(),
            tenants: history.entries.iter().map(|entry| entry.tenant).collect(),
            expires: plan.days_pass(),
            expired_before: plan.latest_clock().minus(RETENTION),
            skew: Duration::from_millis(jumps.saturating_add(2 * skews)),
        }
    }

    fn of(&self, tenant: usize) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().copied().filter(move |entry| entry.tenant == tenant)
    }

    /// Every event that a client was told of.
    fn sent(&self, tenant: usize) -> Vec<Sent<'a>> {
        let mut sent = Vec::new();
        for entry in self.of(tenant).filter(|entry| entry.is_done() && !entry.is_replayed) {
            match &entry.asked {
                Asked::Send { number, .. } | Asked::SendOther { number, .. } => {
                    sent.extend(entry.event_id().map(|id| Sent { id, number: *number, entry }));
                }
                Asked::SendBatch { numbers } => {
                    for (number, result) in
                        numbers.iter().zip(entry.body["results"].as_array().into_iter().flatten())
                    {
                        sent.extend(result["event_id"].as_str().map(|id| Sent {
                            id,
                            number: *number,
                            entry,
                        }));
                    }
                }
                _ => {}
            }
        }
        sent
    }

    fn linear(&self, tenant: usize, found: &mut Vec<Violation>) {
        let is_pushed = tenant >= self.plan.tenants - self.plan.pushed;
        let mut histories: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
        let mut lines: BTreeMap<String, Vec<&Entry>> = BTreeMap::new();
        let mut is_leased = false;
        for entry in self.of(tenant) {
            is_leased |= matches!(entry.asked, Asked::Lease { .. } | Asked::Refuse { .. });
            for (id, operation) in self.operations(entry) {
                lines.entry(id.clone()).or_default().push(entry);
                histories.entry(id).or_default().push(operation);
            }
        }
        let replayed_all: Vec<&Entry> =
            self.of(tenant).filter(|entry| entry.asked == Asked::ReplayFailed).collect();
        for (id, mut history) in histories {
            let is_known = history.iter().any(|operation| operation.action == Action::Append);
            if !is_known || self.expires {
                continue;
            }
            // A replay of all that have failed may have been one of this event.
            for entry in &replayed_all {
                history.push(operation(entry, Action::Replay, Seen::Unknown));
            }
            let spontaneous =
                Spontaneous { delivers: is_pushed, fails: is_pushed || is_leased, expires: false };
            if let Err(violation) = linearize::check(&history, spontaneous) {
                let lines: Vec<String> =
                    lines[&id].iter().map(|entry| format!("    {entry}")).collect();
                let account = format!("t-{tenant}, event {id}\n{}\n{violation}", lines.join("\n"));
                found.push(Violation::new("ANSWER-LINEAR", account));
            }
        }
    }

    /// What an entry did to single events.
    fn operations(&self, entry: &Entry) -> Vec<(String, Operation)> {
        // Refused before anything was done.
        if matches!(entry.status, Some(400 | 401 | 403 | 413 | 415 | 422 | 429)) {
            return Vec::new();
        }
        let one =
            |id: &str, action| vec![(id.to_owned(), operation(entry, action, seen(entry, action)))];
        match &entry.asked {
            Asked::Send { .. } | Asked::SendOther { .. }
                if entry.is_done() && !entry.is_replayed =>
            {
                entry.event_id().map(|id| one(id, Action::Append)).unwrap_or_default()
            }
            Asked::SendBatch { .. } if entry.is_done() => {
                let results = entry.body["results"].as_array().into_iter().flatten();
                let ids = results.filter_map(|result| result["event_id"].as_str());
                ids.map(|id| (id.to_owned(), operation(entry, Action::Append, Seen::Done)))
                    .collect()
            }
            // Replayed: the first answer was lost. It was accepted at some time since it was sent first.
            Asked::Send { key: Some(key), .. } if entry.is_done() => {
                let is_same = |other: &&Entry| matches!(&other.asked, Asked::Send { key: Some(other), .. } if other == key);
                let all: Vec<&Entry> = self.of(entry.tenant).filter(is_same).collect();
                let done = || all.iter().filter(|first| first.is_done());
                let begin = all.iter().map(|first| first.begin).min().unwrap_or(entry.begin);
                let is_first_known = done().any(|first| !first.is_replayed);
                let is_first_replay = done().map(|first| first.end).min() == Some(entry.end);
                match entry.event_id() {
                    Some(id) if !is_first_known && is_first_replay => {
                        let mut append = operation(entry, Action::Append, Seen::Done);
                        append.begin = micros(begin);
                        vec![(id.to_owned(), append)]
                    }
                    _ => Vec::new(),
                }
            }
            Asked::Acknowledge { id, .. } => one(id, Action::Acknowledge),
            Asked::AcknowledgeBatch { ids } => ids
                .iter()
                .enumerate()
                .map(|(index, id)| {
                    let result = &entry.body["results"][index];
                    let seen = match (entry.status, result["error"]["code"].as_str()) {
                        (Some(200), None) => Seen::Done,
                        (Some(200), Some("GONE")) => Seen::Gone,
                        (Some(200), Some("NOT_FOUND")) => Seen::NotFound,
                        _ => Seen::Unknown,
                    };
                    (id.clone(), operation(entry, Action::Acknowledge, seen))
                })
                .collect(),
            Asked::Refuse { id, .. } => one(id, Action::Refuse),
            Asked::Delete { id } => one(id, Action::Delete),
            Asked::Replay { id } => one(id, Action::Replay),
            Asked::Read { id } if !entry.is_unknown() => one(id, Action::Read),
            _ => Vec::new(),
        }
    }

    fn order(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut sent = self.sent(tenant);
        sent.sort_by_key(|sent| sent.entry.end);
        let mut greatest: Option<&Sent<'_>> = None;
        let mut by_begin: Vec<&Sent<'_>> = sent.iter().collect();
        by_begin.sort_by_key(|sent| sent.entry.begin);
        let mut ended = sent.iter().peekable();
        for later in by_begin {
            while let Some(earlier) = ended.next_if(|earlier| earlier.entry.end < later.entry.begin)
            {
                if greatest.is_none_or(|greatest| greatest.id < earlier.id) {
                    greatest = Some(earlier);
                }
            }
            if let Some(earlier) = greatest.filter(|earlier| earlier.id >= later.id) {
                let account = format!("\n    {}\n    {}", earlier.entry, later.entry);
                found.push(Violation::new("ANSWER-ORDER", account));
            }
        }
    }

    fn replays(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut firsts: BTreeMap<&str, (&str, &Entry)> = BTreeMap::new();
        for entry in self.of(tenant).filter(|entry| entry.is_done()) {
            let Asked::Send { key: Some(key), .. } = &entry.asked else { continue };
            let Some(id) = entry.event_id() else { continue };
            match firsts.get(key.as_str()) {
                Some((first, other)) if *first != id && !self.expires => {
                    found.push(Violation::new(
                        "ANSWER-REPLAY",
                        format!("\n    {other}\n    {entry}"),
                    ));
                }
                _ => drop(firsts.insert(key, (id, entry))),
            }
        }
        let other =
            |entry: &&Entry| matches!(entry.asked, Asked::SendOther { .. }) && entry.is_done();
        // A node may have repeated it itself, to another owner: then it is its own event that is given again.
        let own = |entry: &Entry| matches!(entry.asked, Asked::SendOther { number, .. } if entry.body["payload"]["number"] == number);
        let replayed =
            self.of(tenant).filter(other).filter(|entry| entry.is_replayed && !own(entry));
        found.extend(replayed.map(|entry| Violation::new("ANSWER-REPLAY", entry.to_string())));
    }

    fn tokens(&self, tenant: usize, found: &mut Vec<Violation>) {
        let granted = |id: &str, token: &str| {
            self.of(tenant).find(|entry| {
                let events = entry.body["events"].as_array().into_iter().flatten();
                matches!(entry.asked, Asked::Lease { .. })
                    && events
                        .into_iter()
                        .any(|event| event["event_id"] == id && event["lease_token"] == token)
            })
        };
        for entry in self.of(tenant).filter(|entry| entry.is_done()) {
            match &entry.asked {
                Asked::WrongToken { .. } => {
                    found.push(Violation::new("ANSWER-TOKEN", entry.to_string()))
                }
                Asked::Extend { id, token, .. }
                | Asked::Refuse { id, token }
                | Asked::Acknowledge { id, token: Some(token) } => {
                    let Some(own) = granted(id, token) else { continue };
                    let later = self.of(tenant).find(|later| {
                        let events = later.body["events"].as_array().into_iter().flatten();
                        matches!(later.asked, Asked::Lease { .. })
                            && later.begin > own.end
                            && later.end < entry.begin
                            && events.into_iter().any(|event| event["event_id"] == id.as_str())
                    });
                    if let Some(later) = later {
                        let account = format!("\n    {own}\n    {later}\n    {entry}");
                        found.push(Violation::new("ANSWER-TOKEN", account));
                    }
                }
                _ => {}
            }
        }
    }

    fn leases(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut grants: BTreeMap<&str, Vec<(&Entry, u64)>> = BTreeMap::new();
        for entry in self.of(tenant).filter(|entry| entry.is_done()) {
            if let Asked::Lease { visibility_s } = &entry.asked {
                for event in entry.body["events"].as_array().into_iter().flatten() {
                    let id = event["event_id"].as_str().unwrap_or_default();
                    grants.entry(id).or_default().push((entry, *visibility_s));
                }
            }
        }
        for (id, grants) in grants {
            for (index, (first, visibility_s)) in grants.iter().enumerate() {
                let until =
                    (first.begin + Duration::from_secs(*visibility_s)).saturating_sub(self.skew);
                let second = grants[index + 1..]
                    .iter()
                    .find(|(second, _)| second.begin > first.end && second.end < until);
                let Some((second, _)) = second else { continue };
                let is_released = self.of(tenant).any(|entry| {
                    let is_about_it = match &entry.asked {
                        Asked::Refuse { id: other, .. }
                        | Asked::Replay { id: other }
                        | Asked::Extend { id: other, .. }
                        | Asked::Acknowledge { id: other, .. } => other == id,
                        Asked::AcknowledgeBatch { ids } => ids.iter().any(|other| other == id),
                        Asked::ReplayFailed => true,
                        _ => false,
                    };
                    is_about_it && entry.begin < second.end && entry.end > first.begin
                });
                if !is_released {
                    found.push(Violation::new(
                        "ANSWER-LEASE",
                        format!("{id}\n    {first}\n    {second}"),
                    ));
                }
            }
        }
    }

    fn walks(&self, tenant: usize, found: &mut Vec<Violation>) {
        let mut walks: BTreeMap<u64, Vec<&Entry>> = BTreeMap::new();
        for entry in self.of(tenant) {
            if let Asked::Page { walk, .. } = entry.asked {
                walks.entry(walk).or_default().push(entry);
            }
        }
        for pages in walks.values() {
            let Some(Asked::Page { status, .. }) = pages.first().map(|page| &page.asked) else {
                continue;
            };
            let ids: Vec<&str> = pages
                .iter()
                .flat_map(|page| page.body["events"].as_array().into_iter().flatten())
                .filter_map(|event| event["event_id"].as_str())
                .collect();
            if !ids.is_sorted_by(|one, other| one < other) {
                let account = format!("t-{tenant}, {}: {ids:?}\n    {}", status.as_str(), pages[0]);
                found.push(Violation::new("ANSWER-WALK", account));
            }
            let is_whole = pages.iter().all(|page| page.is_done())
                && pages.last().is_some_and(|page| page.body["has_more"] == false);
            if *status == Status::Received && is_whole && !self.expires {
                self.skipped(tenant, pages, &ids, found);
            }
        }
    }

    /// Events that were accepted before a walk, and that nothing has touched until its end.
    fn skipped(&self, tenant: usize, pages: &[&Entry], ids: &[&str], found: &mut Vec<Violation>) {
        let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return };
        let may_be_leased = self.of(tenant).any(|entry| {
            matches!(entry.asked, Asked::Lease { .. })
                && entry.begin < last.end
                && entry.status.is_none_or(|status| status >= 500)
        });
        let is_pushed = tenant >= self.plan.tenants - self.plan.pushed;
        if may_be_leased || is_pushed {
            return;
        }
        for Sent { id, entry, .. } in self.sent(tenant) {
            let is_touched = || {
                self.of(tenant)
                    .filter(|other| other.begin < last.end)
                    .any(|other| touches(other, id))
            };
            if entry.end < first.begin && !ids.contains(&id) && !is_touched() {
                let account =
                    format!("t-{tenant}: {id} is not among {ids:?}\n    {entry}\n    {first}");
                found.push(Violation::new("ANSWER-WALK", account));
            }
        }
    }

    fn once(&self, found: &mut Vec<Violation>) {
        let mut ids: BTreeMap<(usize, u64), (&str, &Entry)> = BTreeMap::new();
        for entry in self.entries.iter().filter(|_| !self.expires) {
            let listed = entry.body["events"].as_array().into_iter().flatten();
            for event in listed.chain([&entry.body]) {
                let known = event["event_id"].as_str().zip(event["payload"]["number"].as_u64());
                let Some((id, number)) = known else { continue };
                let (first, other) = *ids.entry((entry.tenant, number)).or_insert((id, entry));
                if first != id {
                    let account =
                        format!("event {number} is {first} and {id}\n    {other}\n    {entry}");
                    found.push(Violation::new("ANSWER-ONCE", account));
                }
            }
        }
    }

    fn own(&self, found: &mut Vec<Violation>) {
        for entry in &self.entries {
            let own = format!("t-{}", entry.tenant);
            let keys = entry.body["keys"].as_array().into_iter().flatten();
            if keys
                .into_iter()
                .any(|key| key["tenant_id"].as_str().is_some_and(|tenant| tenant != own))
            {
                found.push(Violation::new(
                    "ANSWER-OWN",
                    format!("{own} sees keys of others\n    {entry}"),
                ));
            }
            let lists = [&entry.body["events"], &entry.body];
            for event in lists
                .into_iter()
                .flat_map(|list| list.as_array().into_iter().flatten().chain([list]))
            {
                if let Some(tenant) = event["payload"]["tenant"].as_str()
                    && tenant != own
                {
                    found.push(Violation::new(
                        "ANSWER-OWN",
                        format!("{own} sees an event of {tenant}\n    {entry}"),
                    ));
                }
            }
        }
    }

    /// Whether stops were planned and nothing else has gone wrong.
    fn moves(&self, found: &mut Vec<Violation>) {
        let is_planned = |fault: &crate::plan::Fault| {
            matches!(
                fault.kind,
                FaultKind::Restart { .. } | FaultKind::ScaleIn { .. } | FaultKind::ScaleOut {}
            )
        };
        if !self.plan.faults.iter().all(is_planned) {
            return;
        }
        // Later everybody looks at everything at the same time, which small nodes refuse.
        let live = Duration::from_millis(self.plan.run_ms);
        let unavailable = |entry: &&&Entry| {
            entry.begin < live && entry.status.is_some_and(|status| status >= 500)
        };
        found.extend(
            self.entries
                .iter()
                .filter(unavailable)
                .map(|entry| Violation::new("ANSWER-MOVE", entry.to_string())),
        );
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn operation(entry: &Entry, action: Action, seen: Seen) -> Operation {
    let end = if seen == Seen::Unknown { u64::MAX } else { micros(entry.end) };
    Operation { begin: micros(entry.begin), end, action, seen }
}

fn seen(entry: &Entry, action: Action) -> Seen {
    match entry.status {
        Some(404) => Seen::NotFound,
        Some(410) => Seen::Gone,
        Some(409) => Seen::Conflict,
        Some(200) if action == Action::Read => Seen::Status(match entry.body["status"].as_str() {
            Some("delivered") => State::Delivered,
            Some("failed") => State::Failed,
            _ => State::Waiting,
        }),
        Some(status) if (200..300).contains(&status) => Seen::Done,
        _ => Seen::Unknown,
    }
}

/// Whether an operation may have changed an event's status.
fn touches(entry: &Entry, id: &str) -> bool {
    match &entry.asked {
        Asked::Acknowledge { id: other, .. }
        | Asked::Extend { id: other, .. }
        | Asked::Refuse { id: other, .. }
        | Asked::Delete { id: other }
        | Asked::Replay { id: other } => other == id,
        Asked::AcknowledgeBatch { ids } => ids.iter().any(|other| other == id),
        Asked::Lease { .. } => entry.body["events"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|event| event["event_id"] == id),
        _ => false,
    }
}
