//! The cluster in the store: the row that each node writes, the owners of the partitions, and the
//! time that due times are kept by.
//!
//! - `CLUSTER-T-1`: a node writes only its own row.
//! - `CLUSTER-T-2`: the view is one snapshot without conflict checks. It decides when a node tries
//!   to take a fence over, never whether it may.

use super::rows::{Fence, NodeRow, Row};
use super::{TableError, keys, read_range};
use crate::kv::{Fault, StoreError, Transaction};
use std::collections::BTreeMap;
use triggers_protocol::environment::STEP_MAX;
use triggers_protocol::{PartitionId, Timestamp};

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

/// The steady time that was kept last.
///
/// # Errors
/// [`TableError::Store`].
pub async fn kept_time(tx: &mut dyn Transaction) -> Result<Option<Timestamp>, TableError> {
    let corrupt = || StoreError::fatal(Fault::Corrupt, "the kept time is malformed");
    // A snapshot: it does no harm if one of two nodes sets it back by the time of a transaction.
    let kept = tx.get_snapshot(keys::CLOCK).await?;
    let kept = kept.map(|bytes| bytes[..].try_into().map_err(|_| corrupt())).transpose()?;
    Ok(kept.map(|micros| Timestamp::from_micros(i64::from_be_bytes(micros))))
}

/// Keeps a node's steady time for nodes that start or take over, and returns what was kept before.
/// A later time stays, unless it is so much later that a clock must have been wrong.
///
/// # Errors
/// [`TableError::Store`].
pub async fn keep_time(
    tx: &mut dyn Transaction,
    steady: Timestamp,
) -> Result<Option<Timestamp>, TableError> {
    let kept = kept_time(tx).await?;
    let is_near = |kept: &Timestamp| kept.since(steady) <= STEP_MAX;
    let new = kept.filter(is_near).map_or(steady, |kept| kept.max(steady));
    tx.set(keys::CLOCK, &new.as_micros().to_be_bytes());
    Ok(kept)
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
