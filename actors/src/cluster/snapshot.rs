//! The cluster as this node sees it, for operators. Nothing is decided by it.

use super::machine::Condition;
use super::transport::LinkState;
use std::collections::BTreeMap;
use std::time::Duration;
use triggers_protocol::PartitionId;
use triggers_store::tables::rows::{Fence, MemberRow};

/// A view with what this node makes of it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// This node.
    pub incarnation: String,
    /// All members that have a row.
    pub members: Vec<MemberSnapshot>,
    /// The owners.
    pub owners: BTreeMap<PartitionId, Fence>,
}

/// One member.
#[derive(Debug, Clone)]
pub struct MemberSnapshot {
    /// Its incarnation.
    pub incarnation: String,
    /// What it says of itself.
    pub row: MemberRow,
    /// How it is.
    pub condition: Condition,
    /// For how long its beat has been the same.
    pub beat_age: Duration,
    /// How the link to it is; none to this node itself.
    pub link: Option<LinkState>,
}
