//! What every other crate shares: ids, the event, its statuses, policies, error codes, API keys, and the
//! [`Environment`] that hands out time and randomness.
//!
//! Invariants: nothing here does I/O except [`environment::Environment::system`], which reads the operating
//! system's clocks and random source; every text form parses back to the value it came from.
//! It is not a place for HTTP (that is the node's edge), storage layouts (`triggers-store`) or actors.

pub mod api_key;
pub mod codec;
pub mod environment;
pub mod error_code;
pub mod event;
pub mod event_id;
pub mod event_type;
pub mod json;
pub mod partition;
pub mod peer;
pub mod planted;
pub mod retry_policy;
pub mod scope;
pub mod subscription_id;
pub mod tenant_id;
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

/// A text or value that does not have the form its type demands; the message names the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
