//! The plan of a run: client operations and faults, each with its time. A plan is a file that can
//! be kept, edited, made smaller, and run again without the generator.
//!
//! Invariants: `PLAN-1` a run depends only on its plan: what the plan leaves open is drawn from its
//! seed, in separate streams; `PLAN-2` removing a fault or an operation does not change the others,
//! only their results.

pub mod generate;
pub mod scenario;

use crate::determinism::EPOCH_MS;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use triggers_protocol::{EventStatus, Timestamp};

/// Length of a `DayPasses` clock jump: a little more than [`RETENTION`].
pub const DAY: Duration = Duration::from_secs(26 * 3_600);
/// Retention of events in plans with `DayPasses` faults.
pub const RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// Length of a small `ClockStep`.
pub const HOUR_MS: i64 = 3_600_000;
/// Length of a `ClockStep` that no node believes.
pub const TEN_YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
/// Upper bound on the simulated length of a run, apart from clock jumps.
const RUN_MAX: Duration = Duration::from_secs(3_600);

/// Everything that happens in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub scenario: String,
    /// Seed of everything that the plan leaves open.
    pub seed: u64,
    /// Number of nodes at the start.
    pub nodes: usize,
    pub partitions: u16,
    pub tenants: usize,
    /// Number of tenants with webhook subscriptions: the last ones.
    pub subscribed_tenants: usize,
    /// Upper bound on the waiting events of a tenant.
    pub quota: Option<u64>,
    /// Time at which operations and faults end and everything is repaired.
    pub run_ms: u64,
    /// Resolution of the wall clocks: requests within one step have the same time.
    pub clock_step_ms: u64,
    /// Upper bound on the latency of the store in each direction, in microseconds.
    pub store_latency_us_max: u64,
    /// Upper bound on the time until a link of a node that joins comes up, in milliseconds.
    pub late_links_ms_max: u64,
    /// Initial skew of each node's wall clock.
    pub skew_ms: Vec<i64>,
    pub faults: Vec<Fault>,
    pub operations: Vec<Operation>,
}

impl Plan {
    pub fn is_subscribed(&self, tenant: usize) -> bool {
        tenant >= self.tenants - self.subscribed_tenants
    }

    /// Whether the plan has `DayPasses` faults, so that events expire.
    pub fn has_expiry(&self) -> bool {
        self.days() > 0
    }

    /// Whether wall clocks make large steps.
    pub fn has_clock_steps(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.kind, FaultKind::ClockStep { .. }))
    }

    fn days(&self) -> u32 {
        let days = self.faults.iter().filter(|fault| fault.kind == FaultKind::DayPasses {});
        u32::try_from(days.count()).unwrap_or(u32::MAX)
    }

    /// Upper bound on every node's wall clock during the run, apart from the node's own skew.
    pub fn latest_clock(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH_MS.cast_signed())
            .plus(DAY.saturating_mul(self.days()))
            .plus(RUN_MAX)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub at_ms: u64,
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What goes wrong. `node` counts from 0; a number without a node means the last node.
/// Probabilities are per mille.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// A process is killed and starts again.
    Kill { node: usize, back_after_ms: u64 },
    /// A machine loses power and starts again.
    PowerLoss { node: usize, back_after_ms: u64 },
    /// A process is suspended. Its monotonic clock jumps when it resumes.
    Freeze { node: usize, for_ms: u64 },
    /// A node is asked to stop, and starts again once it has stopped.
    Restart { node: usize },
    /// A node is asked to stop for good.
    ScaleIn { node: usize },
    /// A new node joins.
    ScaleOut {},
    /// A node is cut off from the other nodes; with `is_one_way` it can still send to them.
    Partition { node: usize, for_ms: u64, is_one_way: bool },
    /// A node is cut off from clients and webhook receivers.
    Unreachable { node: usize, for_ms: u64 },
    /// Packets take up to `steps_max` steps.
    SlowNetwork { steps_max: u64, for_ms: u64 },
    /// Messages between nodes are lost, delivered twice or delayed.
    PeerMessages { dropped: u32, duplicated: u32, delayed: u32, for_ms: u64 },
    /// Commits fail with a conflict although there is none.
    Conflicts { per_mille: u32, for_ms: u64 },
    /// Commits take effect, do not, or do so later, and always return an unknown outcome.
    Unknown { committed: u32, not_committed: u32, late: u32, for_ms: u64 },
    /// Store calls stall.
    Stalls { per_mille: u32, stall_ms: u64, for_ms: u64 },
    /// The store is unavailable.
    Outage { for_ms: u64 },
    /// A node's wall clock jumps.
    ClockJump { node: usize, by_ms: i64 },
    /// The wall clock of one node, or of all, steps by more than a node lets pass; with `for_ms` it
    /// steps back after that time.
    ClockStep { node: Option<usize>, by_ms: i64, for_ms: Option<u64> },
    /// All wall clocks jump ahead by [`DAY`], so that events expire.
    DayPasses {},
    /// A node lacks descriptors: it opens no connection to a webhook receiver.
    NodeLimit { node: usize, for_ms: u64 },
    /// A tenant's first webhook receiver changes its behaviour.
    Receiver { tenant: usize, behaviour: Behaviour, for_ms: u64 },
    /// A tenant's webhook receivers close kept connections when the next request is on its way.
    HangUps { tenant: usize, for_ms: u64 },
}

