//! The tree of options: one struct a section, each in its own file.
//!
//! `NodeOptions` is what a node is started with. Its default is a node for one machine that is bound to loopback;
//! `dev` and `simulation` are the presets that differ from it in code, profiles are TOML files beside this crate.
//!
//! Invariants:
//! - OPTIONS-1: the defaults and every preset are without fault.
//! - OPTIONS-2: `SECTIONS` and `values` list the same fields in the same order.
//!
//! It is not the place of a rule between sections: those are in `rule.rs`.

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

/// The rules of the sections that have any.
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

/// Everything a node is started with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeOptions {
    /// Who this node is.
    pub node: NodeIdentityOptions,
    /// The public listener.
    pub listen: ListenOptions,
    /// The listener for operators.
    pub admin: AdminOptions,
    /// Where events are kept.
    pub store: StoreOptions,
    /// The nodes that share the store.
    pub cluster: ClusterOptions,
    /// Inboxes, commits and admission.
    pub broker: BrokerOptions,
    /// Webhooks.
    pub delivery: DeliveryOptions,
    /// What clients may ask for.
    pub limits: LimitOptions,
    /// Log lines.
    pub log: LogOptions,
}

impl NodeOptions {
    /// Lays the sources over each other (defaults, file, environment, flags; the later wins) and checks the result.
    ///
    /// # Errors
    /// `ConfigError` with every fault of every source: unreadable or malformed file, unknown names, values of a wrong
    /// type or out of bounds, values that do not fit each other.
    pub fn load<E>(sources: Sources<'_, E>) -> Result<Self, ConfigError>
    where
        E: IntoIterator<Item = (String, String)>,
    {
        load::load(sources)
    }

    /// Everything that is wrong with these options; empty if they can be used. Sources are `FaultSource::Default`.
    pub fn validate(&self) -> Vec<Fault> {
        let single = fields().zip(self.values()).filter_map(|(field, value)| {
            let message = field.fault(&value?)?;
            Some((field.path, message))
        });
        let mut faults: Vec<(&'static str, String)> = single.collect();
        let refused = faults.iter().map(|(path, _)| *path).collect();
        faults.extend(
            rule::broken(self, &refused)
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

    /// A node on a developer's machine: loopback, webhooks to it too, lines for people, everything in `data_directory`.
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

    /// Limits so small that a simulated workload meets all of them within a few hundred requests.
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
