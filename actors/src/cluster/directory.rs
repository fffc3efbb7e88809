//! The last known owner of each partition: where a request goes that is not served here.
//!
//! The directory may be outdated: a node that is not the owner any more answers with the present
//! owner.
//! Invariant: `DIRECTORY-1` of two owners of a partition the one with the higher epoch is kept, in
//! whatever order they are noted.

use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use triggers_protocol::PartitionId;
use triggers_store::tables::rows::Fence;

/// The known owners; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    owners: ArcSwap<BTreeMap<PartitionId, Fence>>,
    changed: Notify,
}

impl Directory {
    /// The known owner of a partition.
    pub fn owner(&self, partition: PartitionId) -> Option<Fence> {
        self.0.owners.load().get(&partition).cloned()
    }

    /// All known owners.
    pub fn owners(&self) -> Arc<BTreeMap<PartitionId, Fence>> {
        self.0.owners.load_full()
    }

    /// Adds owners that are newer than the known ones.
    pub fn note<'a>(&self, owners: impl IntoIterator<Item = (PartitionId, &'a Fence)> + Clone) {
        let mut has_changed = false;
        self.0.owners.rcu(|known| {
            let mut next = known.clone();
            for (partition, fence) in owners.clone() {
                if next.get(&partition).is_none_or(|known| known.epoch < fence.epoch) {
                    Arc::make_mut(&mut next).insert(partition, fence.clone());
                }
            }
            has_changed = !Arc::ptr_eq(&next, known);
            next
        });
        if has_changed {
            self.0.changed.notify_waiters();
        }
    }

    /// Completes at the next change of an owner.
    pub fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_owner_does_not_replace_a_newer_one() {
        let directory = Directory::default();
        let fence = |epoch, owner: &str| Fence { epoch, incarnation: owner.into() };
        let note = |fence: Fence| directory.note([(PartitionId(1), &fence)]);
        note(fence(2, "b"));
        note(fence(1, "a"));
        assert_eq!(directory.owner(PartitionId(1)), Some(fence(2, "b")), "DIRECTORY-1");
        note(fence(3, "c"));
        assert_eq!(directory.owner(PartitionId(1)), Some(fence(3, "c")));
        assert_eq!(directory.owner(PartitionId(2)), None);
    }
}
