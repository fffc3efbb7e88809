//! What a member does about the cluster that it sees, without I/O: the shell is `membership`.
//!
//! ```text
//! view of the store, time, own partitions ──▶ observe ──▶ adopt · take · hand over · forget · superseded
//! ```
//! Invariants: `MEMBER-1` a member is silent only after this node has seen the *same* beat of it for `steal_after` on its
//! own monotonic clock: no two clocks are ever compared; `MEMBER-2` nothing is taken from a member that is not silent,
//! except from an earlier start of this very node; `MEMBER-3` a node that drains takes nothing, and a partition is handed
//! only to a member that has been seen to beat; `MEMBER-4` once this node's own beat has not been committed for
//! `stop_after`, counted from before the attempt, it has lost all that it owns; `MEMBER-5` of two starts of one name the
//! later one stays.

use super::assignment::{assign, assigned};
use super::{name_of, peer_of};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use triggers_protocol::PartitionId;
use triggers_store::tables::cluster::View;
use triggers_store::tables::rows::Fence;

/// A silent member that owns nothing is forgotten after so many times `steal_after`.
const FORGET_AFTER: u32 = 6;

/// An earlier start of this name ends as soon as it sees this one: within fewer beats than this.
const NAMESAKE_BEATS_MAX: u32 = 3;

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Owned by this incarnation, but not served: a hand-over that was not heard of, or a lost answer.
    pub adopt: Vec<(PartitionId, Fence)>,
    /// Served here, but owned by others.
    pub lose: Vec<(PartitionId, Fence)>,
    /// Without an owner that could serve them; with the fence that was seen.
    pub take: Vec<(PartitionId, Option<Fence>)>,
    /// To be handed over, and to which incarnation.
    pub hand_over: Vec<(PartitionId, String)>,
    /// Members whose rows are to be removed.
    pub forget: Vec<String>,
    /// Another start of this node's name is there, and later.
    pub superseded: bool,
}

/// How a member is, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It beats.
    Up,
    /// It beats, and is about to stop.
    Draining,
    /// Its beat has not changed for long.
    Silent,
}

#[derive(Debug, Clone)]
struct Seen {
    beat: u64,
    /// When this beat was first seen.
    since: Duration,
    /// How many different beats were seen.
    beats: u32,
}

/// One member's knowledge of the others.
#[derive(Debug)]
pub struct Machine {
    incarnation: String,
    partitions: u16,
    steal_after: Duration,
    stop_after: Duration,
    seen: BTreeMap<String, Seen>,
    /// Incarnations of this node's name that were there before it.
    earlier: Option<BTreeSet<String>>,
    /// Before the last attempt whose beat was committed.
    beat_at: Duration,
    assignment: (BTreeSet<String>, Vec<String>),
}

impl Machine {
    /// A member that begins at the monotonic time `now`.
    pub fn new(
        incarnation: String,
        partitions: u16,
        (steal_after, stop_after): (Duration, Duration),
        now: Duration,
    ) -> Self {
        Self {
            incarnation,
            partitions,
            steal_after,
            stop_after,
            seen: BTreeMap::new(),
            earlier: None,
            beat_at: now,
            assignment: Default::default(),
        }
    }

    /// Who this is.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// A beat whose attempt began then has been committed.
    pub fn committed(&mut self, began: Duration) {
        self.beat_at = self.beat_at.max(began);
    }

    /// `MEMBER-4`.
    pub fn is_lost(&self, now: Duration) -> bool {
        now.saturating_sub(self.beat_at) >= self.stop_after
    }

    /// Goes on as another incarnation, which owns nothing.
    pub fn restart(&mut self, incarnation: String, now: Duration) {
        // Its own row of before, with all its beats, is not another start.
        self.seen.remove(&self.incarnation);
        let before = std::mem::replace(&mut self.incarnation, incarnation);
        if let Some(earlier) = &mut self.earlier {
            earlier.insert(before);
        }
        self.beat_at = now;
    }

    /// How a member is; none if it is not known.
    pub fn condition(&self, view: &View, incarnation: &str, now: Duration) -> Option<Condition> {
        let row = view.members.get(incarnation)?;
        let is_silent = incarnation != self.incarnation && self.is_silent(incarnation, now);
        Some(match (is_silent, row.is_draining) {
            (true, _) => Condition::Silent,
            (false, true) => Condition::Draining,
            (false, false) => Condition::Up,
        })
    }

    /// For how long a member's beat has been the same.
    pub fn beat_age(&self, incarnation: &str, now: Duration) -> Option<Duration> {
        self.seen.get(incarnation).map(|seen| now.saturating_sub(seen.since))
    }

    fn is_silent(&self, incarnation: &str, now: Duration) -> bool {
        self.beat_age(incarnation, now).is_some_and(|age| age >= self.steal_after)
    }

