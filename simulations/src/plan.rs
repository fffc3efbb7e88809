//! What a run does, decided before it begins: operations of clients and faults, each at its time. A plan is a file that can
//! be kept, made smaller, and run again without the generator.
//!
//! Invariants: `PLAN-1` a run is a function of its plan: what a plan leaves open is drawn from its seed in streams of their
//! own; `PLAN-2` leaving out a fault or an operation changes nothing of the others, except what they find.

pub mod generate;
pub mod scenario;

use crate::determinism::EPOCH_MS;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use triggers_protocol::Timestamp;

/// How far the clocks go on when a day passes.
pub const DAY: Duration = Duration::from_secs(26 * 3_600);
/// How long events are kept where days pass.
pub const RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// A run takes less.
const RUN_MAX: Duration = Duration::from_secs(3_600);

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The scenario that it was made of.
    pub scenario: String,
    /// The seed of everything that the plan leaves open.
    pub seed: u64,
    /// Nodes at the start.
    pub nodes: usize,
    /// Partitions.
    pub partitions: u16,
    /// Tenants; those from `tenants - pushed` on have a subscription.
    pub tenants: usize,
    /// Tenants with a subscription.
    pub pushed: usize,
    /// Events that may wait in an inbox.
    pub quota: Option<u64>,
    /// When operations and faults end and everything is mended.
    pub run_ms: u64,
    /// How the wall clocks of the nodes differ at the start.
    pub skew_ms: Vec<i64>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What clients do.
    pub operations: Vec<Operation>,
}

impl Plan {
    /// Whether days pass, so that events are kept for one only.
    pub fn days_pass(&self) -> bool {
        self.days() > 0
    }

    fn days(&self) -> u32 {
        let days = self
            .faults
            .iter()
            .filter(|fault| matches!(fault.kind, FaultKind::DayPasses {}))
            .count();
        u32::try_from(days).unwrap_or(u32::MAX)
    }

    /// No node's wall clock is ever later, but for its own skew.
    pub fn latest_clock(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH_MS.cast_signed())
            .plus(DAY.saturating_mul(self.days()))
            .plus(RUN_MAX)
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What goes wrong. `node` counts from 0; one that is not there means the last one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "a kind's line says what its fields are")]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultKind {
    /// A process is killed and starts again.
    Kill { node: usize, back_after_ms: u64 },
    /// A machine loses power and starts again.
    PowerLoss { node: usize, back_after_ms: u64 },
    /// A process stands still: afterwards it believes that no time has passed.
    Freeze { node: usize, for_ms: u64 },
    /// A node is asked to stop, and started again when it has.
    Restart { node: usize },
    /// A node is asked to stop for good.
    ScaleIn { node: usize },
    /// A node more.
    ScaleOut {},
    /// A node and all others cannot speak; with `is_one_way` it can still be heard.
    Partition { node: usize, for_ms: u64, is_one_way: bool },
    /// A node and the clients cannot speak.
    Unreachable { node: usize, for_ms: u64 },
    /// Packets take up to so many steps.
    SlowNetwork { steps_max: u64, for_ms: u64 },
    /// Messages between members are lost, late or doubled; per mille.
    PeerWeather { dropped: u32, duplicated: u32, delayed: u32, for_ms: u64 },
    /// Commits conflict without a reason; per mille.
    Conflicts { per_mille: u32, for_ms: u64 },
    /// Commits take effect, or not, or later, and are answered as unknown; per mille.
    Unknown { committed: u32, not_committed: u32, late: u32, for_ms: u64 },
    /// Calls of the store stall; per mille.
    Stalls { per_mille: u32, stall_ms: u64, for_ms: u64 },
    /// The store is away.
    Outage { for_ms: u64 },
    /// A node's wall clock jumps.
    ClockJump { node: usize, by_ms: i64 },
    /// More than a day passes on every clock at once: events are kept for one.
    DayPasses {},
    /// A webhook receiver behaves otherwise.
    Receiver { tenant: usize, behaviour: Behaviour, for_ms: u64 },
}

/// How a webhook receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// 200.
    Well,
    /// 500.
    Failing,
    /// Nothing, until the sender gives up.
    Silent,
    /// 200 after a while.
    Slow,
    /// 200 and 500 in turn.
    Flapping,
    /// It takes the webhook and breaks the connection off.
    Lying,
}

/// Something that a client does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// When.
    pub at_ms: u64,
    /// Its number, which names its events.
    pub number: u64,
    /// For which tenant.
    pub tenant: usize,
    /// At which node.
    pub node: usize,
    /// Chooses among what the client knows at that time.
    pub pick: u64,
    /// If it gives up after so long.
    pub disconnects_after_ms: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub kind: OperationKind,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "a kind's line says what its fields are")]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum OperationKind {
    /// Sends an event; with a key if it says so.
    Send { has_key: bool, bytes: usize },
    /// Sends an event again that was sent with a key.
    SendAgain {},
    /// Sends another event with a key that was used before.
    SendOther {},
    /// Sends some at once.
    SendBatch { count: usize },
    /// Acknowledges an event; as leased with the token of its lease, which may be an old one.
    Acknowledge { is_leased: bool },
    /// Acknowledges some at once.
    AcknowledgeBatch { count: usize },
    /// Leases some.
    Lease { limit: usize, visibility_s: u64 },
    /// Acknowledges, extends or gives back an event with a token that nobody has.
    WrongToken {},
    /// Holds a lease for longer, with a token that may be an old one.
    Extend { visibility_s: u64 },
    /// Gives a leased event back.
    Refuse {},
    /// Deletes an event.
    Delete {},
    /// Replays an event.
    Replay {},
    /// Replays all that have failed.
    ReplayFailed {},
    /// Reads one event.
    Read {},
    /// Follows the pages of a status to their end.
    Walk { status: Status },
    /// Lists the tenant's keys.
    ListKeys {},
    /// Asks for the numbers.
    Statistics {},
    /// Revokes the tenant's second key, and goes on using it.
    RevokeKey {},
}

/// A status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits.
    Received,
    /// Leased or pushed.
    Queued,
    /// Done.
    Delivered,
    /// Given up.
    Failed,
}

impl Status {
    /// All.
    pub const ALL: [Self; 4] = [Self::Received, Self::Queued, Self::Delivered, Self::Failed];

    /// As it stands in URLs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}
