//! Decides what this node does about the cluster that it observes, without I/O.
//!
//! ```text
//! view of the store, time, served partitions ─▶ observe
//!     ─▶ adopt · lose · take over · transfer · forget
//! ```
//! Invariants: `MEMBER-1` a node is silent only after this node has seen the same heartbeat of it
//! for `take_over_after` on its own monotonic clock, so no two clocks are ever compared; `MEMBER-2`
//! nothing is taken over from a node that is not silent, except from an earlier start of this node;
//! `MEMBER-3` a draining node takes nothing over, and a partition is transferred only to a node
//! whose heartbeat was seen to change; `MEMBER-4` a node that has not committed a heartbeat for
//! `stop_after`, counted from before the attempt, has lost all its partitions; `MEMBER-5` of two
//! starts under one name the later one stays.

use super::assignment::Assignment;
use crate::cluster::{name_of, peer_of};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use triggers_protocol::PartitionId;
use triggers_store::tables::cluster::ClusterView;
use triggers_store::tables::rows::{Fence, NodeRow};

/// A silent node that owns nothing is forgotten after this many times `take_over_after`.
const FORGET_AFTER: u32 = 6;

/// An earlier start of this node ends when it sees this one, within fewer heartbeats than this.
const NAMESAKE_HEARTBEATS_MAX: u32 = 3;

/// What the node should do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipPlan {
    /// Partitions that this incarnation owns but does not serve: it missed a transfer or an answer.
    pub adopt: Vec<(PartitionId, Fence)>,
    /// Partitions that are served here but owned by other nodes.
    pub lose: Vec<PartitionId>,
    /// Partitions without an owner that could serve them, with the observed fence.
    pub take_over: Vec<(PartitionId, Option<Fence>)>,
    /// Partitions to transfer, each with the incarnation that gets it.
    pub transfer: Vec<(PartitionId, String)>,
    /// Incarnations whose rows are to be removed.
    pub forget: Vec<String>,
    /// A later start of this node's name has joined, so this one must end.
    pub is_superseded: bool,
}

/// The condition of a node, as this node observes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeCondition {
    /// Its heartbeat changes.
    Up,
    /// Its heartbeat changes, and it is about to stop.
    Draining,
    /// Its heartbeat has not changed for `take_over_after`.
    Silent,
}

/// Times after which a missing heartbeat has consequences.
#[derive(Debug, Clone, Copy)]
pub struct MembershipTimes {
    /// Other nodes take over from a node whose heartbeat has not changed for this long.
    pub take_over_after: Duration,
    /// A node that has not committed a heartbeat for this long stops serving.
    pub stop_after: Duration,
}

#[derive(Debug, Clone)]
struct ObservedHeartbeat {
    heartbeat: u64,
    /// Monotonic time at which this heartbeat was first seen.
    since: Duration,
    /// How often the heartbeat was seen to change.
    changes: u32,
}

/// One node's knowledge of the others. All times are monotonic.
#[derive(Debug)]
pub struct MembershipMachine {
    incarnation: String,
    partitions: u16,
    times: MembershipTimes,
    observed: BTreeMap<String, ObservedHeartbeat>,
    /// Incarnations of this node's name in the first view.
    earlier: Option<BTreeSet<String>>,
    /// Time before the last attempt whose heartbeat was committed.
    heartbeat_at: Duration,
    assignment: Assignment,
}

impl MembershipMachine {
    /// A machine for a node that starts at `now`.
    pub fn new(
        incarnation: String,
        partitions: u16,
        times: MembershipTimes,
        now: Duration,
    ) -> Self {
        Self {
            incarnation,
            partitions,
            times,
            observed: BTreeMap::new(),
            earlier: None,
            heartbeat_at: now,
            assignment: Assignment::default(),
        }
    }

    /// The present incarnation of this node.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// Notes that a heartbeat was committed whose attempt began at `began`.
    pub fn committed(&mut self, began: Duration) {
        self.heartbeat_at = self.heartbeat_at.max(began);
    }

    /// True if this node must stop serving (`MEMBER-4`).
    pub fn is_lost(&self, now: Duration) -> bool {
        now.saturating_sub(self.heartbeat_at) >= self.times.stop_after
    }

    /// Continues as another incarnation, which owns nothing.
    pub fn restart(&mut self, incarnation: String, now: Duration) {
        // The row of the previous incarnation must not look like another start of this node.
        self.observed.remove(&self.incarnation);
        let before = std::mem::replace(&mut self.incarnation, incarnation);
        if let Some(earlier) = &mut self.earlier {
            earlier.insert(before);
        }
        self.heartbeat_at = now;
    }

    /// The condition of a node that has this row.
    pub fn condition(&self, incarnation: &str, row: &NodeRow, now: Duration) -> NodeCondition {
        let is_silent = incarnation != self.incarnation && self.is_silent(incarnation, now);
        match (is_silent, row.is_draining) {
            (true, _) => NodeCondition::Silent,
            (false, true) => NodeCondition::Draining,
            (false, false) => NodeCondition::Up,
        }
    }

    /// Time for which a node's heartbeat has been unchanged.
    pub fn heartbeat_age(&self, incarnation: &str, now: Duration) -> Option<Duration> {
        self.observed.get(incarnation).map(|observed| now.saturating_sub(observed.since))
    }

    fn is_silent(&self, incarnation: &str, now: Duration) -> bool {
        self.heartbeat_age(incarnation, now).is_some_and(|age| age >= self.times.take_over_after)
    }

