//! What an inbox pushes: for each subscription what is due, what is on its way, and whether its endpoint is left alone.
//! A part of [`super::machine`], without I/O like it.
//!
//! Told by the machine: what was loaded, what a commit has changed, that an attempt is over. It gives writes: claims of
//! attempts, and the clearing away of what waits for a subscription that is not delivered to any more.
//! Invariants: `DISPATCH-1` no attempt is claimed without a slot of the node for it; `DISPATCH-2` a subscription has no more
//! webhooks on its way than it may, nor has the tenant, nor any while its breaker is open; `DISPATCH-3` a subscription has at
//! most one claim under way; `DISPATCH-4` subscriptions take turns: the one that was served last comes last. What is due
//! but cannot be claimed now has a time at which it is looked at again, or something whose end brings it about.

use super::request::OwnWork;
use crate::delivery::breaker::{Breaker, BreakerLimits};
use crate::delivery::{DeliveryPermit, DeliveryPermits};
use crate::options::DeliveryOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::{SubscriptionId, Timestamp};
use triggers_store::tables::batch::{Claimed, EndpointHealth};
use triggers_store::tables::rows::{DisabledReason, SubscriptionRow, SubscriptionStatus};

/// Attempts of one claim.
const CLAIM_MAX: usize = 64;

/// A time that has come, whatever the clock says.
const AT_ONCE: Timestamp = Timestamp::EPOCH;

/// Limits of an inbox's webhooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DispatchLimits {
    pub(crate) tenant_in_flight_max: usize,
    pub(crate) breaker: BreakerLimits,
}

impl DeliveryOptions {
    pub(crate) fn dispatch_limits(&self) -> DispatchLimits {
        let breaker = BreakerLimits {
            failures_max: self.breaker_failures_max,
            pause_min: self.breaker_pause,
            pause_max: self.breaker_pause_max,
        };
        DispatchLimits { tenant_in_flight_max: self.tenant_in_flight_max, breaker }
    }
}

/// Attempts that have begun, to one subscription.
#[derive(Debug)]
pub(crate) struct Dispatched {
    pub(crate) subscription: Arc<SubscriptionRow>,
    pub(crate) attempts: Vec<(Claimed, DeliveryPermit)>,
    /// Until when something must be heard of them.
    pub(crate) until: Timestamp,
}

/// The time, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Duration,
}

struct Lane {
    row: Arc<SubscriptionRow>,
    /// When the first of its webhooks is due, or is to be looked after; it may be too early.
    due: Option<Timestamp>,
    running: usize,
    /// Whether a claim or a clearing is under way.
    is_asking: bool,
    /// For the claim that is under way.
    reserved: Vec<DeliveryPermit>,
    breaker: Breaker,
}

pub(crate) struct Dispatcher {
    limits: DispatchLimits,
    slots: DeliveryPermits,
    lanes: BTreeMap<SubscriptionId, Lane>,
    running: usize,
    served_last: Option<SubscriptionId>,
    /// Whether the shell waits for a slot on behalf of this inbox.
    awaits_slot: bool,
    granted: Option<DeliveryPermit>,
}

impl Dispatcher {
    pub(crate) fn new(limits: DispatchLimits, slots: DeliveryPermits) -> Self {
        Self {
            limits,
            slots,
            lanes: BTreeMap::new(),
            running: 0,
            served_last: None,
            awaits_slot: false,
            granted: None,
        }
    }

    /// The subscriptions as they are stored; what is known of attempts under way stays.
    pub(crate) fn load(&mut self, subscriptions: Vec<(SubscriptionRow, Option<Timestamp>)>) {
        let mut before = std::mem::take(&mut self.lanes);
        for (row, due) in subscriptions {
            let known = before.remove(&row.id);
            let mut lane = known.unwrap_or_else(|| self.lane(&row));
            lane.due = match row.status {
                SubscriptionStatus::Active => due,
                SubscriptionStatus::Disabled { .. } => due.map(|_| AT_ONCE),
                SubscriptionStatus::Deleted => Some(AT_ONCE),
            };
            self.put(lane, row);
        }
    }

    fn lane(&self, row: &SubscriptionRow) -> Lane {
        let breaker = Breaker::new(self.limits.breaker);
        Lane {
            row: Arc::new(row.clone()),
            due: None,
            running: 0,
            is_asking: false,
            reserved: Vec::new(),
            breaker,
        }
    }

