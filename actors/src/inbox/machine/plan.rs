//! Which of the requests that wait go into the next batch, and whether it is time for one.

use super::{InboxEffect, InboxMachine, Phase, Request, Requester};
use crate::inbox::batch::Batch;
use crate::inbox::request::{BrokerError, Write};
use std::collections::HashSet;
use triggers_protocol::EventId;

/// How the writes of a request come to their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// They make them.
    New,
    /// They name them.
    Named,
    /// They take what is there for a consumer.
    Lease,
    /// They end leases that have run out.
    Expire,
    /// They change what others in a batch would rely on, and go alone.
    Alone,
}

impl<R> Request<R> {
    /// What an inbox asks of itself.
    pub(crate) fn own(write: Write) -> Self {
        Self { writes: vec![write], bytes: 0, waiting_events_max: None, requester: None }
    }

    /// The events that it names.
    fn names(&self) -> impl Iterator<Item = EventId> {
        self.writes.iter().filter_map(Write::names)
    }

    fn weight(&self) -> usize {
        self.writes.iter().map(Write::weight).sum()
    }

    fn choice(&self) -> Choice {
        match self.writes.first() {
            // A claim takes what no lease touches, and passes over what its batch names.
            None | Some(Write::Append(_) | Write::Claim { .. }) => Choice::New,
            Some(Write::Lease(_)) => Choice::Lease,
            Some(Write::Expire) => Choice::Expire,
            Some(
                Write::Acknowledge(..)
                | Write::Delete(_)
                | Write::Extend(..)
                | Write::Refuse(_)
                | Write::Replay(_)
                | Write::Settle(_),
            ) => Choice::Named,
            Some(
                Write::Subscribe(..)
                | Write::ChangeSubscription(..)
                | Write::Unsubscribe(..)
                | Write::GiveUp(_)
                | Write::Sweep,
            ) => Choice::Alone,
        }
    }
}

impl<R: Requester> InboxMachine<R> {
    /// Whether a batch of what waits would be half full at least.
    pub(super) fn would_be_large(&self) -> bool {
        let waiting = self.waiting.iter().map(|planned| &planned.request).chain(&self.arrived);
        let (weight, bytes) = waiting.fold((0, 0), |(weight, bytes), request| {
            (weight + request.weight(), bytes + request.bytes)
        });
        weight >= self.limits.events_max / 2 || bytes >= self.limits.bytes_max / 2
    }

    /// Takes whole requests until the batch is full. At least one goes, however large.
    pub(super) fn plan(&mut self) -> Vec<InboxEffect<R>> {
        let now = self.environment.now();
        let mut effects = Vec::new();
        let mut batch = Batch::after(self.last_id);
        let (mut bytes, mut weight, mut named, mut choice) = (0, 0, HashSet::new(), Choice::New);
        while let Some(next) = self.waiting.front() {
            let chosen = match next.request.writes.first() {
                Some(Write::Claim { .. }) if self.claims_alone => Choice::Alone,
                _ => next.request.choice(),
            };
            let is_full = weight + next.request.weight() > self.limits.events_max
                || bytes + next.request.bytes > self.limits.bytes_max
                || next.request.names().any(|id| named.contains(&id))
                || (chosen != choice && chosen != Choice::New && choice != Choice::New)
                || chosen == Choice::Alone
                || choice == Choice::Alone;
            if is_full && !batch.requests.is_empty() {
                break;
            }
            let planned = self.waiting.pop_front().expect("its front was looked at just above");
            if !Self::is_waiting(&planned) {
                effects.extend(self.refuse(planned, BrokerError::DeadlinePassed));
                continue;
            }
            if chosen != Choice::New {
                choice = chosen;
            }
            named.extend(planned.request.names());
            bytes += planned.request.bytes;
            weight += planned.request.weight();
            self.add_to(&mut batch, planned, now);
        }
        if !batch.requests.is_empty() {
            self.phase = Phase::Committing;
            batch.leaves_more = !self.waiting.is_empty();
            effects.push(InboxEffect::Commit(batch));
        }
        effects
    }
}
