//! Ownership of partitions: each has a fence in the store, which is transferred and never removed.
//!
//! - `FENCE-1`: an epoch belongs to one incarnation for ever.
//! - `FENCE-2`: the holder of a [`Guard`] can write only while the stored fence equals the guard's.
//!   The read of the fence is serializable, so a commit after a transfer fails.
//! - `FENCE-3`: every transaction that writes a fence writes its mirror too.
//!
//! Safety does not depend on clocks: they only decide when a node tries to take a fence over.

use super::rows::{Fence, Row};
use super::{TableError, keys};
use crate::kv::Transaction;
use triggers_protocol::PartitionId;

/// Proof of ownership that every transaction on a tenant's data checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Partition that is owned.
    pub partition: PartitionId,
    /// Fence that the store must have.
    pub fence: Fence,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Guard {
    /// The guard of a partition whose fence is known to be `fence`. Only [`Self::check`] proves
    /// ownership.
    pub fn new(partition: PartitionId, fence: Fence) -> Self {
        let (key, value) = (keys::fence(partition), fence.to_bytes());
        Self { partition, fence, key, value }
    }

    /// Key of the fence, for reads in advance.
    pub(super) fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    /// Fails unless the partition is still owned under this guard.
    ///
    /// # Errors
    /// [`TableError::NotOwner`] with the present owner; [`TableError::Store`].
    pub async fn check(&self, tx: &mut dyn Transaction) -> Result<(), TableError> {
        match tx.get(&self.key).await? {
            Some(stored) if stored == self.value => Ok(()),
            Some(stored) => {
                let Fence { epoch, incarnation } = Fence::from_bytes(&stored)?;
                Err(TableError::NotOwner { owner: incarnation, epoch })
            }
            None => Err(TableError::NotOwner { owner: String::new(), epoch: 0 }),
        }
    }
}

/// Takes partitions for an incarnation, whichever node owned them, and returns the guards. An
/// incarnation that already owns a partition keeps its epoch.
pub async fn take(
    tx: &mut dyn Transaction,
    partitions: &[PartitionId],
    incarnation: &str,
) -> Result<Vec<Guard>, TableError> {
    let mut guards = Vec::with_capacity(partitions.len());
    for &partition in partitions {
        let key = keys::fence(partition);
        let before = tx.get(&key).await?.map(|bytes| Fence::from_bytes(&bytes)).transpose()?;
        let fence = match before {
            Some(fence) if fence.incarnation == incarnation => fence,
            before => {
                let epoch = before.map_or(0, |fence| fence.epoch) + 1;
                let fence = Fence { epoch, incarnation: incarnation.to_owned() };
                write(tx, partition, &fence);
                fence
            }
        };
        guards.push(Guard::new(partition, fence));
    }
    Ok(guards)
}

/// Takes a partition over from an owner that is gone, if its fence is still `seen`. None if another
/// node was faster.
pub async fn take_over(
    tx: &mut dyn Transaction,
    partition: PartitionId,
    seen: Option<&Fence>,
    incarnation: &str,
) -> Result<Option<Guard>, TableError> {
    let stored = tx
        .get(&keys::fence(partition))
        .await?
        .map(|bytes| Fence::from_bytes(&bytes))
        .transpose()?;
    let fence = Fence {
        epoch: seen.map_or(0, |fence| fence.epoch) + 1,
        incarnation: incarnation.to_owned(),
    };
    if stored.as_ref() == seen {
        write(tx, partition, &fence);
    } else if stored.as_ref() != Some(&fence) {
        return Ok(None);
    }
    Ok(Some(Guard::new(partition, fence)))
}

/// Transfers a partition to another incarnation; returns the new fence.
///
/// # Errors
/// [`TableError::NotOwner`] if the guard does not hold; [`TableError::Store`].
pub async fn transfer(
    tx: &mut dyn Transaction,
    guard: &Guard,
    to: &str,
) -> Result<Fence, TableError> {
    let fence = Fence { epoch: guard.fence.epoch + 1, incarnation: to.to_owned() };
    let checked = guard.check(tx).await;
    // A repeated transaction finds the fence that an earlier run has written.
    let is_done = matches!(
        &checked,
        Err(TableError::NotOwner { owner, epoch }) if *epoch == fence.epoch && owner == to
    );
    if !is_done {
        checked?;
        write(tx, guard.partition, &fence);
    }
    Ok(fence)
}

/// Writes a fence and its mirror (`FENCE-3`).
fn write(tx: &mut dyn Transaction, partition: PartitionId, fence: &Fence) {
    let value = fence.to_bytes();
    tx.set(&keys::fence(partition), &value);
    tx.set(&keys::route(partition), &value);
}
