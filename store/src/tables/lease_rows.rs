//! The lease rows of a tenant: events that were leased together and never attempted before.
//!
//! Such an event has no delivery row, and its queue row stays that of a received event: a lease of
//! many events writes one row for [`ROW_EVENTS_MAX`] of them. Every read of an event's state looks
//! here first. Whatever ends or changes the lease of one event takes it out of its lease row and
//! stores its state as that of any other event.
//!
//! - `LEASE-ROWS-1`: an event is in at most one lease row. It has no delivery row, and its own row
//!   says that it is received and was never attempted.
//! - `LEASE-ROWS-2`: the rows have [`ROWS_MAX`] fixed keys, so reading them all never walks over
//!   the keys of leases that have ended. They hold at most [`EVENTS_MAX`] events; further leases
//!   store the state of each event.
//! - `LEASE-ROWS-3`: a batch that looks here fails if a row changes before its commit: otherwise a
//!   commit of unknown outcome could take effect late and bring an earlier state back. It checks
//!   the version of the rows, one small key, which grows with each change.

use super::inbox::Reading;
use super::keys::TenantKeys;
use super::rows::{LeaseId, LeaseRow, Row};
use super::{TableError, read_range};
use crate::kv::{Prefetch, Transaction, decode_counter};
use std::collections::BTreeMap;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, Timestamp};

/// Events of one row.
pub const ROW_EVENTS_MAX: usize = 64;
/// Rows of a tenant.
pub const ROWS_MAX: usize = 256;
/// Events in all rows of a tenant.
pub const EVENTS_MAX: usize = 4_096;

/// All lease rows of a tenant, with the changes of a batch.
#[derive(Debug, Default)]
pub(super) struct LeaseRows {
    rows: BTreeMap<u8, LeaseRow>,
    /// Rows that differ from the stored ones; those that are not in `rows` are to be removed.
    changed: Vec<u8>,
    events: usize,
    version: i64,
}

impl LeaseRows {
    /// Adds the read of all rows.
    pub(super) fn prefetch(reads: &mut Prefetch, keys: &TenantKeys) {
        reads.key(keys.lease_rows_version());
        reads.first(keys.lease_rows(), ROWS_MAX);
    }

    /// Reads all rows.
    pub(super) async fn read(
        tx: &mut dyn Transaction,
        keys: &TenantKeys,
        reading: Reading,
    ) -> Result<Self, TableError> {
        let mut all = Self::default();
        if reading == Reading::Checked {
            let stored = tx.get(&keys.lease_rows_version()).await?;
            all.version = decode_counter(stored.as_deref())?;
        }
        for (key, value) in read_range(tx, keys.lease_rows(), ROWS_MAX).await? {
            let row = LeaseRow::from_bytes(&value)?;
            all.events += row.events.len();
            all.rows.extend(key.last().map(|number| (*number, row)));
        }
        Ok(all)
    }

    /// Number of events in all rows.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    /// The lease row that holds an event.
    pub(super) fn find(&self, id: EventId) -> Option<&LeaseRow> {
        self.rows.values().find(|row| row.events.binary_search(&id).is_ok())
    }

