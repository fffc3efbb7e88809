//! An event as it was sent, checked but not yet part of an operation.

use triggers_protocol::api::NewEvent;

/// A checked event that borrows from the body, in whatever form it was sent.
#[derive(Debug)]
pub(in crate::api) struct Draft<'a> {
    pub(in crate::api) event: NewEvent<'a>,
    /// The identity of a CloudEvent.
    pub(super) identity: Option<CloudEventIdentity>,
}

impl<'a> From<NewEvent<'a>> for Draft<'a> {
    fn from(event: NewEvent<'a>) -> Self {
        Self { event, identity: None }
    }
}

/// The `source` and `id` of a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct CloudEventIdentity {
    pub(super) source: String,
    pub(super) id: String,
}
