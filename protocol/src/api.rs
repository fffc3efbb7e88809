//! The JSON types of the public HTTP API, one file a resource.
//!
//! - `API-TYPES-1`: each type is the only definition of its JSON. The node reads requests into it
//!   and writes responses from it, the OpenAPI document is generated from it, clients use it.
//! - `API-TYPES-2`: a response type ignores members that it does not know, so that an older client
//!   can read the responses of a newer node.
//!
//! Doc comments here are the descriptions in the OpenAPI document. The rules that a request must
//! keep beyond its types (bounds, formats) are checked by the node.

pub mod audit;
pub mod batch;
pub mod error;
pub mod event;
pub mod health;
pub mod key;
pub mod lease;
pub mod page;
pub mod stats;
pub mod subscription;
pub mod tenant;

pub use audit::{AuditAction, AuditActor, AuditEntry, AuditList};
pub use batch::{
    AcknowledgeAnswer, AcknowledgeResult, Acknowledgements, BatchAnswer, BatchResult, ItemError,
    NewBatch,
};
pub use error::{Detail, ErrorBody, ErrorMember, Problem};
pub use event::{
    AttemptJson, AttemptOutcome, CloudEvent, DeliveryStatus, EventJson, EventMetadataJson,
    NewEvent, PolledEvent, WebhookJson, WebhookStatus,
};
pub use health::{Health, Probe};
pub use key::{Key, KeyList, KeyRotation, NewKey};
pub use lease::{
    Acknowledgement, LeaseAcknowledgement, LeaseAnswer, LeaseExtension, LeaseNack, LeaseRenewal,
    LeaseRequest, LeasedEvent, Nack,
};
pub use page::{InboxPage, InboxReplay, Pagination, ReplayAnswer, ReplayedStatus};
pub use stats::{Stats, StatsCounts};
pub use subscription::{
    DisabledReason, NewSubscription, RecoveryAnswer, SecretRotation, Subscription,
    SubscriptionAttempt, SubscriptionAttemptList, SubscriptionList, SubscriptionPatch,
    SubscriptionRecovery, SubscriptionState, SubscriptionTest,
};
pub use tenant::{NewTenant, Tenant, TenantList, TenantPatch, Tier};

/// A setting in a change: absent leaves it as it is, `null` sets it back to its default.
pub type Patch<T> = Option<Option<T>>;