    /// Takes note of a view that was read after the monotonic time `now`, and says what to do. `served` are the partitions
    /// that this node serves, with their epochs.
    pub fn observe(
        &mut self,
        view: &View,
        now: Duration,
        served: &BTreeMap<PartitionId, u64>,
    ) -> Plan {
        self.note(view, now);
        let mut plan = Plan { superseded: self.is_superseded(view), ..Plan::default() };
        if plan.superseded {
            return plan;
        }
        let is_draining = view.members.get(&self.incarnation).is_none_or(|own| own.is_draining);
        let incarnations = self.assign(view, now);
        for partition in (0..self.partitions).map(PartitionId) {
            let fence = view.owners.get(&partition);
            let should_own =
                assigned(&self.assignment.1, partition).and_then(|name| incarnations.get(name));
            match fence.filter(|fence| fence.incarnation == self.incarnation) {
                Some(own) if served.get(&partition).is_none_or(|epoch| *epoch < own.epoch) => {
                    plan.adopt.push((partition, own.clone()));
                }
                Some(_) => {
                    let other = should_own
                        .filter(|other| **other != self.incarnation && self.has_beaten(other));
                    plan.hand_over.extend(other.map(|other| (partition, other.clone())));
                }
                None => {
                    // A view that is older than what is served here says nothing against it. With the same epoch it is
                    // served for an incarnation that has lost everything.
                    let lost = fence.filter(|fence| {
                        served.get(&partition).is_some_and(|own| *own <= fence.epoch)
                    });
                    plan.lose.extend(lost.map(|fence| (partition, fence.clone())));
                    let is_mine = !is_draining && should_own == Some(&self.incarnation);
                    if is_mine && !served.contains_key(&partition) && self.is_free(view, fence, now)
                    {
                        plan.take.push((partition, fence.cloned()));
                    }
                }
            }
        }
        let owners: BTreeSet<&str> =
            view.owners.values().map(|fence| fence.incarnation.as_str()).collect();
        let is_over = |incarnation: &&String| {
            **incarnation != self.incarnation
                && !owners.contains(incarnation.as_str())
                && self
                    .beat_age(incarnation, now)
                    .is_some_and(|age| age >= self.steal_after * FORGET_AFTER)
        };
        plan.forget.extend(view.members.keys().filter(is_over).cloned());
        plan
    }

    fn note(&mut self, view: &View, now: Duration) {
        self.seen.retain(|incarnation, _| view.members.contains_key(incarnation));
        for (incarnation, row) in &view.members {
            let seen = self.seen.entry(incarnation.clone());
            let seen = seen.or_insert(Seen { beat: row.beat, since: now, beats: 0 });
            if seen.beat != row.beat {
                (seen.beat, seen.since) = (row.beat, now);
                seen.beats = seen.beats.saturating_add(1);
            }
        }
        let namesakes = view
            .members
            .keys()
            .filter(|other| **other != self.incarnation && self.is_namesake(other));
        let namesakes: BTreeSet<String> = namesakes.cloned().collect();
        self.earlier.get_or_insert(namesakes);
    }

    fn is_namesake(&self, incarnation: &str) -> bool {
        name_of(incarnation) == name_of(&self.incarnation)
    }

    fn is_superseded(&self, view: &View) -> bool {
        let Some(earlier) = &self.earlier else { return false };
        let is_other_start = |other: &String| {
            self.is_namesake(other) && peer_of(other) != peer_of(&self.incarnation)
        };
        // Of two that began together each takes the other for the earlier one, and neither ends: then both do.
        let goes_on = |other: &String| {
            self.seen.get(other).is_some_and(|seen| seen.beats >= NAMESAKE_BEATS_MAX)
        };
        let is_later = |other: &String| !earlier.contains(other) || goes_on(other);
        view.members.keys().any(|other| is_other_start(other) && is_later(other))
    }

    /// Computes who should own what among those that are up; the incarnation of each name.
    fn assign(&mut self, view: &View, now: Duration) -> BTreeMap<String, String> {
        let is_up = |incarnation: &String| {
            let is_earlier = self.is_namesake(incarnation) && *incarnation != self.incarnation;
            self.condition(view, incarnation, now) == Some(Condition::Up) && !is_earlier
        };
        let up = view.members.iter().filter(|(incarnation, _)| is_up(incarnation));
        // Of two starts of another node's name, the one with the fresher beat.
        let mut incarnations: BTreeMap<String, String> = BTreeMap::new();
        for (incarnation, row) in up {
            let since = |incarnation: &str| {
                self.seen.get(incarnation).map_or(Duration::ZERO, |seen| seen.since)
            };
            let known = incarnations.entry(row.name.clone()).or_insert_with(|| incarnation.clone());
            if since(incarnation) > since(known) {
                known.clone_from(incarnation);
            }
        }
        let names: BTreeSet<String> = incarnations.keys().cloned().collect();
        if self.assignment.0 != names {
            self.assignment = (names.clone(), assign(self.partitions, &names));
        }
        incarnations
    }

    fn has_beaten(&self, incarnation: &str) -> bool {
        self.seen.get(incarnation).is_some_and(|seen| seen.beats > 0)
    }

    /// `MEMBER-2`.
    fn is_free(&self, view: &View, fence: Option<&Fence>, now: Duration) -> bool {
        let Some(fence) = fence else { return true };
        let owner = &fence.incarnation;
        // A member writes its row before it takes a fence, and removes it after it has given all away.
        !view.members.contains_key(owner) || self.is_namesake(owner) || self.is_silent(owner, now)
    }
}

#[cfg(test)]
mod tests;
