//! Typed options of a node: their declarations, how they are loaded and how they are validated.
//!
//! `NodeOptions` is the tree of all options, with one section per component. `NodeOptions::load`
//! merges four sources; a later source overrides an earlier one: defaults, a TOML file,
//! `TRIGGERS__SECTION__NAME` environment variables, command-line flags. `default_toml` generates
//! the commented default file from the declarations of the fields.
//!
//! Invariants:
//! - `CONFIG-1`: `NodeOptions::load` returns valid options, or every fault with its source.
//! - `CONFIG-2`: an unknown name is rejected in every source, never ignored.
//! - `CONFIG-3`: each field is declared once, with its type, default, bounds and comment.
//!
//! Options are read once, at start; this crate does not watch files. Options hold no secrets: a
//! key or a password is given by the path of its file.

#[macro_use]
mod field;
#[macro_use]
mod rule;
mod fault;
mod load;
mod options;
mod template;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub use load::fuzzing;

pub use fault::{ConfigError, Fault, FaultSource};
pub use load::{Override, OverrideError, Sources, process_environment};
pub use options::{
    AdminOptions, BrokerOptions, ClusterOptions, DeliveryOptions, LimitOptions, ListenOptions,
    LogFormat, LogOptions, NodeIdentityOptions, NodeOptions, StoreEngine, StoreOptions,
};
pub use template::default_toml;
