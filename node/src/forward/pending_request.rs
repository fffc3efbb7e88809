//! A request while it waits for its owner's answer, and how a response says that it was not this node's to answer.

use super::kept_body::KeptBody;
use crate::http::body::BodyPermits;
use crate::http::edge::{EdgeCluster, EdgeState};
use crate::http::error::ApiError;
use axum::http::request::Parts;
use std::sync::OnceLock;
use triggers_protocol::{ErrorCode, PartitionId, TenantId};

/// One request that this node answers or forwards.
pub(super) struct PendingRequest<'a> {
    pub(super) edge: &'a EdgeState,
    pub(super) cluster: &'a EdgeCluster,
    pub(super) tenant: TenantId,
    pub(super) partition: PartitionId,
    pub(super) parts: Parts,
    pub(super) body: KeptBody,
    /// Permits for the memory of the body while this node holds it.
    pub(super) permits: OnceLock<BodyPermits>,
}

/// The error of a request whose method or target is not valid.
pub(super) fn malformed() -> ApiError {
    ApiError::new(ErrorCode::ValidationError, "the request has no valid method or target")
}
