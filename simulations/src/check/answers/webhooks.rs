//! What webhook receivers saw: rules `ANSWER-PUSHED`, `ANSWER-BLAME` and `ANSWER-PROMPT`.
//!
//! A healthy receiver gets an event soon after it was accepted, even while webhooks to the tenant's
//! other receiver take places for as long as they may. An event is delivered only after each of its
//! receivers has accepted it or used up its attempts, or after a consumer acknowledged it. It is
//! sent no more often than attempts were begun, and no more often than the retry policy says; a
//! webhook that is sent again because its kept connection ended counts once. A kept connection that
//! ended is never the error of an attempt, and a fault of a node is never counted against an
//! endpoint.

use super::{AcceptedEvent, AnswerChecks};
use crate::plan::{FaultKind, LeaseAction};
use crate::workload::history::{CallRecord, ClientCall, Received};
use crate::workload::receivers::{RECEIVERS_PER_TENANT, port};
use crate::workload::setup::RETRY_DELAYS_SECONDS;
use std::collections::BTreeMap;
use std::time::Duration;
use triggers_node::webhook::UNSENT;

/// Upper bound on the attempts to send one event to one receiver.
const ATTEMPTS_MAX: usize = RETRY_DELAYS_SECONDS.len() + 1;

/// Bound on the time from the answer to a sender until a healthy receiver has the event. A silent
/// receiver keeps a place for longer.
const PROMPT: Duration = Duration::from_millis(500);
/// Events of a tenant that may be on their way to a healthy receiver at once, for it to be soon.
const WAITING_MAX: usize = 2;
/// Time after the begin of a fault until nodes, store and network work as before.
const RECOVERED: Duration = Duration::from_secs(6);
/// What the error of an attempt says if its connection ended without an answer.
const CONNECTION_ENDED: &str = "the connection ended before the answer";

