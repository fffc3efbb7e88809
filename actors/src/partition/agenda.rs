//! Which tenants of a partition have something to do, and when: those whose inboxes are closed.
//!
//! An open inbox has a timer of its own. When it closes or fails, what it knew comes here; what an earlier owner of the
//! partition knew is read from the wake-up pointers once, at the start.
//! Invariants: `AGENDA-1` every tenant with a pointer has an open inbox, an entry here, or is behind the last pointer that
//! was read; `AGENDA-2` it holds at most [`ENTRIES_READ_MAX`] entries from the store at a time.

use std::collections::BTreeSet;
use triggers_protocol::{TenantId, Timestamp};

/// Pointers read at a time.
pub(super) const ENTRIES_READ_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BTreeSet<(u64, TenantId)>,
    reading: Reading,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// The store is to be asked.
    #[default]
    Wanted,
    Running,
    /// Everything has been read.
    Complete,
    /// There are more pointers behind this second.
    Until(u64),
}

impl Agenda {
    /// Notes that a tenant has something to do at `at`.
    pub(super) fn note(&mut self, at: Timestamp, tenant: TenantId) {
        self.entries.insert((second(at), tenant));
    }

    /// Whether the pointers are to be read now; if so, that is taken as begun.
    pub(super) fn begin_reading(&mut self, now: Timestamp) -> bool {
        let is_wanted = match self.reading {
            Reading::Wanted => true,
            Reading::Until(last) => last <= second(now),
            Reading::Running | Reading::Complete => false,
        };
        if is_wanted {
            self.reading = Reading::Running;
        }
        is_wanted
    }

    /// The pointers that were read, the earliest first; none if that failed.
    pub(super) fn read(&mut self, pointers: Option<Vec<(u64, TenantId)>>) {
        self.reading = match &pointers {
            None => Reading::Wanted,
            Some(pointers) if pointers.len() < ENTRIES_READ_MAX => Reading::Complete,
            Some(pointers) => {
                pointers.last().map_or(Reading::Complete, |(last, _)| Reading::Until(*last))
            }
        };
        self.entries.extend(pointers.unwrap_or_default());
    }

    /// Takes the tenants whose time has come, at most `limit`.
    pub(super) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<TenantId> {
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
    fn what_is_due_comes_once_and_in_order() {
        let mut agenda = Agenda::default();
        for number in [3, 1, 2] {
            agenda.note(Timestamp::from_millis(number * 1_000 + 500), tenant(number as usize));
        }
        assert_eq!(agenda.take_due(Timestamp::from_millis(2_000), 10), [tenant(1), tenant(2)]);
        assert!(agenda.take_due(Timestamp::from_millis(2_999), 10).is_empty());
        assert_eq!(agenda.take_due(Timestamp::from_millis(9_000), 10), [tenant(3)]);
    }

    #[test]
    fn more_pointers_are_read_when_the_last_one_is_due() {
        let mut agenda = Agenda::default();
        let now = Timestamp::from_millis(0);
        assert!(agenda.begin_reading(now) && !agenda.begin_reading(now));
        agenda.read(None);
        assert!(agenda.begin_reading(now), "a failed read is repeated");
        agenda.read(Some((0..ENTRIES_READ_MAX).map(|n| (7, tenant(n))).collect()));
        assert!(!agenda.begin_reading(Timestamp::from_millis(6_999)));
        assert_eq!(
            agenda.take_due(Timestamp::from_millis(7_000), usize::MAX).len(),
            ENTRIES_READ_MAX
        );
        assert!(agenda.begin_reading(Timestamp::from_millis(7_000)));
        agenda.read(Some(Vec::new()));
        assert!(!agenda.begin_reading(Timestamp::from_millis(9_000)), "everything has been read");
    }
}
