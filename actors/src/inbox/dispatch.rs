//! Schedules the webhooks of an inbox: the part of [`super::machine`] that knows, for each
//! subscription, its due time, its running attempts and its breaker. No I/O.
//!
//! The machine passes in the loaded state, the notices of commits and the ends of attempts. The
//! dispatcher returns work: to claim attempts, and to give up the webhooks of an inactive
//! subscription. A due webhook that cannot be claimed waits for a time or for running work to end.
//! Invariants: `DISPATCH-1` no attempt is claimed without a delivery permit; `DISPATCH-2` neither a
//! subscription nor the tenant has more attempts in flight than it may, and a subscription has none
//! while its breaker is open; `DISPATCH-3` a subscription has at most one claim in flight;
//! `DISPATCH-4` subscriptions with the fewest attempts in flight come first; among equals they take
//! turns: the one served last comes last; `DISPATCH-5` a subscription takes no more of the tenant's
//! free places than its [`share`], so that one without attempts in flight finds a place.

use super::request::OwnWork;
use crate::delivery::breaker::{Breaker, BreakerLimits};
use crate::delivery::fair_shares::share;
use crate::delivery::in_flight_limit::{InFlightLimit, MeasuredAttempt};
use crate::delivery::permits::{DeliveryPermit, TenantPermits};
use crate::options::DeliveryOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use triggers_protocol::{SubscriptionId, Timestamp};
use triggers_store::tables::batch::{Claimed, EndpointHealth};
use triggers_store::tables::rows::{DisabledReason, SubscriptionRow, SubscriptionStatus};

/// Most attempts of one claim.
const CLAIM_MAX: usize = 64;

/// A time in the past, whatever the clock says.
const AT_ONCE: Timestamp = Timestamp::EPOCH;

/// Limits of an inbox's webhooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DispatchLimits {
    pub(crate) tenant_in_flight_max: usize,
    /// An attempt that takes longer is slow.
    pub(crate) slow_after: Duration,
    pub(crate) breaker: BreakerLimits,
}

impl DeliveryOptions {
    pub(crate) fn dispatch_limits(&self) -> DispatchLimits {
        let breaker = BreakerLimits {
            failures_max: self.breaker_failures_max,
            pause_min: self.breaker_pause,
            pause_max: self.breaker_pause_max,
        };
        DispatchLimits {
            tenant_in_flight_max: self.tenant_in_flight_max,
            slow_after: self.slow_after,
            breaker,
        }
    }
}

/// Attempts that have begun, to one subscription.
#[derive(Debug)]
pub(crate) struct Dispatched {
    pub(crate) subscription: Arc<SubscriptionRow>,
    pub(crate) attempts: Vec<(Claimed, DeliveryPermit)>,
    /// Time at which an attempt without a result counts as interrupted.
    pub(crate) until: Timestamp,
}

/// Present time on two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Steady time, with which due times are compared.
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Duration,
}

/// What the dispatcher knows of one subscription.
struct Lane {
    row: Arc<SubscriptionRow>,
    /// Due time of its first webhook; it may be too early.
    due: Option<Timestamp>,
    running: usize,
    /// A request to claim or to give up is waiting or in flight.
    has_request: bool,
    /// Permits of the claim in flight.
    reserved: Vec<DeliveryPermit>,
    breaker: Breaker,
    limit: InFlightLimit,
}

pub(crate) struct Dispatcher {
    limits: DispatchLimits,
    permits: TenantPermits,
    lanes: BTreeMap<SubscriptionId, Lane>,
    running: usize,
    served_last: Option<SubscriptionId>,
    /// The shell waits for a permit on behalf of this inbox.
    awaits_permit: bool,
    granted: Option<DeliveryPermit>,
}

impl Dispatcher {
    /// Whether the tenant has subscriptions, even deleted ones.
    pub(crate) fn has_subscriptions(&self) -> bool {
        !self.lanes.is_empty()
    }

    pub(crate) fn new(limits: DispatchLimits, permits: TenantPermits) -> Self {
        Self {
            limits,
            permits,
            lanes: BTreeMap::new(),
            running: 0,
            served_last: None,
            awaits_permit: false,
            granted: None,
        }
    }

    /// Sets the subscriptions as they are stored. Running attempts stay known.
    pub(crate) fn load(&mut self, subscriptions: Vec<(SubscriptionRow, Option<Timestamp>)>) {
        let mut before = std::mem::take(&mut self.lanes);
        for (row, due) in subscriptions {
            let mut lane = before.remove(&row.id).unwrap_or_else(|| self.lane(&row));
            lane.due = match row.status {
                SubscriptionStatus::Active => due,
                SubscriptionStatus::Disabled { .. } => due.map(|_| AT_ONCE),
                SubscriptionStatus::Deleted => Some(AT_ONCE),
            };
            self.put(lane, row);
        }
    }