/// How a webhook receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    Healthy,
    Failing,
    /// Never answers; the sender times out.
    Silent,
    /// Answers 200 after a delay.
    Slow,
    /// Answers 200 and 503 in turn.
    Flapping,
    /// Receives the webhook, then closes the connection without an answer.
    Aborting,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    pub at_ms: u64,
    /// The operation's number, which also identifies the events that it sends.
    pub number: u64,
    pub tenant: usize,
    pub node: usize,
    /// Random number that picks an event or lease among those the client knows by then.
    pub pick: u64,
    /// Time after which the client disconnects, if it does not wait for the answer.
    pub disconnects_after_ms: Option<u64>,
    /// Two clients send the request at the same time, as two different requests. Events that are
    /// sent without an idempotency key are sent once.
    pub is_doubled: bool,
    #[serde(flatten)]
    pub kind: OperationKind,
}

/// What becomes of the events of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseAction {
    Ack,
    Nack,
    Extend,
}

impl LeaseAction {
    /// The last part of the request's path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Extend => "extend",
        }
    }
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum OperationKind {
    /// Sends an event, with an idempotency key if `has_key` is set.
    Send { has_key: bool, bytes: usize },
    /// Repeats an earlier request that had an idempotency key.
    SendAgain {},
    /// Sends a different event with an idempotency key that was used before.
    SendOther {},
    /// Sends a batch of events.
    SendBatch { count: usize },
    /// Acknowledges an event; with `is_leased` under a lease token, which may have expired.
    Acknowledge { is_leased: bool },
    /// Acknowledges a batch of events.
    AcknowledgeBatch { count: usize },
    /// Leases up to `limit` events.
    Lease { limit: usize, visibility_seconds: u64 },
    /// Leases an event of one of the three types.
    FilteredLease { event_type: u64, visibility_seconds: u64 },
    /// Acknowledges, nacks or extends an event with a token that was never granted.
    WrongToken {},
    /// Extends a lease, whose token may have expired.
    Extend { visibility_seconds: u64 },
    /// Acknowledges, nacks or extends a lease as a whole, or the events of it by name.
    ChangeLease { action: LeaseAction, is_named: bool, visibility_seconds: u64 },
    /// Gives a leased event back.
    Nack {},
    /// Deletes an event.
    Delete {},
    /// Replays an event.
    Replay {},
    /// Replays all failed events.
    ReplayFailed {},
    /// Recovers all that a subscription has missed; twice, to see that it gets nothing again.
    Recover {},
    /// Reads one event.
    Read {},
    /// Reads all pages of the events with one status.
    Walk { status: EventStatus },
    /// Lists the tenant's API keys.
    ListKeys {},
    /// Reads the tenant's event counts.
    Statistics {},
    /// Revokes the tenant's second API key, then tries to use it.
    RevokeKey {},
}
