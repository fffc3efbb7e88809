//! A request until its owner has answered it.

use super::kept_body::KeptBody;
use crate::http::body::BodyPermits;
use crate::http::edge::{EdgeCluster, EdgeState};
use axum::http::request::Parts;
use std::sync::OnceLock;
use triggers_protocol::{PartitionId, TenantId};

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
