//! Checks every commit of the store as it takes effect.
//!
//! | rule | what must hold |
//! |---|---|
//! | `COMMIT-FENCE` | only the owner that a partition's fence names writes into the partition |
//! | `COMMIT-EPOCH` | the epoch of a fence grows with every change of owner |
//! | `COMMIT-STATUS` | an event's status changes only along the allowed transitions |
//! | `COMMIT-ID` | a new event's id is greater than all earlier ids of its tenant |
//! | `COMMIT-QUOTA` | an inbox does not accept more waiting events than its quota |

use super::Violation;
use crate::plan::Plan;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use triggers_actors::cluster::peer_of;
use triggers_protocol::lock::lock;
use triggers_protocol::{EventId, EventStatus, PartitionId, TenantId};
use triggers_store::kv::decode_counter;
use triggers_store::kv::simulated::{ObservedCommit, Observer};
use triggers_store::tables::keys::{self, TenantKeys};
use triggers_store::tables::rows::{Delivery, EventRow, Fence, Row};

/// The violations found so far, shared with the run.
pub type SharedViolations = Arc<Mutex<Vec<Violation>>>;

/// The checks, with what they remember between commits.
pub struct CommitChecks {
    found: SharedViolations,
    quota: Option<u64>,
    /// Tenants with webhook subscriptions.
    subscribed: BTreeSet<Bytes>,
    last_ids: BTreeMap<Bytes, EventId>,
}

impl CommitChecks {
    /// Creates checks that report to `found`.
    pub fn new(found: SharedViolations, plan: &Plan) -> Self {
        let subscribed = (0..plan.tenants)
            .filter(|tenant| plan.is_subscribed(*tenant))
            .map(|tenant| format!("t-{tenant}").into())
            .collect();
        Self { found, quota: plan.quota, subscribed, last_ids: BTreeMap::new() }
    }

    fn report(&self, rule: &'static str, commit: &ObservedCommit<'_>, details: String) {
        let details = format!("at {} ms, {}: {details}", commit.at.as_millis(), commit.writer);
        let mut found = lock(&self.found);
        found.push(Violation::new(rule, details));
    }

    fn fence(&self, commit: &ObservedCommit<'_>, partition: PartitionId) {
        let fence = fence_of(commit.after(&keys::fence(partition)));
        if fence.as_ref().is_none_or(|fence| peer_of(&fence.incarnation) != commit.writer) {
            let details = format!("wrote into {partition}, whose fence is {fence:?}");
            self.report("COMMIT-FENCE", commit, details);
        }
    }

    fn epoch(&self, commit: &ObservedCommit<'_>, partition: PartitionId, key: &[u8]) {
        let (before, after) = (fence_of(commit.before(key)), fence_of(commit.after(key)));
        let (Some(before), Some(after)) = (before, after) else { return };
        if after.epoch <= before.epoch && after != before {
            let details = format!("{partition} went from {before:?} to {after:?}");
            self.report("COMMIT-EPOCH", commit, details);
        }
    }

    fn event(&mut self, commit: &ObservedCommit<'_>, tenant: &[u8], id: EventId, change: Change) {
        use EventStatus::{Delivered, Failed, Queued, Received};
        let is_subscribed = self.subscribed.contains(tenant);
        let Change { before, after } = change;
        let is_legal = match (before, after) {
            (None, Some(Received | Queued)) => {
                let last = self.last_ids.get(tenant).copied().unwrap_or(EventId::ZERO);
                if id <= last {
                    self.report("COMMIT-ID", commit, format!("{id} comes after {last}"));
                }
                self.last_ids.insert(Bytes::copy_from_slice(tenant), last.max(id));
                true
            }
            (None, None) | (Some(_), None | Some(Received)) => true,
            (None, Some(_)) => false,
            (Some(Received | Queued), Some(_)) => true,
            (Some(Delivered), Some(Delivered)) | (Some(Failed), Some(Failed | Delivered)) => true,
            (Some(Delivered | Failed), Some(Queued)) => is_subscribed,
            (Some(Delivered), Some(Failed)) => false,
        };
        if !is_legal {
            self.report("COMMIT-STATUS", commit, format!("{id} went from {before:?} to {after:?}"));
        }
    }

