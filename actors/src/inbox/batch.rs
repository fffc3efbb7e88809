//! A batch: the requests that go into one transaction.
//!
//! Made by [`super::machine`] and run by the shell, which answers the requests from it directly. A
//! batch that failed goes back to the machine.

use super::request::{OwnWork, Request};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use triggers_protocol::SubscriptionId;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_store::kv::{Prefetch, Transaction};
use triggers_store::tables::TableError;
use triggers_store::tables::batch::{Activity, Applied, Batch, BatchPlan, LeaseSearches};
use triggers_store::tables::fence::Guard;
use triggers_store::tables::inbox::Counts;
use triggers_store::tables::keys::TenantKeys;
use triggers_store::tables::operations::Stamp;
use triggers_store::tables::webhook_marks::WebhookMarks;

/// Requests that go into one transaction.
#[derive(Debug)]
pub(crate) struct InboxBatch {
    pub(crate) plan: BatchPlan,
    pub(super) requests: Vec<PlannedRequest>,
    /// Some waiting requests had no room in it.
    pub(super) leaves_more: bool,
    /// Whether operations need the subscriptions.
    pub(super) has_subscriptions: bool,
    /// Marks when the batch was planned.
    pub(super) webhook_marks: Arc<WebhookMarks>,
}

/// A request in a batch.
#[derive(Debug)]
pub(super) struct PlannedRequest {
    pub(super) request: Request,
    pub(super) stamp: Stamp,
}

/// What finished requests release.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(super) has_expired: bool,
    pub(super) keys: HashSet<[u8; 16]>,
    /// Subscriptions whose claim or clearing has ended.
    pub(super) asked: Vec<SubscriptionId>,
}

impl Finished {
    pub(super) fn note(&mut self, request: &Request) {
        match request.own {
            Some(OwnWork::Expire) => self.has_expired = true,
            Some(OwnWork::Claim { subscription, .. } | OwnWork::GiveUp { subscription }) => {
                self.asked.push(subscription);
            }
            None => self.keys.extend(request.footprint.keys.iter().map(|(_, key)| *key)),
        }
    }
}

impl InboxBatch {
    /// Whether no caller waits for any of its requests any more, nor the inbox itself.
    pub(crate) fn is_abandoned(&self) -> bool {
        !self.requests.iter().any(|planned| planned.request.operation.is_waiting())
    }

    /// Whether the next batch begins as soon as this one is ordered: requests wait, and no notice
    /// has to wait until this one is durable.
    pub(crate) fn is_pipelined(&self) -> bool {
        let is_plain = |planned: &PlannedRequest| !planned.request.footprint.has_notices;
        self.leaves_more && self.requests.iter().all(is_plain)
    }

    /// Events that the batch would add.
    pub(crate) fn events(&self) -> usize {
        self.requests.iter().map(|planned| planned.stamp.ids.iter().flatten().count()).sum()
    }

    /// Carries out all operations in one transaction.
    ///
    /// # Errors
    /// [`TableError`]; then no operation has taken effect, or its outcome is unknown.
    pub(crate) async fn apply(
        &self,
        tx: &mut dyn Transaction,
        guard: &Guard,
        keys: &TenantKeys,
    ) -> Result<Applied, TableError> {
        if tx.is_remote() {
            let mut reads = Prefetch::default();
            Batch::prefetch(&mut reads, guard, keys, self.has_subscriptions);
            for PlannedRequest { request, stamp } in &self.requests {
                request.operation.prefetch(&mut reads, keys, &self.plan.limits, stamp);
            }
            tx.prefetch(reads).await?;
        }
        let has_run = |planned: &PlannedRequest| planned.request.operation.has_outcome();
        let is_repeated = self.requests.iter().any(has_run);
        let is_repeated = is_repeated && !is_planted(Bug::MarkKeptAfterUnknown);
        let mut batch = Batch::begin(tx, guard, keys, self.plan).await?;
        if is_repeated {
            // The earlier run may have added rows in what was empty when the batch was planned.
            batch.ignore_positions();
        } else {
            batch.use_marks(self.webhook_marks.clone());
        }
        for PlannedRequest { request, stamp } in &self.requests {
            request.operation.apply(&mut batch, tx, stamp).await?;
        }
        let mut applied = batch.finish(tx).await?;
        applied.searches.is_repeated = is_repeated;
        Ok(applied)
    }

    /// What a commit would have changed, if it has appends: for [`triggers_protocol::planted`]
    /// alone.
    pub(crate) fn supposed(&self) -> Option<Applied> {
        let is_applied = |planned: &PlannedRequest| {
            planned.request.operation.has_outcome() && !planned.request.footprint.has_notices
        };
        let has_events = self.plan.minted_id > self.plan.last_id;
        (has_events && self.requests.iter().all(is_applied)).then(|| Applied {
            last_id: self.plan.minted_id,
            counts: Counts::default(),
            first_lease_end: None,
            due: BTreeMap::new(),
            notices: Vec::new(),
            activity: Activity::default(),
            searches: LeaseSearches::default(),
            webhook_marks: WebhookMarks::new(),
        })
    }

    /// What its requests release when the batch ends.
    pub(crate) fn finished(&self) -> Finished {
        let mut finished = Finished::default();
        for planned in &self.requests {
            finished.note(&planned.request);
        }
        finished
    }

    /// Answers every caller. The batch must be durable.
    pub(crate) fn answer(self) {
        for planned in self.requests {
            planned.request.operation.answer();
        }
    }
}
