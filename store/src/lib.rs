//! Everything durable: [`kv`], the transactional key-value store and its engines, and [`tables`], the broker's keys,
//! rows and domain transactions on top of it.
//!
//! It knows events, tenants and keys, and no actors and no HTTP.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod kv;
pub mod tables;
