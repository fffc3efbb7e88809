//! Scenarios: small files that say what kind of life a cluster has, and how often what goes wrong.

use serde::Deserialize;
use std::collections::BTreeMap;

const FILES: [(&str, &str); 10] = [
    ("steady", include_str!("../../scenarios/steady.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("hot-tenant", include_str!("../../scenarios/hot-tenant.toml")),
    ("many-tenants", include_str!("../../scenarios/many-tenants.toml")),
    ("poison-receiver", include_str!("../../scenarios/poison-receiver.toml")),
    ("rolling-upgrade", include_str!("../../scenarios/rolling-upgrade.toml")),
    ("flapping-node", include_str!("../../scenarios/flapping-node.toml")),
    ("long-outage", include_str!("../../scenarios/long-outage.toml")),
    ("retention", include_str!("../../scenarios/retention.toml")),
    ("chaos", include_str!("../../scenarios/chaos.toml")),
];

/// A kind of life.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for.
    pub about: String,
    /// Nodes.
    pub nodes: usize,
    /// Tenants.
    pub tenants: usize,
    /// Tenants with a subscription, among them.
    pub pushed: usize,
    /// Events that may wait in an inbox.
    #[serde(default)]
    pub quota: Option<u64>,
    /// How long operations and faults go on.
    pub run_ms: u64,
    /// Operations, about.
    pub operations: u64,
    /// Per mille of the operations that are the first tenant's, besides its share.
    #[serde(default)]
    pub hot_per_mille: u64,
    /// Operations come in so many bursts; none: evenly.
    #[serde(default)]
    pub bursts: u64,
    /// The greatest difference of a wall clock.
    #[serde(default)]
    pub skew_ms_max: u64,
    /// Whether receivers are slow from the start, so that webhooks are on their way whenever something happens.
    #[serde(default)]
    pub slow_receivers: bool,
    /// Faults at least.
    pub faults_min: u64,
    /// Faults at most.
    pub faults_max: u64,
    /// How often each kind of fault comes, as parts of all.
    pub faults: BTreeMap<String, u64>,
    /// How often each kind of operation comes, as parts of all.
    pub mix: BTreeMap<String, u64>,
}

impl Scenario {
    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The scenario of a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(name: &str) -> Result<Self, String> {
        let file = FILES.iter().find(|(known, _)| *known == name);
        let (_, text) = file.ok_or_else(|| {
            format!(
                "there is no scenario {name:?}; there are {}",
                Self::names().collect::<Vec<_>>().join(", ")
            )
        })?;
        toml::from_str(text).map_err(|error| format!("scenario {name}: {error}"))
    }
}
