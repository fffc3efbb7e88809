//! What the binary `triggers` is made of: the HTTP edge, the admin listener, the command line, telemetry, and the order in
//! which a node starts and stops.
//!
//! Invariant: `NODE-1` a node is a value that is built from its options and dependencies and can be built twice in one
//! process; what is process-wide (log subscriber, metrics recorder) is in [`telemetry`] alone.
//! It holds no broker logic: events are the business of `triggers-actors`, what is durable that of `triggers-store`.

pub mod access;
pub mod admin;
pub mod bench;
pub mod bootstrap;
pub mod cli;
pub mod client;
pub mod edge;
pub mod telemetry;
pub mod webhook;
