//! The types that all crates share: ids, events, policies, error codes, API keys, messages between
//! nodes, and the [`Environment`] that provides time and randomness.
//!
//! Invariants:
//! - `PROTOCOL-1`: the crate does no I/O, except that [`Environment::system`] reads the operating
//!   system's clocks and random source.
//! - `PROTOCOL-2`: every printed value parses to an equal value.

pub mod api;
pub mod api_key;
pub mod codec;
pub mod environment;
pub mod error_code;
pub mod event;
pub mod event_id;
pub mod event_type;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
pub mod lock;
pub mod partition;
pub mod peer;
pub mod planted;
pub mod retry_policy;
pub mod scope;
pub mod subscription_id;
pub mod tenant_id;
mod text_form;
pub mod timestamp;
pub mod webhook;

pub use api_key::{ApiKey, KeyHash};
pub use environment::Environment;
pub use error_code::ErrorCode;
pub use event::{Event, EventStatus, Metadata};
pub use event_id::EventId;
pub use event_type::{EventType, EventTypePattern};
pub use partition::PartitionId;
pub use retry_policy::RetryPolicy;
pub use scope::{Scope, Scopes};
pub use subscription_id::SubscriptionId;
pub use tenant_id::TenantId;
pub use timestamp::Timestamp;

/// The error for a text or value that its type does not accept; the message names the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