    /// Observes a view that was read after `now` and plans what to do. `served` has the partitions
    /// that this node serves, with their epochs.
    pub fn observe(
        &mut self,
        view: &ClusterView,
        now: Duration,
        served: &BTreeMap<PartitionId, u64>,
    ) -> MembershipPlan {
        self.note(view, now);
        if self.is_superseded(view) {
            return MembershipPlan { is_superseded: true, ..MembershipPlan::default() };
        }
        let mut plan =
            MembershipPlan { forget: self.forgettable(view, now), ..MembershipPlan::default() };
        let is_draining = view.nodes.get(&self.incarnation).is_none_or(|own| own.is_draining);
        let incarnations = self.assign(view, now);
        for partition in (0..self.partitions).map(PartitionId) {
            let fence = view.owners.get(&partition);
            let should_own =
                self.assignment.owner(partition).and_then(|name| incarnations.get(name));
            match fence.filter(|fence| fence.incarnation == self.incarnation) {
                Some(own) if served.get(&partition).is_none_or(|epoch| *epoch < own.epoch) => {
                    plan.adopt.push((partition, own.clone()));
                }
                Some(_) => {
                    let other = should_own.filter(|other| {
                        **other != self.incarnation && self.has_changed_heartbeat(other)
                    });
                    plan.transfer.extend(other.map(|other| (partition, other.clone())));
                }
                None => {
                    let epoch = served.get(&partition);
                    // A view with a lower epoch is older than what is served here. With the same
                    // epoch, the partition is served for an incarnation that has lost everything.
                    if epoch.zip(fence).is_some_and(|(own, fence)| *own <= fence.epoch) {
                        plan.lose.push(partition);
                    }
                    let is_assigned = !is_draining && should_own == Some(&self.incarnation);
                    if is_assigned && epoch.is_none() && self.is_free(view, fence, now) {
                        plan.take_over.push((partition, fence.cloned()));
                    }
                }
            }
        }
        plan
    }

    fn note(&mut self, view: &ClusterView, now: Duration) {
        self.observed.retain(|incarnation, _| view.nodes.contains_key(incarnation));
        for (incarnation, row) in &view.nodes {
            let first = ObservedHeartbeat { heartbeat: row.heartbeat, since: now, changes: 0 };
            let observed = self.observed.entry(incarnation.clone()).or_insert(first);
            if observed.heartbeat != row.heartbeat {
                (observed.heartbeat, observed.since) = (row.heartbeat, now);
                observed.changes = observed.changes.saturating_add(1);
            }
        }
        if self.earlier.is_none() {
            let is_earlier =
                |other: &&String| **other != self.incarnation && self.is_namesake(other);
            self.earlier = Some(view.nodes.keys().filter(is_earlier).cloned().collect());
        }
    }

    /// Nodes that have been silent for long and own nothing.
    fn forgettable(&self, view: &ClusterView, now: Duration) -> Vec<String> {
        let owners: BTreeSet<&str> =
            view.owners.values().map(|fence| fence.incarnation.as_str()).collect();
        let age_min = self.times.take_over_after * FORGET_AFTER;
        let is_gone = |incarnation: &&String| {
            **incarnation != self.incarnation
                && !owners.contains(incarnation.as_str())
                && self.heartbeat_age(incarnation, now).is_some_and(|age| age >= age_min)
        };
        view.nodes.keys().filter(is_gone).cloned().collect()
    }

    fn is_namesake(&self, incarnation: &str) -> bool {
        name_of(incarnation) == name_of(&self.incarnation)
    }

    /// True if a later start of this node's name is in the view (`MEMBER-5`).
    fn is_superseded(&self, view: &ClusterView) -> bool {
        let Some(earlier) = &self.earlier else { return false };
        let is_other_start = |other: &String| {
            self.is_namesake(other) && peer_of(other) != peer_of(&self.incarnation)
        };
        // Two starts that begin together each take the other for the earlier one, and neither
        // ends. After some heartbeats both end.
        let continues = |other: &String| {
            let observed = self.observed.get(other);
            observed.is_some_and(|observed| observed.changes >= NAMESAKE_HEARTBEATS_MAX)
        };
        let is_later = |other: &String| !earlier.contains(other) || continues(other);
        view.nodes.keys().any(|other| is_other_start(other) && is_later(other))
    }

    /// Updates the assignment among the nodes that are up; returns the incarnation of each name.
    fn assign(&mut self, view: &ClusterView, now: Duration) -> BTreeMap<String, String> {
        let is_up = |(incarnation, row): &(&String, &NodeRow)| {
            let is_earlier = self.is_namesake(incarnation) && **incarnation != self.incarnation;
            self.condition(incarnation, row, now) == NodeCondition::Up && !is_earlier
        };
        let since = |incarnation: &str| {
            self.observed.get(incarnation).map_or(Duration::ZERO, |observed| observed.since)
        };
        // Of two starts of another node's name, the one with the fresher heartbeat counts.
        let mut incarnations: BTreeMap<String, String> = BTreeMap::new();
        for (incarnation, row) in view.nodes.iter().filter(is_up) {
            let known = incarnations.entry(row.name.clone()).or_insert_with(|| incarnation.clone());
            if since(incarnation) > since(known) {
                known.clone_from(incarnation);
            }
        }
        self.assignment.update(self.partitions, incarnations.keys().cloned().collect());
        incarnations
    }

    fn has_changed_heartbeat(&self, incarnation: &str) -> bool {
        self.observed.get(incarnation).is_some_and(|observed| observed.changes > 0)
    }

    /// True if no other node can be serving the partition (`MEMBER-2`).
    fn is_free(&self, view: &ClusterView, fence: Option<&Fence>, now: Duration) -> bool {
        let Some(fence) = fence else { return true };
        let owner = &fence.incarnation;
        // A node writes its row before it takes a fence, and removes the row after it has
        // transferred all its partitions.
        !view.nodes.contains_key(owner) || self.is_namesake(owner) || self.is_silent(owner, now)
    }
}

#[cfg(test)]
mod tests;
