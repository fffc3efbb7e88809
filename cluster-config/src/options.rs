//! `NodeOptions`, the tree of all options: one struct per section, each in its own file.
//!
//! The defaults describe a single node that is bound to loopback. `dev` and `simulation` are
//! presets in code; the profiles for production are TOML files beside this crate's `src` folder.
//!
//! Invariants:
//! - `OPTIONS-2`: the defaults and every preset are valid.
//! - `OPTIONS-3`: `SECTIONS` and `values` list the same fields in the same order.

mod admin;
mod broker;
mod cluster;
mod delivery;
mod limits;
mod listen;
mod log;
mod node;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::fault::{ConfigError, Fault, FaultSource};
use crate::field::{Field, Section};
use crate::load::{self, Sources};
use crate::rule::{self, Rule};

pub use admin::AdminOptions;
pub use broker::BrokerOptions;
pub use cluster::ClusterOptions;
pub use delivery::DeliveryOptions;
pub use limits::LimitOptions;
pub use listen::ListenOptions;
pub use log::{LogFormat, LogOptions};
pub use node::NodeIdentityOptions;
pub use store::{StoreEngine, StoreOptions};

/// Every section, in the order of `NodeOptions`.
pub(crate) const SECTIONS: [&Section; 9] = [
    &NodeIdentityOptions::SECTION,
    &ListenOptions::SECTION,
    &AdminOptions::SECTION,
    &StoreOptions::SECTION,
    &ClusterOptions::SECTION,
    &BrokerOptions::SECTION,
    &DeliveryOptions::SECTION,
    &LimitOptions::SECTION,
    &LogOptions::SECTION,
];

/// The rules that are declared in the section files.
pub(crate) const RULES: [&[Rule]; 8] = [
    node::RULES,
    listen::RULES,
    store::RULES,
    cluster::RULES,
    broker::RULES,
    delivery::RULES,
    limits::RULES,
    log::RULES,
];

/// Every field of every section.
pub(crate) fn fields() -> impl Iterator<Item = &'static Field> {
    SECTIONS.into_iter().flat_map(|section| section.fields)
}

/// All options of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeOptions {
    /// Identity of this node.
    pub node: NodeIdentityOptions,
    /// The public listener.
    pub listen: ListenOptions,
    /// The listener for operators.
    pub admin: AdminOptions,
    /// The storage engine.
    pub store: StoreOptions,
    /// The nodes that share the store.
    pub cluster: ClusterOptions,
    /// Inboxes, commits and admission limits.
    pub broker: BrokerOptions,
    /// Delivery of webhooks.
    pub delivery: DeliveryOptions,
    /// Limits on requests of clients.
    pub limits: LimitOptions,
    /// Logging of the node.
    pub log: LogOptions,
}

impl NodeOptions {
    /// Merges the sources (defaults, file, environment, flags; the later wins) and validates.
    ///
    /// # Errors
    /// `ConfigError` with every fault of every source: an unreadable or malformed file, unknown
    /// names, values of the wrong type or out of bounds, values that contradict each other.
    pub fn load<E>(sources: Sources<'_, E>) -> Result<Self, ConfigError>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        load::load(sources)
    }

    /// Every fault in these options; empty if they are valid. The source of each is `Default`.
    pub fn validate(&self) -> Vec<Fault> {
        let single = fields().zip(self.values()).filter_map(|(field, value)| {
            let message = field.fault(&value?)?;
            Some((field.path, message))
        });
        let mut faults: Vec<(&'static str, String)> = single.collect();
        let rejected = faults.iter().map(|(path, _)| *path).collect();
        faults.extend(
            rule::broken(self, &rejected)
                .into_iter()
                .map(|(rule, message)| (rule.fields[0], message)),
        );
        let fault = |(path, message): (&str, String)| Fault {
            source: FaultSource::Default,
            field: path.to_owned(),
            message,
        };
        faults.into_iter().map(fault).collect()
    }

    /// Options for a developer's machine: listeners and webhooks on loopback, readable log lines.
    pub fn dev(data_directory: impl Into<PathBuf>) -> Self {
        let mut options = Self::default();
        options.listen.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        options.admin.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
        options.store.data_directory = data_directory.into();
        options.delivery.is_https_required = false;
        options.delivery.allowed_targets = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
        options.log.format = LogFormat::Human;
        options.log.filter = "info".to_owned();
        options
    }

    /// Limits so small that a simulated workload reaches each within a few hundred requests.
    pub fn simulation() -> Self {
        Self {
            node: NodeIdentityOptions { partitions: 8, ..NodeIdentityOptions::default() },
            listen: ListenOptions::simulation(),
            admin: AdminOptions::default(),
            store: StoreOptions::simulation(),
            cluster: ClusterOptions::simulation(),
            broker: BrokerOptions::simulation(),
            delivery: DeliveryOptions::simulation(),
            limits: LimitOptions::simulation(),
            log: LogOptions::default(),
        }
    }

    /// The values of all fields, in the order of `fields()`.
    pub(crate) fn values(&self) -> Vec<Option<Value>> {
        [
            self.node.values(),
            self.listen.values(),
            self.admin.values(),
            self.store.values(),
            self.cluster.values(),
            self.broker.values(),
            self.delivery.values(),
            self.limits.values(),
            self.log.values(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests;
