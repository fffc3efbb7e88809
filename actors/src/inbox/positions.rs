//! Remembers up to where leases with a filter have searched, so that the next one goes on there.
//!
//! - `POSITIONS-1`: no row up to the position of a filter is one that the filter selects. A row
//!   that becomes available before a position moves it back.
//! - `POSITIONS-2`: at most [`FILTERS_MAX`] filters are remembered; the one used least recently is
//!   forgotten first, and its next lease begins anew.
//!
//! Nothing is remembered about leases without a filter: they take the first rows there are.

use std::collections::VecDeque;
use triggers_store::tables::batch::{FilterId, LeasePosition, LeaseSearches};

/// Filters that are remembered for one tenant.
const FILTERS_MAX: usize = 64;

/// The positions of a tenant's filters, the one used last at the end.
#[derive(Debug, Default)]
pub(crate) struct LeasePositions(VecDeque<(FilterId, LeasePosition)>);

impl LeasePositions {
    /// The position of a filter, if it is known.
    pub(crate) fn get(&self, filter: FilterId) -> Option<LeasePosition> {
        self.0.iter().find(|(known, _)| *known == filter).map(|(_, position)| *position)
    }

    /// Follows a batch that has taken effect.
    pub(crate) fn apply(&mut self, searches: LeaseSearches) {
        if searches.is_repeated {
            return self.forget();
        }
        for (filter, position) in searches.searched {
            self.0.retain(|(known, _)| *known != filter);
            self.0.push_back((filter, position));
        }
        while self.0.len() > FILTERS_MAX {
            self.0.pop_front();
        }
        for (_, position) in &mut self.0 {
            if let Some((due, id)) = searches.retry {
                position.due = position.due.min((due, id.before()));
            }
            if let Some(id) = searches.received {
                position.received = position.received.min(id.before());
            }
        }
    }

    /// Forgets everything, because the state of the store is not known any more.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::{EventId, Timestamp};

    fn at(due: i64, received: u8) -> LeasePosition {
        let id = EventId::from_bytes([received; 16]);
        LeasePosition { due: (Timestamp::from_millis(due), id), received: id }
    }

    fn searched(filter: u8, position: LeasePosition) -> LeaseSearches {
        LeaseSearches { searched: vec![([filter; 16], position)], ..LeaseSearches::default() }
    }

    #[test]
    fn what_becomes_available_before_a_position_moves_it_back() {
        let mut positions = LeasePositions::default();
        positions.apply(searched(1, at(20, 20)));
        positions.apply(searched(2, at(5, 5)));
        let (due, received) = (at(10, 10).due, at(10, 10).received);
        positions.apply(LeaseSearches {
            retry: Some(due),
            received: Some(received),
            ..LeaseSearches::default()
        });
        let moved = positions.get([1; 16]).unwrap();
        assert!(moved.due < due && moved.received < received, "POSITIONS-1");
        assert_eq!(positions.get([2; 16]), Some(at(5, 5)));
        positions.apply(LeaseSearches { is_repeated: true, ..LeaseSearches::default() });
        assert_eq!(positions.get([2; 16]), None, "POSITIONS-1");
    }

    #[test]
    fn the_filter_used_least_recently_is_forgotten() {
        let mut positions = LeasePositions::default();
        for filter in 0..64 {
            positions.apply(searched(filter, at(1, 1)));
        }
        positions.apply(searched(0, at(2, 2)));
        positions.apply(searched(200, at(1, 1)));
        assert_eq!(positions.get([0; 16]), Some(at(2, 2)));
        assert_eq!(positions.get([1; 16]), None, "POSITIONS-2");
        assert_eq!(positions.0.len(), FILTERS_MAX);
    }
}
