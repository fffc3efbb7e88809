//! Planning of batches: which of the waiting requests go into the next one, and their stamps.
//!
//! Ids, nonces and times are drawn here, so that a batch that runs again does the same again.

use super::{InboxEffect, InboxMachine, Phase};
use crate::error::BrokerError;
use crate::inbox::batch::{InboxBatch, PlannedRequest};
use crate::inbox::request::{OwnWork, Request};
use std::collections::HashSet;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, Timestamp};
use triggers_store::tables::batch::BatchPlan;
use triggers_store::tables::operations::{Selection, Stamp};

impl InboxMachine {
    /// Whether a batch of the waiting requests would be at least half full.
    pub(super) fn would_be_large(&self) -> bool {
        let waiting = self.waiting.iter().chain(&self.arrived);
        let (weight, bytes) = waiting.fold((0, 0), |(weight, bytes), request| {
            (weight + request.footprint.weight, bytes + request.footprint.bytes)
        });
        weight >= self.limits.events_max / 2 || bytes >= self.limits.bytes_max / 2
    }

    /// Plans a batch of waiting requests: as many as fit, and at least one however large.
    pub(super) fn plan(&mut self) -> Vec<InboxEffect> {
        let (received_at, now) = (self.environment.now(), self.now().wall.max(self.last_plan));
        self.last_plan = now;
        let mut effects = Vec::new();
        let (mut requests, mut minted_id) = (Vec::new(), self.last_id);
        let (mut bytes, mut weight) = (0, 0);
        let (mut named, mut selection) = (HashSet::<EventId>::new(), Selection::New);
        while let Some(next) = self.waiting.front() {
            let footprint = &next.footprint;
            let selected = match next.own {
                Some(OwnWork::Claim { .. }) if self.claims_alone => Selection::Alone,
                _ => footprint.selection,
            };
            let is_full = weight + footprint.weight > self.limits.events_max
                || bytes + footprint.bytes > self.limits.bytes_max
                || footprint.named.iter().any(|id| named.contains(id))
                || (selected != selection
                    && selected != Selection::New
                    && selection != Selection::New)
                || selected == Selection::Alone
                || selection == Selection::Alone;
            if is_full && !requests.is_empty() {
                break;
            }
            let request = self.waiting.pop_front().expect("its front was read just above");
            if !request.operation.is_waiting() {
                effects.push(self.reject(request, BrokerError::DeadlinePassed));
                continue;
            }
            if selected != Selection::New {
                selection = selected;
            }
            named.extend(&request.footprint.named);
            bytes += request.footprint.bytes;
            weight += request.footprint.weight;
            let stamp = self.stamp(&request, now, received_at, &mut minted_id);
            requests.push(PlannedRequest { request, stamp });
        }
        if !requests.is_empty() {
            self.phase = Phase::Committing;
            self.positions.begin_batch();
            let (last_id, counts) = (self.last_id, self.counts);
            let limits = self.limits.operations;
            let plan = BatchPlan { last_id, minted_id, received_at, counts, limits };
            let leaves_more = !self.waiting.is_empty();
            let has_subscriptions = self.dispatcher.has_subscriptions();
            let webhook_marks = self.positions.webhooks().clone();
            let batch =
                InboxBatch { plan, requests, leaves_more, has_subscriptions, webhook_marks };
            effects.push(InboxEffect::Commit(batch));
        }
        effects
    }

    /// The stamp of a request. Its new events get ids, and `minted` moves on to the last one.
    fn stamp(
        &self,
        request: &Request,
        now: Timestamp,
        received_at: Timestamp,
        minted: &mut EventId,
    ) -> Stamp {
        let ids = (0..request.footprint.new_events).map(|index| {
            if request.rejected.contains(&index) {
                return None;
            }
            if is_planted(Bug::IdsFollowTheClock) && received_at < minted.created_at() {
                *minted = EventId::ZERO;
            }
            *minted = EventId::mint(*minted, received_at, self.environment.bytes());
            Some(*minted)
        });
        let ids = ids.collect();
        let nonce = u64::from_le_bytes(self.environment.bytes());
        let lease_after = request.footprint.filter.and_then(|filter| self.positions.get(filter));
        let webhook_mark = match request.own {
            Some(OwnWork::Claim { subscription, .. } | OwnWork::GiveUp { subscription }) => {
                self.positions.webhooks().get(&subscription).copied()
            }
            Some(OwnWork::Expire) | None => None,
        };
        let secret = self.environment.bytes();
        Stamp { at: now, nonce, secret, ids, lease_after, webhook_mark }
    }
}
