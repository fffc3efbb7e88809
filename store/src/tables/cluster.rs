//! The cluster in the store: the row that each node writes, and the owners of the partitions.
//!
//! - `CLUSTER-T-1`: a node writes only its own row.
//! - `CLUSTER-T-2`: the view is one snapshot without conflict checks. It decides when a node tries
//!   to take a fence over, never whether it may.

use super::rows::{Fence, NodeRow, Row};
use super::{TableError, keys, read_range};
use crate::kv::Transaction;
use std::collections::BTreeMap;
use triggers_protocol::PartitionId;

/// Rows of one range read.
const PAGE_ROWS: usize = 1_000;

/// The cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Nodes by incarnation.
    pub nodes: BTreeMap<String, NodeRow>,
    /// Owners by partition; a partition that was never owned is missing.
    pub owners: BTreeMap<PartitionId, Fence>,
}

/// Writes a node's own row with its heartbeat.
pub fn write_heartbeat(tx: &mut dyn Transaction, incarnation: &str, row: &NodeRow) {
    tx.set(&keys::node(incarnation), &row.to_bytes());
}

/// Removes the row of a node that has stopped, or has sent no heartbeat for long and owns nothing.
pub fn remove_node(tx: &mut dyn Transaction, incarnation: &str) {
    tx.clear(&keys::node(incarnation));
}

/// Reads the nodes and the owners.
pub async fn view(tx: &mut dyn Transaction) -> Result<ClusterView, TableError> {
    let mut view = ClusterView::default();
    for (key, value) in read_range(tx, keys::nodes(), PAGE_ROWS).await? {
        if let Some(incarnation) = keys::parse_node(&key) {
            view.nodes.insert(incarnation.to_owned(), NodeRow::from_bytes(&value)?);
        }
    }
    for (key, value) in read_range(tx, keys::routes(), PAGE_ROWS).await? {
        if let Some(partition) = keys::parse_route(&key) {
            view.owners.insert(partition, Fence::from_bytes(&value)?);
        }
    }
    Ok(view)
}