    fn put(&mut self, mut lane: Lane, row: SubscriptionRow) {
        let id = row.id;
        lane.row = Arc::new(row);
        self.lanes.insert(id, lane);
    }

    /// A subscription was made or changed. One that was made active again is tried at once.
    pub(crate) fn changed(&mut self, row: SubscriptionRow) {
        let mut lane = self.lanes.remove(&row.id).unwrap_or_else(|| self.lane(&row));
        let has_turned = row.status != lane.row.status;
        if has_turned || row.target_url != lane.row.target_url {
            lane.breaker = Breaker::new(self.limits.breaker);
        }
        if has_turned && !row.is_active() {
            // What waits is to be cleared away.
            lane.due = Some(AT_ONCE);
        }
        self.put(lane, row);
    }

    /// A subscription is about to be removed.
    pub(crate) fn deleted(&mut self, id: SubscriptionId) {
        if let Some(lane) = self.lanes.get(&id) {
            let row = SubscriptionRow {
                status: SubscriptionStatus::Deleted,
                ..SubscriptionRow::clone(&lane.row)
            };
            self.changed(row);
        }
    }

    /// A commit has added webhooks.
    pub(crate) fn added(&mut self, due: &BTreeMap<SubscriptionId, Timestamp>) {
        for (id, due) in due {
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.note_due(Some(*due));
            }
        }
    }

    /// What to ask of the store now, and whether to wait for a slot.
    pub(crate) fn plan(&mut self, now: Now) -> (Vec<OwnWork>, bool) {
        let mut work = Vec::new();
        let mut wants_permit = false;
        let tenant_max =
            if self.slots.is_quiescing() { 0 } else { self.limits.tenant_in_flight_max };
        for id in self.in_turn() {
            let room = tenant_max.saturating_sub(self.running + self.reserved());
            let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.is_due(now)) else {
                continue;
            };
            if !lane.row.is_active() {
                lane.is_asking = true;
                work.push(OwnWork::GiveUp { subscription: id });
                continue;
            }
            let wanted = lane.room(now).min(room).min(CLAIM_MAX);
            if wanted == 0 {
                continue;
            }
            let mut reserved: Vec<DeliveryPermit> = self.granted.take().into_iter().collect();
            reserved.extend(self.slots.try_acquire(wanted - reserved.len()));
            if reserved.is_empty() {
                wants_permit = !self.awaits_slot;
                self.awaits_slot = true;
                break;
            }
            work.push(OwnWork::Claim { subscription: id, limit: reserved.len() });
            (lane.is_asking, lane.reserved) = (true, reserved);
            self.served_last = Some(id);
        }
        // One that nobody has a use for any more is another tenant's.
        self.granted = None;
        (work, wants_permit)
    }

    /// The subscriptions, beginning behind the one that was served last.
    fn in_turn(&self) -> Vec<SubscriptionId> {
        let is_behind = |id: &&SubscriptionId| self.served_last.is_some_and(|last| **id > last);
        let behind = self.lanes.keys().filter(is_behind);
        behind.chain(self.lanes.keys().filter(|id| !is_behind(id))).copied().collect()
    }

    fn reserved(&self) -> usize {
        self.lanes.values().map(|lane| lane.reserved.len()).sum()
    }

    /// The slot that was waited for has come; none if there will be no more.
    pub(crate) fn granted(&mut self, slot: Option<DeliveryPermit>) {
        // After the last one nothing is claimed any more, so that nobody needs to wait again.
        self.awaits_slot = slot.is_none();
        self.granted = slot;
    }

    /// Attempts have begun.
    pub(crate) fn claimed(
        &mut self,
        id: SubscriptionId,
        attempts: Vec<Claimed>,
        next: Option<Timestamp>,
        until: Timestamp,
    ) -> Option<Dispatched> {
        let lane = self.lanes.get_mut(&id)?;
        assert!(attempts.len() <= lane.reserved.len(), "DISPATCH-1: more attempts than slots");
        // One that is not delivered to any more is still to be cleared away.
        lane.due = if lane.row.is_active() { next } else { Some(AT_ONCE) };
        lane.running += attempts.len();
        self.running += attempts.len();
        let begun = attempts.into_iter().zip(lane.reserved.drain(..)).map(|(claimed, mut slot)| {
            slot.hold(claimed.event.payload.len());
            (claimed, slot)
        });
        let attempts: Vec<_> = begun.collect();
        (!attempts.is_empty()).then(|| Dispatched {
            subscription: lane.row.clone(),
            attempts,
            until,
        })
    }

    /// The result of an attempt is stored; whether its endpoint's breaker has opened.
    pub(crate) fn completed(
        &mut self,
        id: SubscriptionId,
        due: Option<Timestamp>,
        row: Option<Box<SubscriptionRow>>,
        health: EndpointHealth,
        now: Now,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let has_opened = lane.breaker.note(health, now.monotonic);
        lane.note_due(due);
        if let Some(row) = row.filter(|row| **row != *lane.row) {
            if let SubscriptionStatus::Disabled { reason, .. } = row.status
                && lane.row.is_active()
            {
                let reason = if reason == DisabledReason::Gone { "gone" } else { "failing" };
                metrics::counter!("triggers_subscriptions_disabled_total", "reason" => reason)
                    .increment(1);
            }
            self.changed(*row);
        }
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.row.is_active()) {
            // It may have been the last thing that kept it.
            lane.due = Some(AT_ONCE);
        }
        has_opened
    }

    /// What waited was given up, or a part of it: the rest is to be looked at then.
    pub(crate) fn gave_up(&mut self, id: SubscriptionId, next: Option<Timestamp>, removed: bool) {
        match self.lanes.get_mut(&id) {
            Some(_) if removed => drop(self.lanes.remove(&id)),
            Some(lane) if !lane.row.is_active() => lane.due = next,
            _ => {}
        }
    }

    /// What was asked of the store for this subscription has come to its end, whichever that was.
    pub(crate) fn answered(&mut self, id: SubscriptionId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.is_asking = false;
            lane.reserved.clear();
        }
    }

    /// An attempt is over: nothing of it runs any more.
    pub(crate) fn ended(&mut self, id: SubscriptionId) {
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running = lane.running.saturating_sub(1);
        }
    }

    /// When [`Dispatcher::plan`] may have something to do, unless something under way ends before.
    pub(crate) fn next(&self, now: Now) -> Option<Timestamp> {
        let is_under_way =
            self.running > 0 || self.awaits_slot || self.lanes.values().any(|lane| lane.is_asking);
        let next = self.lanes.values().filter_map(|lane| {
            let due = lane.due.filter(|_| !lane.is_asking)?;
            let held_until = lane.held_until(now).filter(|_| lane.row.is_active());
            // What is due now and was not claimed waits for the end of something.
            let can_wait = held_until.is_none() && lane.is_due(now) && is_under_way;
            (!can_wait).then_some(held_until.map_or(due, |held_until| due.max(held_until)))
        });
        next.min()
    }

    /// When the first webhook is due, whether or not it could be claimed then.
    pub(crate) fn next_due(&self, now: Now) -> Option<Timestamp> {
        let due = self
            .lanes
            .values()
            .filter_map(|lane| Some(lane.due?.max(lane.held_until(now).unwrap_or(AT_ONCE))));
        due.min()
    }

    /// Whether something is under way that would be lost with the inbox.
    pub(crate) fn is_busy(&self) -> bool {
        self.running > 0 || self.lanes.values().any(|lane| lane.is_asking)
    }

    /// Whether something is known or waited for that would be forgotten with the inbox, and found out again.
    pub(crate) fn is_attached(&self) -> bool {
        let has_learned = |lane: &Lane| lane.due.is_some() && !lane.breaker.is_closed();
        self.awaits_slot || self.lanes.values().any(has_learned)
    }
}

impl Lane {
    fn note_due(&mut self, due: Option<Timestamp>) {
        self.due = [self.due, due].into_iter().flatten().min();
    }

    fn is_due(&self, now: Now) -> bool {
        !self.is_asking && self.due.is_some_and(|due| due <= now.wall)
    }

    /// Until when nothing is sent: the endpoint has asked for that, or its breaker is open.
    fn held_until(&self, now: Now) -> Option<Timestamp> {
        let opens_at = self.breaker.opens_at(now.monotonic);
        let opens_at = opens_at.map(|at| now.wall.plus(at.saturating_sub(now.monotonic)));
        self.row.held_until.filter(|until| *until > now.wall).max(opens_at)
    }

    fn room(&self, now: Now) -> usize {
        if self.held_until(now).is_some() {
            return 0;
        }
        let may_run = (self.row.max_in_flight as usize).min(self.breaker.room(now.monotonic));
        may_run.saturating_sub(self.running)
    }
}

#[cfg(test)]
pub(super) mod tests;
