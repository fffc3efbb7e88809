//! What the product is checked against: whole clusters of real nodes, on one thread, through failures, repeatable from a
//! seed.
//!
//! ```text
//! plan      what clients do and what goes wrong, made of a scenario and a seed
//! world     hosts, time in steps, network, links between members     determinism: what of the system reaches into a run
//! workload  tenants, clients, receivers of webhooks, and their memory
//! check     at every commit, in the answers, in the rows             linearize: the answers about one event
//! run       one run of a plan       shrink: a smaller plan that still fails       trace: its account
//! cli       the program `triggers-sim`
//! ```
//! [`model::InboxModel`] is the life of a tenant's events in its plainest form: random histories of commands run against it
//! and against the real tables on the simulated store (`tests/it`).
//! Nothing of the product depends on this crate.

pub mod check;
pub mod cli;
pub mod determinism;
pub mod linearize;
pub mod model;
pub mod plan;
pub mod run;
pub mod shrink;
pub mod trace;
pub mod workload;
pub mod world;
