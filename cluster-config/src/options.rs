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

use crate::fault::{ConfigError, Fault, FaultSource};
use crate::field::{Field, Section};
use crate::load::{self, Sources};
use crate::rule::{self, Rule};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use toml::Value;

pub use admin::AdminOptions;
pub use broker::BrokerOptions;
pub use cluster::ClusterOptions;
pub use delivery::DeliveryOptions;
pub use limits::LimitOptions;
pub use listen::ListenOptions;
pub use log::{LogFormat, LogOptions};
pub use node::NodeIdentityOptions;
pub use store::{StoreEngine, StoreOptions};

/// Every field of every section.
pub(crate) fn fields() -> impl Iterator<Item = &'static Field> {
    SECTIONS.iter().flat_map(|section| section.fields)
}

/// Declares `NodeOptions`: for each section its doc line, its name (that of its module) and the
/// type of its options.
macro_rules! node_options {
    ($(#[doc = $doc:literal] $section:ident: $options:ident;)+) => {
        /// All options of a node.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct NodeOptions {
            $(#[doc = $doc] pub $section: $options,)+
        }

        impl NodeOptions {
            /// The values of all fields, in the order of `fields()`.
            pub(crate) fn values(&self) -> Vec<Option<Value>> {
                [$(self.$section.values()),+].concat()
            }
        }

        /// Every section, in the order of `NodeOptions`.
        pub(crate) const SECTIONS: &[Section] = &[$($options::SECTION),+];

        /// The rules of every section.
        pub(crate) const RULES: &[&[Rule]] = &[$($section::RULES),+];
    };
}

node_options! {
    /// Identity of this node.
    node: NodeIdentityOptions;
    /// The public listener.
    listen: ListenOptions;
    /// The listener for operators.
    admin: AdminOptions;
    /// The storage engine.
    store: StoreOptions;
    /// The nodes that share the store.
    cluster: ClusterOptions;
    /// Inboxes, commits and admission limits.
    broker: BrokerOptions;
    /// Delivery of webhooks.
    delivery: DeliveryOptions;
    /// Limits on requests of clients.
    limits: LimitOptions;
    /// Logging of the node.
    log: LogOptions;
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
        let fault = |path: &str, message: String| Fault {
            source: FaultSource::Default,
            field: path.to_owned(),
            message,
        };
        let (mut faults, mut rejected) = (Vec::new(), BTreeSet::new());
        for (field, value) in fields().zip(self.values()) {
            if let Some(message) = value.and_then(|value| field.fault(&value)) {
                faults.push(fault(field.path, message));
                rejected.insert(field.path);
            }
        }
        let broken = rule::broken(self, &rejected).into_iter();
        faults.extend(broken.map(|(rule, message)| fault(rule.fields[0], message)));
        faults
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
}

#[cfg(test)]
mod tests;
