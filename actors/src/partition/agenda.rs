//! The agenda of a partition: when which closed inbox has something due.
//!
//! An open inbox has a timer of its own. When it closes or fails, its next due time is noted here.
//! What an earlier owner of the partition knew is read from the wake-up pointers at the start.
//! Invariants: `AGENDA-1` every tenant with a pointer has an open inbox or an entry here, or its
//! pointer comes after the last one that was read; `AGENDA-2` a read returns at most
//! [`ENTRIES_READ_MAX`] pointers, and the next one begins behind them: pointers that stay, because
//! their tenants cannot proceed, hide no others.

use std::collections::BTreeSet;
use triggers_protocol::{TenantId, Timestamp};

/// Pointers read at a time.
pub(super) const ENTRIES_READ_MAX: usize = 10_000;

/// Due times of closed inboxes, in seconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeSet<(u64, TenantId)>,
    reading: Reading,
    /// The last pointer of the reads so far.
    last_read: Option<(u64, TenantId)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// There may be pointers behind the last one that was read.
    #[default]
    Wanted,
    /// A read is running.
    Running,
    /// All pointers have been read.
    Complete,
}

impl Agenda {
    /// Notes that a tenant has something due at `at`.
    pub(super) fn note(&mut self, at: Timestamp, tenant: TenantId) {
        self.entries.insert((second(at), tenant));
    }

    /// True if the caller must read the pointers now; the read counts as begun.
    pub(super) fn begin_reading(&mut self, now: Timestamp) -> bool {
        let is_wanted = match self.reading {
            Reading::Wanted => self.last_read.as_ref().is_none_or(|(at, _)| *at <= second(now)),
            Reading::Running | Reading::Complete => false,
        };
        if is_wanted {
            self.reading = Reading::Running;
        }
        is_wanted
    }

    /// The pointer behind which the next read begins; none for the first read.
    pub(super) fn last_read(&self) -> Option<(u64, TenantId)> {
        self.last_read.clone()
    }

    /// Adds the pointers that were read, the earliest first; none if the read failed.
    pub(super) fn read(&mut self, pointers: Option<Vec<(u64, TenantId)>>) {
        let is_last = pointers.as_ref().is_some_and(|pointers| pointers.len() < ENTRIES_READ_MAX);
        self.reading = if is_last { Reading::Complete } else { Reading::Wanted };
        let pointers = pointers.unwrap_or_default();
        self.last_read = pointers.last().cloned().or(self.last_read.take());
        self.entries.extend(pointers);
    }

    /// Removes and returns at most `limit` tenants that are due.
    pub(super) fn pop_due(&mut self, now: Timestamp, limit: usize) -> Vec<TenantId> {
        let mut due = Vec::new();
        while due.len() < limit && self.entries.first().is_some_and(|(at, _)| *at <= second(now)) {
            due.extend(self.entries.pop_first().map(|(_, tenant)| tenant));
        }
        due
    }
}

fn second(at: Timestamp) -> u64 {
    u64::try_from(at.as_seconds()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> TenantId {
        TenantId::parse(&format!("t{number}")).unwrap()
    }

    #[test]
    fn due_tenants_are_returned_once_and_in_order() {
        let mut agenda = Agenda::default();
        for number in [3, 1, 2] {
            agenda.note(Timestamp::from_millis(number * 1_000 + 500), tenant(number as usize));
        }
        assert_eq!(agenda.pop_due(Timestamp::from_millis(2_000), 10), [tenant(1), tenant(2)]);
        assert!(agenda.pop_due(Timestamp::from_millis(2_999), 10).is_empty());
        assert_eq!(agenda.pop_due(Timestamp::from_millis(9_000), 10), [tenant(3)]);
    }

    #[test]
    fn more_pointers_are_read_when_the_last_one_is_due() {
        let mut agenda = Agenda::default();
        let now = Timestamp::from_millis(0);
        assert!(agenda.begin_reading(now) && !agenda.begin_reading(now));
        agenda.read(None);
        assert!(agenda.begin_reading(now), "a failed read is repeated");
        assert_eq!(agenda.last_read(), None);
        agenda.read(Some((0..ENTRIES_READ_MAX).map(|n| (7, tenant(n))).collect()));
        assert_eq!(agenda.last_read(), Some((7, tenant(ENTRIES_READ_MAX - 1))), "AGENDA-2");
        assert!(!agenda.begin_reading(Timestamp::from_millis(6_999)));
        assert_eq!(
            agenda.pop_due(Timestamp::from_millis(7_000), usize::MAX).len(),
            ENTRIES_READ_MAX
        );
        assert!(agenda.begin_reading(Timestamp::from_millis(7_000)));
        agenda.read(Some(Vec::new()));
        assert!(!agenda.begin_reading(Timestamp::from_millis(9_000)), "everything has been read");
    }
}
