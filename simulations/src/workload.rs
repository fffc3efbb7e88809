//! What goes on around the nodes: tenants and keys that are there before, clients, receivers of webhooks, and what they
//! remember of it.

pub mod clients;
pub mod history;
pub mod receivers;
pub mod setup;
