//! Simulates whole clusters of real nodes on one thread, with faults, repeatable from a seed.
//!
//! ```text
//! plan         what clients do and which faults happen, generated from a scenario and a seed
//! world        hosts, time in steps, the network, and the links between nodes
//! determinism  replaces the randomness, clocks and addresses of the operating system
//! workload     tenants, clients and webhook receivers, and the history that they record
//! check        rules at every commit, in the answers and in the rows
//! linearize    checks the answers about one event
//! run          one run of a plan
//! shrink       finds a smaller plan that still fails
//! trace        the record of a run
//! cli          the program `triggers-sim`
//! ```
//! `tests/it` also compares the real tables with a plain reference model of one inbox, for random
//! commands on the simulated store. The product does not depend on this crate.

mod check;
pub mod cli;
mod determinism;
mod linearize;
mod plan;
mod run;
mod shrink;
mod trace;
mod workload;
mod world;