    fn lane(&self, row: &SubscriptionRow) -> Lane {
        Lane {
            row: Arc::new(row.clone()),
            due: None,
            running: 0,
            has_request: false,
            reserved: Vec::new(),
            breaker: Breaker::new(self.limits.breaker),
            limit: InFlightLimit::new(self.limits.slow_after),
        }
    }

    fn put(&mut self, mut lane: Lane, row: SubscriptionRow) {
        lane.row = Arc::new(row);
        self.lanes.insert(lane.row.id, lane);
    }

    /// A subscription was created or changed. A status change resets what is known of its endpoint.
    pub(crate) fn changed(&mut self, row: SubscriptionRow) {
        let mut lane = self.lanes.remove(&row.id).unwrap_or_else(|| self.lane(&row));
        let has_turned = row.status != lane.row.status;
        if has_turned || row.target_url != lane.row.target_url {
            lane.breaker = Breaker::new(self.limits.breaker);
            lane.limit = InFlightLimit::new(self.limits.slow_after);
        }
        if has_turned && !row.is_active() {
            // Its waiting webhooks are to be given up.
            lane.due = Some(AT_ONCE);
        }
        self.put(lane, row);
    }

    /// A subscription was deleted; its waiting webhooks are to be given up.
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

    /// Work to do now, and whether the shell must wait for a permit.
    pub(crate) fn plan(&mut self, now: Now) -> (Vec<OwnWork>, bool) {
        let mut work = Vec::new();
        let mut wants_permit = false;
        let tenant_max =
            if self.permits.is_quiescing() { 0 } else { self.limits.tenant_in_flight_max };
        let due = self.in_turn(now);
        let mut free = tenant_max.saturating_sub(self.running + self.reserved());
        let mut allowance = if due.is_empty() { 0 } else { self.permits.allowance() };
        let competing = due.iter().filter_map(|id| self.lanes.get(id));
        let competing = competing.filter(|lane| lane.row.is_active() && lane.room(now) > 0);
        let (mut count, mut held) =
            competing.fold((0, 0), |(count, held), lane| (count + 1, held + lane.running));
        for id in due {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if !lane.row.is_active() {
                lane.has_request = true;
                work.push(OwnWork::GiveUp { subscription: id });
                continue;
            }
            let room = lane.room(now).min(CLAIM_MAX);
            if room == 0 {
                continue;
            }
            // With as many in flight this one and the later ones, which have more, were equal.
            let level = (held + free.min(allowance.max(1))).div_ceil(count);
            let wanted =
                room.min(level.saturating_sub(lane.running)).min(share(lane.running, free));
            (count, held) = (count - 1, held - lane.running);
            if wanted == 0 {
                continue;
            }
            let mut reserved: Vec<DeliveryPermit> = self.granted.take().into_iter().collect();
            // What the node leaves to the tenant is shared as well (`DISPATCH-5`).
            let more = share(lane.running + reserved.len(), allowance).min(wanted - reserved.len());
            let taken = self.permits.try_acquire(more);
            allowance = allowance.saturating_sub(taken.len());
            reserved.extend(taken);
            if reserved.is_empty() {
                // One with attempts in flight may be at its share; it goes on when they end.
                if lane.running == 0 || allowance == 0 {
                    wants_permit |= !self.awaits_permit;
                    self.awaits_permit = true;
                }
                continue;
            }
            free -= reserved.len();
            work.push(OwnWork::Claim { subscription: id, limit: reserved.len() });
            (lane.has_request, lane.reserved) = (true, reserved);
            self.served_last = Some(id);
        }
        // An unused permit goes back for other tenants.
        self.granted = None;
        (work, wants_permit)
    }

    /// The subscriptions with something due, in the order of `DISPATCH-4`.
    fn in_turn(&self, now: Now) -> Vec<SubscriptionId> {
        let is_behind = |id: &SubscriptionId| self.served_last.is_some_and(|last| *id > last);
        let due = self.lanes.iter().filter(|(_, lane)| lane.is_due(now));
        let mut due: Vec<_> = due.map(|(id, lane)| (lane.running, !is_behind(id), *id)).collect();
        due.sort_unstable();
        due.into_iter().map(|(.., id)| id).collect()
    }

    fn reserved(&self) -> usize {
        self.lanes.values().map(|lane| lane.reserved.len()).sum()
    }