    /// The rows, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LeaseRow> {
        self.rows.values()
    }

    /// All events of the rows that satisfy a condition, in the order of their ids.
    pub(super) fn events_of(&self, is_meant: impl Fn(&LeaseRow) -> bool) -> Vec<EventId> {
        let meant = self.rows.values().filter(|row| is_meant(row));
        let mut ids: Vec<EventId> = meant.flat_map(|row| row.events.iter().copied()).collect();
        ids.sort_unstable();
        ids
    }

    /// The event with the greatest id.
    pub(super) fn last_event(&self) -> Option<EventId> {
        self.rows.values().filter_map(|row| row.events.last().copied()).max()
    }

    /// End of the lease that ends first.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.rows.values().map(|row| row.until).min()
    }

    /// Number of events for which there is room.
    pub(super) fn room(&self) -> usize {
        let rows = (ROWS_MAX - self.rows.len()) * ROW_EVENTS_MAX;
        rows.min(EVENTS_MAX.saturating_sub(self.events))
    }

    /// Adds the events of a lease, in the order of their ids; there must be room for them.
    pub(super) fn add(&mut self, lease: &LeaseRow) {
        let free = (0..=u8::MAX).filter(|number| !self.rows.contains_key(number));
        let free: Vec<u8> = free.take(lease.events.len().div_ceil(ROW_EVENTS_MAX)).collect();
        for (number, events) in free.into_iter().zip(lease.events.chunks(ROW_EVENTS_MAX)) {
            self.events += events.len();
            self.rows.insert(number, LeaseRow { events: events.to_vec(), ..lease.clone() });
            self.note(number);
        }
    }

    /// Takes an event out of its row; false if it is in none.
    pub(super) fn take(&mut self, id: EventId) -> bool {
        let place = |(number, row): (&u8, &LeaseRow)| {
            row.events.binary_search(&id).ok().map(|index| (*number, index))
        };
        let Some((number, index)) = self.rows.iter().find_map(place) else { return false };
        if let Some(row) = self.rows.get_mut(&number) {
            row.events.remove(index);
            if row.events.is_empty() {
                self.rows.remove(&number);
            }
        }
        self.events -= 1;
        self.note(number);
        true
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, lease: LeaseId, until: Timestamp, changed_by: u64) {
        let of_lease = self.rows.iter_mut().filter(|(_, row)| row.lease == lease);
        let numbers: Vec<u8> = of_lease
            .map(|(number, row)| {
                (row.until, row.changed_by) = (until, changed_by);
                *number
            })
            .collect();
        numbers.into_iter().for_each(|number| self.note(number));
    }

    fn note(&mut self, number: u8) {
        if !self.changed.contains(&number) {
            self.changed.push(number);
        }
    }

    /// Writes the changed rows.
    pub(super) fn write(&mut self, tx: &mut dyn Transaction, keys: &TenantKeys) {
        if !self.changed.is_empty() {
            self.version += 1;
            tx.set(&keys.lease_rows_version(), &self.version.to_le_bytes());
        }
        for number in self.changed.drain(..) {
            match self.rows.get(&number) {
                Some(row) => tx.set_owned(keys.lease_row(number), row.to_bytes()),
                None if is_planted(Bug::LeaseRowStays) => {}
                None => tx.clear(&keys.lease_row(number)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn id(number: u16) -> EventId {
        EventId::from_bytes(u128::from(number).to_be_bytes())
    }

    fn lease(number: u8, ids: impl IntoIterator<Item = u16>) -> LeaseRow {
        LeaseRow {
            lease: [number; 16],
            until: Timestamp::from_millis(number.into()),
            leased_at: Timestamp::EPOCH,
            changed_by: number.into(),
            events: ids.into_iter().map(id).collect(),
        }
    }

    proptest! {
        /// Compares with a set of ids, whatever is leased and taken.
        #[test]
        fn rows_hold_what_was_leased_and_not_taken(
            steps in prop::collection::vec((1u16..300, any::<u16>()), 1..40),
        ) {
            let (mut rows, mut held) = (LeaseRows::default(), BTreeSet::new());
            let mut next = 0;
            for (number, (count, taken)) in steps.into_iter().enumerate() {
                if rows.room() >= usize::from(count) {
                    rows.add(&lease(number as u8, next..next + count));
                    held.extend(next..next + count);
                    next += count;
                }
                let taken = taken % next.max(1);
                prop_assert_eq!(rows.find(id(taken)).is_some(), held.contains(&taken));
                prop_assert_eq!(rows.take(id(taken)), held.remove(&taken));
                prop_assert!(held.len() <= EVENTS_MAX && rows.rows.len() <= ROWS_MAX);
                let all: Vec<EventId> = held.iter().copied().map(id).collect();
                prop_assert_eq!(rows.events_of(|_| true), all);
                prop_assert_eq!(rows.events, held.len());
                let fits = |row: &LeaseRow| (1..=ROW_EVENTS_MAX).contains(&row.events.len());
                prop_assert!(rows.iter().all(fits));
            }
        }
    }

    #[test]
    fn a_tenant_with_all_rows_in_use_has_no_room() {
        let mut rows = LeaseRows::default();
        for number in 0..=255u8 {
            assert!(rows.room() > 0);
            rows.add(&lease(number, [number.into()]));
        }
        assert_eq!(rows.room(), 0);
        assert!(rows.take(id(7)));
        assert_eq!(rows.room(), ROW_EVENTS_MAX);
    }
}
