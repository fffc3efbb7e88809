//! Durable state: [`kv`] is the transactional key-value store with its engines; [`tables`] holds
//! the broker's keys, rows and transactions.
//!
//! This crate knows events, tenants and API keys. It does not know actors or HTTP.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod kv;
pub mod tables;
