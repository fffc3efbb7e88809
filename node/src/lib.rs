//! The server library: everything a node consists of, assembled from a `NodeOptions` value.
//!
//! ```text
//! run ─▶ api, forward, admin, telemetry ─▶ http ─▶ access, webhook ─▶ certificates
//! ```
//! `NODE-LIBRARY-1`: a node is a value built from its options and dependencies, and one process can
//! build several. Only `telemetry` installs something process-wide (log subscriber, metrics
//! recorder). The crate contains no broker logic: `triggers-actors` handles events,
//! `triggers-store` makes them durable.

mod access;
pub mod admin;
pub mod api;
mod certificates;
mod forward;
pub mod http;
pub mod run;
mod telemetry;
pub mod webhook;
