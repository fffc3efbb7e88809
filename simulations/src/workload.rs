//! Everything around the nodes: the tenants that exist before the run, clients, webhook receivers,
//! and the history that they record.

pub mod clients;
pub mod history;
pub mod receivers;
pub mod setup;
