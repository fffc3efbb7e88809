//! Scenarios: small files that say how large a cluster is, what its clients do and which faults
//! happen how often.

use serde::Deserialize;
use std::collections::BTreeMap;

const FILES: [(&str, &str); 12] = [
    ("steady", include_str!("../../scenarios/steady.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("hot-tenant", include_str!("../../scenarios/hot-tenant.toml")),
    ("many-tenants", include_str!("../../scenarios/many-tenants.toml")),
    ("poison-receiver", include_str!("../../scenarios/poison-receiver.toml")),
    ("rolling-upgrade", include_str!("../../scenarios/rolling-upgrade.toml")),
    ("slow-store", include_str!("../../scenarios/slow-store.toml")),
    ("flapping-node", include_str!("../../scenarios/flapping-node.toml")),
    ("long-outage", include_str!("../../scenarios/long-outage.toml")),
    ("retention", include_str!("../../scenarios/retention.toml")),
    ("clock-steps", include_str!("../../scenarios/clock-steps.toml")),
    ("chaos", include_str!("../../scenarios/chaos.toml")),
];

/// The content of a scenario file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub about: String,
    pub nodes: usize,
    pub tenants: usize,
    /// Number of tenants with webhook subscriptions, among all tenants.
    pub subscribed_tenants: usize,
    /// Upper bound on the waiting events of a tenant.
    pub quota: Option<u64>,
    /// Length of the phase with operations and faults.
    pub run_ms: u64,
    pub operations: u64,
    /// Share of the operations, per mille, that go to the first tenant beside its even share.
    #[serde(default)]
    pub hot_per_mille: u64,
    /// Number of bursts that the operations come in; 0 spreads them evenly.
    #[serde(default)]
    pub bursts: u64,
    /// Upper bound on the skew of a wall clock, in both directions.
    #[serde(default)]
    pub skew_ms_max: u64,
    /// Resolution of the wall clocks; at least 1. A coarse clock gives requests that follow each
    /// other the same time.
    #[serde(default)]
    pub clock_step_ms: u64,
    /// Makes all receivers slow, so that webhooks are in flight whenever a fault begins.
    #[serde(default)]
    pub slow_receivers: bool,
    /// Upper bound on the latency of the store in each direction, in microseconds.
    #[serde(default = "store_latency_us_max")]
    pub store_latency_us_max: u64,
    /// Upper bound on the time until a link of a node that joins comes up, in milliseconds.
    #[serde(default)]
    pub late_links_ms_max: u64,
    /// Upper bound on the number of times at which a node lacks descriptors.
    #[serde(default)]
    pub node_limits_max: u64,
    /// Share of the plans, per mille, in which a tenant's first receiver is silent while the tenant
    /// sends more than may be in flight at once.
    #[serde(default)]
    pub hog_per_mille: u32,
    /// Upper bound on the large steps of wall clocks; with one there is at least one step.
    #[serde(default)]
    pub clock_steps_max: u64,
    pub faults_min: u64,
    pub faults_max: u64,
    /// Relative frequency of each kind of fault.
    pub faults: BTreeMap<FaultName, u64>,
    /// Relative frequency of each kind of operation.
    pub mix: BTreeMap<OperationName, u64>,
}

fn store_latency_us_max() -> u64 {
    2_500
}

/// A kind of fault, as scenario files name it. The order of the variants is the order in which the
/// generator draws, so changing it changes the plan of every seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultName {
    ClockJump,
    Conflicts,
    DayPasses,
    DeadReceiver,
    Freeze,
    Kill,
    LongOutage,
    Outage,
    Partition,
    PeerMessages,
    PowerLoss,
    Receiver,
    Restart,
    ScaleIn,
    ScaleOut,
    SlowNetwork,
    Stalls,
    Unknown,
    Unreachable,
}

/// A kind of operation, as scenario files name it. The order of the variants is the order in which
/// the generator draws, so changing it changes the plan of every seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationName {
    Acknowledge,
    AcknowledgeBatch,
    Delete,
    Extend,
    Lease,
    ListKeys,
    Read,
    Nack,
    Replay,
    ReplayFailed,
    RevokeKey,
    Send,
    SendAgain,
    SendBatch,
    SendOther,
    Statistics,
    Walk,
    WrongToken,
}

impl Scenario {
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// Reads the scenario of this name.
    ///
    /// # Errors
    /// If the name is unknown, or the file malformed.
    pub fn load(name: &str) -> Result<Self, String> {
        let file = FILES.iter().find(|(known, _)| *known == name);
        let known = || Self::names().collect::<Vec<_>>().join(", ");
        let (_, text) =
            file.ok_or_else(|| format!("there is no scenario {name:?}; there are {}", known()))?;
        toml::from_str(text).map_err(|error| format!("scenario {name}: {error}"))
    }
}
