//! What the product is checked against.
//!
//! [`model::InboxModel`] is the life of a tenant's events in its plainest form. Random histories of commands run against it
//! and against the real tables on the simulated store (`tests/it`); both must give the same outcomes, pages and counts,
//! whatever the store forgets to answer.
//! Nothing of the product depends on this crate.

pub mod model;