impl AnswerChecks<'_> {
    pub(super) fn prompt(&self, tenant: usize) {
        let is_disturbed = |begin: Duration, end: Duration| {
            self.plan.faults.iter().any(|fault| {
                let at = Duration::from_millis(fault.at_ms);
                let is_elsewhere = !matches!(fault.kind, FaultKind::Receiver { .. });
                let lasts_ms = match fault.kind {
                    FaultKind::NodeLimit { for_ms, .. } => for_ms,
                    _ => 0,
                };
                let over_at = at + Duration::from_millis(lasts_ms) + RECOVERED;
                is_elsewhere && at <= end && over_at >= begin
            })
        };
        let subscribed = (0..RECEIVERS_PER_TENANT).map(|it| self.subscribed_at(tenant, it));
        let Some(subscribed_at) = subscribed.max().flatten() else { return };
        // A subscription whose creation had an unknown outcome may exist twice.
        let is_list = |record: &&CallRecord| record.call == ClientCall::ListSubscriptions;
        let listed = self
            .of(tenant)
            .filter(is_list)
            .filter_map(|list| list.body["subscriptions"].as_array().map(Vec::len));
        if listed.last() != Some(RECEIVERS_PER_TENANT) {
            return;
        }
        let has_all = |id: &str, by: Duration| {
            // Faults change the first receiver alone.
            (1..RECEIVERS_PER_TENANT)
                .all(|receiver| self.received(id, receiver).any(|it| it.at <= by))
        };
        let accepted = self.accepted(tenant);
        for event in &accepted {
            let (begin, due) = (event.record.begin, event.record.end + PROMPT);
            let is_ended = self.of(tenant).any(|other| other.begin < due && ends(other, event.id));
            let is_late = due > Duration::from_millis(self.plan.run_ms);
            if begin < subscribed_at || is_ended || is_late || is_disturbed(begin, due) {
                continue;
            }
            // A backlog takes its time: each webhook is a few commits.
            let waits = |other: &&AcceptedEvent<'_>| {
                let CallRecord { begin: sent, end: answered, .. } = *other.record;
                let is_near = sent < event.record.end && answered + PROMPT >= begin;
                is_near && !has_all(other.id, begin)
            };
            if accepted.iter().filter(waits).count() <= WAITING_MAX && !has_all(event.id, due) {
                let why = "a healthy receiver did not get it in time";
                self.report("ANSWER-PROMPT", format!("{why}\n    {}", event.record));
            }
        }
    }

    /// Time at which a receiver's subscription was answered; none if no answer came.
    fn subscribed_at(&self, tenant: usize, receiver: usize) -> Option<Duration> {
        let port = format!(":{}/", port(tenant, receiver));
        let is_own = |record: &&CallRecord| match &record.call {
            ClientCall::Subscribe { target_url } => record.is_done() && target_url.contains(&port),
            _ => false,
        };
        self.of(tenant).find(is_own).map(|record| record.end)
    }

    pub(super) fn pushed(&self, tenant: usize) {
        if !self.plan.is_subscribed(tenant) || self.may_expire {
            return;
        }
        let is_read = |record: &&CallRecord| {
            matches!(record.call, ClientCall::Read { .. }) && record.is_done()
        };
        let accepted = self.accepted(tenant);
        let begins = accepted.iter().map(|event| (event.id, event.record.begin));
        let begins: BTreeMap<&str, Duration> = begins.collect();
        let mut last_reads: BTreeMap<&str, &CallRecord> = BTreeMap::new();
        for record in self.of(tenant).filter(is_read) {
            let Some(id) = record.event_id() else { continue };
            last_reads.insert(id, record);
            let is_by_clients = self
                .of(tenant)
                .any(|other| other.begin < record.end && acknowledges_or_replays(other, id));
            if record.body["status"] == "delivered"
                && !is_by_clients
                && !self.is_delivered_by_webhooks(id, tenant, begins.get(id).copied(), record)
            {
                let why = "delivered, but a receiver neither accepted it nor used up its attempts";
                self.report("ANSWER-PUSHED", format!("{why}\n    {record}"));
            }
        }
        let deletes = |record: &CallRecord, id: &str| match &record.call {
            ClientCall::Delete { id: other } => other == id,
            _ => false,
        };
        last_reads.retain(|id, _| !self.of(tenant).any(|record| deletes(record, id)));
        for (id, record) in last_reads {
            self.attempts(tenant, id, record);
        }
    }

    /// Whether webhooks made the event delivered that was sent at `begin`. A receiver without a
    /// subscription at that time need not have it.
    fn is_delivered_by_webhooks(
        &self,
        id: &str,
        tenant: usize,
        begin: Option<Duration>,
        read: &CallRecord,
    ) -> bool {
        let has_none_yet = |receiver: &usize| {
            let made = self.subscribed_at(tenant, *receiver);
            begin.zip(made).is_some_and(|(begin, made)| begin < made)
        };
        let received =
            |receiver| self.received(id, receiver).filter(|received| received.at <= read.end);
        let is_accepted =
            |receiver: usize| received(receiver).any(|received| received.answered == Some(200));
        let is_done =
            |receiver: usize| is_accepted(receiver) || received(receiver).count() >= ATTEMPTS_MAX;
        (0..RECEIVERS_PER_TENANT).any(is_accepted)
            && (0..RECEIVERS_PER_TENANT).filter(|it| !has_none_yet(it)).all(is_done)
    }

    /// Compares the webhooks of an event with the attempts that its last read shows.
    fn attempts(&self, tenant: usize, id: &str, read: &CallRecord) {
        let report = |why: String| {
            self.report("ANSWER-PUSHED", format!("{why}\n    {read}"));
        };
        // The webhooks that a node could not send are in no list.
        if read.body["last_error"] == UNSENT {
            self.report("ANSWER-BLAME", format!("a node's fault is the endpoint's\n    {read}"));
        }
        // An attempt is stored before its webhook is sent. Webhooks after the read may belong to
        // later attempts.
        let before_read = |receiver| {
            let received = self.received(id, receiver);
            received.filter(|received| received.at <= read.begin && !received.is_resent).count()
        };
        let received: usize = (0..RECEIVERS_PER_TENANT).map(before_read).sum();
        if received as u64 > read.body["attempts"].as_u64().unwrap_or(0) {
            report(format!("received {received} times"));
        }
        let error = read.body["last_error"].as_str().unwrap_or_default();
        let is_unanswered =
            |receiver| self.received(id, receiver).any(|received| received.answered.is_none());
        if error.contains(CONNECTION_ENDED) && !(0..RECEIVERS_PER_TENANT).any(is_unanswered) {
            report(format!("an attempt failed because a kept connection ended: {error}"));
        }
        // Other faults interrupt attempts, which then do not count.
        let are_attempts_counted = self.plan.faults.iter().all(|fault| {
            matches!(
                fault.kind,
                FaultKind::Receiver { .. }
                    | FaultKind::NodeLimit { .. }
                    | FaultKind::HangUps { .. }
                    | FaultKind::Conflicts { .. }
                    | FaultKind::PeerMessages { .. }
                    | FaultKind::SlowNetwork { .. }
            )
        });
        let rounds = 1 + self.of(tenant).filter(|other| replays(other, id)).count();
        let mut by_subscription: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let webhooks = (0..RECEIVERS_PER_TENANT).flat_map(|receiver| self.received(id, receiver));
        for received in webhooks.filter(|received| !received.is_resent) {
            *by_subscription.entry((received.receiver, received.subscription)).or_default() += 1;
        }
        let most = by_subscription.into_values().max().unwrap_or(0);
        if are_attempts_counted && most > ATTEMPTS_MAX * rounds {
            report(format!("one subscription received it {most} times"));
        }
    }

    fn received<'b>(&'b self, id: &'b str, receiver: usize) -> impl Iterator<Item = &'b Received> {
        let is_it = move |received: &&Received| received.receiver == receiver && received.id == id;
        self.history.received.iter().filter(is_it)
    }
}

/// Whether the request ends the webhooks of an event, or begins them anew.
fn ends(record: &CallRecord, id: &str) -> bool {
    let deletes = matches!(&record.call, ClientCall::Delete { id: other } if other == id);
    deletes || acknowledges_or_replays(record, id)
}

fn replays(record: &CallRecord, id: &str) -> bool {
    match &record.call {
        ClientCall::Replay { id: other } => other == id && record.may_have_happened(),
        _ => record.may_replay_many(),
    }
}

fn acknowledges_or_replays(record: &CallRecord, id: &str) -> bool {
    let acknowledges = match &record.call {
        ClientCall::Acknowledge { id: other, .. } => other == id,
        ClientCall::AcknowledgeBatch { ids } => ids.iter().any(|other| other == id),
        _ => false,
    };
    (acknowledges && record.may_have_happened())
        || record.may_change_in_lease(id, &[LeaseAction::Ack])
        || replays(record, id)
}
