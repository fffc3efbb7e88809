//! Options of a node: what they are, where they come from and when they are refused.
//!
//! `NodeOptions` is the one tree of typed options, a section a component. `NodeOptions::load` lays the sources over each
//! other, weakest first: defaults, a TOML file, `TRIGGERS__SECTION__NAME` environment variables, flags. `default_toml`
//! writes the commented default file from the same table that declares the fields, so that the two cannot disagree.
//!
//! Invariants:
//! - CONFIG-1: `NodeOptions::load` gives options without a fault, or every fault it found at once, each with its source.
//! - CONFIG-2: a name that no field has is refused in every source, never ignored.
//! - CONFIG-3: each field is declared once; its type, default, bounds and comment come from that declaration.
//!
//! It is not a watcher (options are read once, at start), and it holds no secret: keys are named by their file.

#[macro_use]
mod field;
mod fault;
mod load;
mod options;
mod rule;
mod template;

pub use fault::{ConfigError, Fault, FaultSource};
pub use load::{Override, OverrideError, Sources, process_environment};
pub use options::{
    AdminOptions, BrokerOptions, ClusterOptions, DeliveryOptions, LimitOptions, ListenOptions,
    LogFormat, LogOptions, NodeIdentityOptions, NodeOptions, StoreEngine, StoreOptions,
};
pub use template::default_toml;