    /// The permit that the shell waited for; none if the node gives no more.
    pub(crate) fn granted(&mut self, permit: Option<DeliveryPermit>) {
        // Without further permits nothing is claimed any more, so the shell need not wait again.
        self.awaits_permit = permit.is_none();
        self.granted = permit;
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
        assert!(attempts.len() <= lane.reserved.len(), "DISPATCH-1: more attempts than permits");
        // Webhooks of an inactive subscription are still to be given up.
        lane.due = if lane.row.is_active() { next } else { Some(AT_ONCE) };
        lane.running += attempts.len();
        self.running += attempts.len();
        let begun =
            attempts.into_iter().zip(lane.reserved.drain(..)).map(|(claimed, mut permit)| {
                permit.hold(claimed.event.payload.len());
                (claimed, permit)
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
        row: Option<Arc<SubscriptionRow>>,
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
            self.changed(SubscriptionRow::clone(&row));
        }
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.row.is_active()) {
            // This attempt may have been the last one to wait for.
            lane.due = Some(AT_ONCE);
        }
        has_opened
    }

    /// Waiting webhooks were given up; `next` is the time at which there is more.
    pub(crate) fn gave_up(
        &mut self,
        id: SubscriptionId,
        next: Option<Timestamp>,
        is_removed: bool,
    ) {
        match self.lanes.get_mut(&id) {
            Some(_) if is_removed => drop(self.lanes.remove(&id)),
            Some(lane) if !lane.row.is_active() => lane.due = next,
            Some(_) | None => {}
        }
    }

    /// The claim or the giving up for this subscription has ended, with or without success.
    pub(crate) fn answered(&mut self, id: SubscriptionId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.has_request = false;
            lane.reserved.clear();
        }
    }

    /// The actor of an attempt has ended.
    pub(crate) fn ended(
        &mut self,
        id: SubscriptionId,
        measured: Option<MeasuredAttempt>,
        now: Now,
    ) {
        self.running = self.running.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&id) {
            if let Some(attempt) = measured {
                let max_in_flight = lane.row.max_in_flight as usize;
                lane.limit.note(attempt, lane.running, max_in_flight, now.monotonic);
            }
            lane.running = lane.running.saturating_sub(1);
        }
    }

    /// Time at which [`Dispatcher::plan`] may have work, unless running work ends before.
    pub(crate) fn next(&self, now: Now) -> Option<Timestamp> {
        let is_under_way = self.running > 0
            || self.awaits_permit
            || self.lanes.values().any(|lane| lane.has_request);
        let next = self.lanes.values().filter_map(|lane| {
            let due = lane.due.filter(|_| !lane.has_request)?;
            let held_until = lane.held_until(now).filter(|_| lane.row.is_active());
            // A due webhook that was not claimed waits for running work to end.
            let can_wait = held_until.is_none() && lane.is_due(now) && is_under_way;
            (!can_wait).then_some(held_until.map_or(due, |held_until| due.max(held_until)))
        });
        next.min()
    }

    /// Time at which the first webhook is due, whether or not it can be claimed then.
    pub(crate) fn next_due(&self, now: Now) -> Option<Timestamp> {
        let due = self
            .lanes
            .values()
            .filter_map(|lane| Some(lane.due?.max(lane.held_until(now).unwrap_or(AT_ONCE))));
        due.min()
    }

    /// Whether closing the inbox would lose running work.
    pub(crate) fn is_busy(&self) -> bool {
        self.running > 0 || self.lanes.values().any(|lane| lane.has_request)
    }

    /// Whether closing the inbox would lose its turn for a permit, or knowledge of an endpoint.
    pub(crate) fn is_attached(&self) -> bool {
        let has_learned = |lane: &Lane| lane.due.is_some() && !lane.breaker.is_closed();
        self.awaits_permit || self.lanes.values().any(has_learned)
    }
}

impl Lane {
    fn note_due(&mut self, due: Option<Timestamp>) {
        self.due = [self.due, due].into_iter().flatten().min();
    }

    fn is_due(&self, now: Now) -> bool {
        !self.has_request && self.due.is_some_and(|due| due <= now.wall)
    }

    /// Time until which nothing is sent: the endpoint asked for a pause, or its breaker is open.
    fn held_until(&self, now: Now) -> Option<Timestamp> {
        let opens_at = self.breaker.opens_at(now.monotonic);
        let opens_at = opens_at.map(|at| now.wall.plus(at.saturating_sub(now.monotonic)));
        self.row.held_until.filter(|until| *until > now.wall).max(opens_at)
    }

    fn room(&self, now: Now) -> usize {
        if self.held_until(now).is_some() {
            return 0;
        }
        let may_run = (self.row.max_in_flight as usize).min(self.limit.get());
        may_run.min(self.breaker.room(now.monotonic)).saturating_sub(self.running)
    }
}

#[cfg(test)]
pub(super) mod tests;
