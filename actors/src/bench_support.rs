//! Entry points into the private machines, for benches alone.

use crate::delivery::fair_shares::FairShares;
use crate::delivery::permits::{DeliveryPermits, TenantPermits};
use crate::inbox::dispatch::{Dispatcher, Now};
use crate::inbox::machine::{BatchLimits, InboxEffect, InboxMachine};
use crate::inbox::request::{OwnWork, Request};
use crate::membership::machine::{MembershipMachine, MembershipTimes};
use crate::options::BrokerOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::{Environment, EventId, PartitionId, SubscriptionId, TenantId, Timestamp};
use triggers_store::tables::batch::{Activity, Applied, LeaseSearches};
use triggers_store::tables::cluster::ClusterView;
use triggers_store::tables::inbox::{Counts, InboxState};
use triggers_store::tables::operations::{DeleteEvent, Operation};
use triggers_store::tables::rows::{Fence, NodeRow, SubscriptionRow, SubscriptionStatus};
use triggers_store::tables::webhook_marks::WebhookMarks;

/// Plans of one node in a cluster whose nodes are all up.
pub struct MembershipPlanning {
    machine: MembershipMachine,
    view: ClusterView,
    served: BTreeMap<PartitionId, u64>,
    now: Duration,
}

impl MembershipPlanning {
    /// A cluster of `nodes` nodes; the observing node owns and serves all partitions.
    pub fn new(nodes: usize, partitions: u16) -> Self {
        let incarnation = |node: usize| format!("node-{node}@{node}.1");
        let row = |node: usize| NodeRow {
            name: format!("node-{node}"),
            address: String::new(),
            peer_address: String::new(),
            is_draining: false,
            heartbeat: 0,
            protocol: 1,
            version: String::new(),
        };
        let fence = Fence { epoch: 1, incarnation: incarnation(0) };
        let all = (0..partitions).map(PartitionId);
        let times = MembershipTimes {
            take_over_after: Duration::from_secs(10),
            stop_after: Duration::from_secs(8),
        };
        Self {
            machine: MembershipMachine::new(incarnation(0), partitions, times, Duration::ZERO),
            view: ClusterView {
                nodes: (0..nodes).map(|node| (incarnation(node), row(node))).collect(),
                owners: all.clone().map(|partition| (partition, fence.clone())).collect(),
            },
            served: all.map(|partition| (partition, 1)).collect(),
            now: Duration::ZERO,
        }
    }

    /// Observes the next heartbeats; returns the number of partitions to transfer.
    pub fn plan(&mut self) -> usize {
        self.now += Duration::from_secs(1);
        self.view.nodes.values_mut().for_each(|row| row.heartbeat += 1);
        self.machine.observe(&self.view, self.now, &self.served).transfer.len()
    }
}

/// The permits of a tenant that is alone.
fn permits(count: usize) -> TenantPermits {
    let tenant = TenantId::parse("acme").expect("it is a valid id");
    DeliveryPermits::new(count, usize::MAX).of(tenant, Arc::default())
}

/// Batches of an inbox whose commits succeed at once.
pub struct InboxPlanning(InboxMachine);

impl Default for InboxPlanning {
    /// An inbox that has loaded an empty tenant.
    fn default() -> Self {
        let options = BrokerOptions::default();
        let limits = BatchLimits::from(&options);
        let permits = permits(1);
        let dispatcher = Dispatcher::new(options.delivery.dispatch_limits(), permits);
        let mut machine = InboxMachine::new(Environment::system(), limits, dispatcher);
        machine.proceed();
        let mut inbox = Self(machine);
        inbox.plan(1);
        inbox
    }
}

impl InboxPlanning {
    /// Submits requests that name different events and commits them; returns the number of batches.
    pub fn plan(&mut self, requests: u16) -> usize {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut callers = Vec::with_capacity(usize::from(requests));
        let arriving = (0..requests).map(|number| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&number.to_be_bytes());
            let delete = DeleteEvent { id: EventId::from_bytes(id) };
            let footprint = delete.footprint();
            let (request, caller) = Request::new(delete, footprint, deadline, None);
            callers.push(caller);
            request
        });
        self.0.arrive(arriving.collect());
        let (mut effects, mut batches) = (self.0.proceed(), 0);
        while let Some(effect) = effects.pop() {
            effects.extend(match effect {
                InboxEffect::Load => self.0.loaded(Ok(InboxState {
                    last_id: EventId::ZERO,
                    first_lease_end: None,
                    counts: Counts::default(),
                    subscriptions: Vec::new(),
                    webhook_marks: WebhookMarks::new(),
                })),
                InboxEffect::Commit(batch) => {
                    batches += 1;
                    let applied = Applied {
                        last_id: EventId::ZERO,
                        counts: Counts::default(),
                        first_lease_end: None,
                        due: BTreeMap::new(),
                        notices: Vec::new(),
                        activity: Activity::default(),
                        searches: LeaseSearches::default(),
                        webhook_marks: WebhookMarks::new(),
                    };
                    self.0.committed(applied, batch.finished())
                }
                InboxEffect::Reject(..) | InboxEffect::Deliver(_) | InboxEffect::AwaitPermit => {
                    Vec::new()
                }
            });
        }
        batches
    }
}

/// Claims of a tenant whose subscriptions all have webhooks due.
pub struct DispatchPlanning(Dispatcher);

impl DispatchPlanning {
    /// A tenant with `subscriptions` subscriptions.
    pub fn new(subscriptions: u8) -> Self {
        let options = BrokerOptions::default().delivery;
        let permits = permits(options.in_flight_max);
        let mut dispatcher = Dispatcher::new(options.dispatch_limits(), permits);
        let row = |number: u8| SubscriptionRow {
            id: SubscriptionId::from_bytes([number; 16]),
            target_url: "https://one.example/".to_owned(),
            event_types: Vec::new(),
            description: None,
            keys: Vec::new(),
            retry_policy: None,
            max_in_flight: 10,
            status: SubscriptionStatus::Active,
            failing_since: None,
            held_until: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
            changed_by: 0,
        };
        dispatcher
            .load((0..subscriptions).map(|number| (row(number), Some(Timestamp::EPOCH))).collect());
        Self(dispatcher)
    }

    /// Plans one round, as if each claim found nothing; returns the number of claims.
    pub fn plan(&mut self) -> usize {
        let now = Now { wall: Timestamp::EPOCH, monotonic: Duration::ZERO };
        let (work, _) = self.0.plan(now);
        for asked in &work {
            if let OwnWork::Claim { subscription, .. } = asked {
                self.0.answered(*subscription);
            }
        }
        work.len()
    }
}

/// The places of a node whose tenants hold all that they may.
pub struct SharedPlaces(FairShares<u8>);

impl SharedPlaces {
    /// Dead endpoints of `hogs` tenants, each of which may have 1,000 webhooks in flight.
    pub fn new(hogs: u8) -> Self {
        let options = BrokerOptions::default().delivery;
        let mut shares = FairShares::new(options.in_flight_max);
        for hog in 0..hogs {
            shares.take(&hog, options.tenant_in_flight_max);
            shares.ask(&hog);
        }
        Self(shares)
    }

    /// Takes places for another tenant and gives them back; returns how many it got.
    pub fn turn(&mut self, wanted: usize) -> usize {
        let taken = self.0.take(&u8::MAX, wanted);
        self.0.give_back(&u8::MAX, taken);
        while self.0.grant().is_some() {}
        taken
    }
}