    fn quota(&self, commit: &ObservedCommit<'_>, keys: &TenantKeys, changes: &Changes) {
        let Some(quota) = self.quota else { return };
        let count = |status| {
            decode_counter(commit.after(&keys.counter(status)).as_deref()).unwrap_or(i64::MAX)
        };
        let grew = changes.values().any(|change| change.before.is_none() && change.after.is_some());
        let waiting = count(EventStatus::Received).saturating_add(count(EventStatus::Queued));
        // Replays are not limited by the quota, and may be in the same commit.
        let is_done = |status| matches!(status, Some(EventStatus::Delivered | EventStatus::Failed));
        let revived =
            changes.values().filter(|change| is_done(change.before) && !is_done(change.after));
        let most = quota.saturating_add(revived.count() as u64);
        if grew && waiting > i64::try_from(most).unwrap_or(i64::MAX) {
            let id = keys.tenant();
            let details = format!("{id} has {waiting} waiting events, the quota is {quota}");
            self.report("COMMIT-QUOTA", commit, details);
        }
    }

    fn tenant(&mut self, commit: &ObservedCommit<'_>, partition: PartitionId, tenant: &[u8]) {
        self.fence(commit, partition);
        let Some(keys) = keys_of(partition, tenant) else { return };
        let changes = changes(commit, &keys);
        self.quota(commit, &keys, &changes);
        for (id, change) in changes {
            self.event(commit, tenant, id, change);
        }
    }
}

impl Observer for CommitChecks {
    fn committed(&mut self, commit: &ObservedCommit<'_>) {
        let mut checked = None;
        for key in commit.keys {
            let Some(partition) = partition_of(key) else { continue };
            match parts(key) {
                Some(Parts { tenant, .. }) if checked != Some((partition, tenant)) => {
                    checked = Some((partition, tenant));
                    self.tenant(commit, partition, tenant);
                }
                None if key.get(3) == Some(&b'o') => self.epoch(commit, partition, key),
                _ => {}
            }
        }
    }
}

fn fence_of(bytes: Option<Bytes>) -> Option<Fence> {
    Fence::from_bytes(&bytes?).ok()
}

fn keys_of(partition: PartitionId, tenant: &[u8]) -> Option<TenantKeys> {
    let tenant = TenantId::parse(std::str::from_utf8(tenant).ok()?).ok()?;
    Some(TenantKeys::new(partition, &tenant))
}

/// An event's status before and after a commit; none if the event does not exist.
#[derive(Clone, Copy)]
struct Change {
    before: Option<EventStatus>,
    after: Option<EventStatus>,
}

type Changes = BTreeMap<EventId, Change>;

/// The changes of the events that a commit wrote to.
fn changes(commit: &ObservedCommit<'_>, keys: &TenantKeys) -> Changes {
    let tenant = keys.tenant().as_str().as_bytes();
    let of_events = commit.keys.iter().filter(|key| {
        parts(key).is_some_and(|parts| parts.tenant == tenant && matches!(parts.table, b'e' | b'v'))
    });
    let ids = of_events.filter_map(|key| keys::id_of_key(key));
    let change = |id: EventId| {
        let (event, delivery) = (keys.event(id), keys.delivery(id));
        let before = status_of(commit.before(&event), commit.before(&delivery));
        let after = status_of(commit.after(&event), commit.after(&delivery));
        Change { before, after }
    };
    ids.map(|id| (id, change(id))).collect()
}

fn status_of(event: Option<Bytes>, delivery: Option<Bytes>) -> Option<EventStatus> {
    let row = EventRow::decode(EventId::ZERO, &event?).ok()?;
    let row = match delivery {
        Some(delivery) => row.with(&Delivery::from_bytes(&delivery).ok()?),
        None => row,
    };
    Some(row.event.state.status)
}

/// The partition that a key belongs to.
pub(super) fn partition_of(key: &[u8]) -> Option<PartitionId> {
    match key {
        [b'p', high, low, ..] => Some(PartitionId(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// The parts of a key of a tenant.
pub(super) struct Parts<'a> {
    pub(super) tenant: &'a [u8],
    pub(super) table: u8,
}

/// Splits a key of a tenant; none if the key is of another kind.
pub(super) fn parts(key: &[u8]) -> Option<Parts<'_>> {
    partition_of(key)?;
    let (kind, rest) = key.get(3..)?.split_first()?;
    let end = rest.iter().position(|byte| *byte == 0).filter(|_| *kind == b't')?;
    let table = rest.get(end + 1)?;
    Some(Parts { tenant: &rest[..end], table: *table })
}
