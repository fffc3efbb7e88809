//! Remembers which parts of the queues are empty, so that reads do not walk over the keys of events
//! that were leased and of webhooks that were sent.
//!
//! - `POSITIONS-1`: no row up to the position of a filter is one that the filter selects. A row
//!   that becomes available before a position moves it back.
//! - `POSITIONS-2`: at most [`FILTERS_MAX`] filters are remembered; the one used least recently is
//!   forgotten first, and its next lease begins anew. The position of leases without a filter is
//!   remembered besides.
//! - `POSITIONS-3`: a batch that was planned before everything was forgotten sets no position.
//! - `POSITIONS-4`: there is a mark for each subscription whose webhooks were read since the load,
//!   and it is the one after the last batch (`WEBHOOK-MARK-1`).

use std::collections::VecDeque;
use std::sync::Arc;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, SubscriptionId};
use triggers_store::tables::batch::{EVERY_TYPE, FilterId, LeasePosition, LeaseSearches};
use triggers_store::tables::webhook_marks::WebhookMarks;

/// Filters that are remembered for one tenant.
const FILTERS_MAX: usize = 64;

/// The positions of a tenant's leases, and the marks of its webhooks.
#[derive(Debug, Default)]
pub(crate) struct QueuePositions {
    /// Position of leases without a filter.
    unfiltered: Option<LeasePosition>,
    /// Positions of filters, the one used last at the end.
    filtered: VecDeque<(FilterId, LeasePosition)>,
    /// Shared with the batch in flight.
    webhooks: Arc<WebhookMarks>,
    /// The batch in flight was planned before everything was forgotten.
    is_outdated: bool,
}

impl QueuePositions {
    /// The position of a filter, if it is known.
    pub(crate) fn get(&self, filter: FilterId) -> Option<LeasePosition> {
        if filter == EVERY_TYPE {
            return self.unfiltered;
        }
        self.filtered.iter().find(|(known, _)| *known == filter).map(|(_, position)| *position)
    }

    /// The marks of the subscriptions.
    pub(crate) fn webhooks(&self) -> &Arc<WebhookMarks> {
        &self.webhooks
    }

    /// Begins anew with what a load has read.
    pub(crate) fn load(&mut self, webhooks: WebhookMarks, last_id: EventId) {
        *self = Self { webhooks: Arc::new(webhooks), ..Self::default() };
        if is_planted(Bug::MarkAheadOnLoad) {
            self.unfiltered = Some(LeasePosition { received: last_id, ..LeasePosition::BEGIN });
        }
    }

    /// A batch is planned with these positions.
    pub(crate) fn begin_batch(&mut self) {
        self.is_outdated = false;
    }

    /// Follows the batch that was planned last, after it has taken effect.
    pub(crate) fn apply(&mut self, searches: LeaseSearches, webhooks: WebhookMarks) {
        if searches.is_repeated || self.is_outdated {
            return self.forget();
        }
        if !webhooks.is_empty() {
            Arc::make_mut(&mut self.webhooks).extend(webhooks);
        }
        for (filter, position) in searches.searched {
            if filter == EVERY_TYPE {
                self.unfiltered = Some(position);
                continue;
            }
            self.filtered.retain(|(known, _)| *known != filter);
            self.filtered.push_back((filter, position));
        }
        while self.filtered.len() > FILTERS_MAX {
            self.filtered.pop_front();
        }
        let filtered = self.filtered.iter_mut().map(|(_, position)| position);
        for position in filtered.chain(&mut self.unfiltered) {
            if let Some((due, id)) = searches.retry {
                position.due = position.due.min((due, id.before()));
            }
            if let Some(id) = searches.received {
                position.received = position.received.min(id.before());
            }
        }
    }

    /// A subscription is gone.
    pub(crate) fn forget_subscription(&mut self, subscription: SubscriptionId) {
        if self.webhooks.contains_key(&subscription) {
            Arc::make_mut(&mut self.webhooks).remove(&subscription);
        }
    }

    /// Forgets everything, because the state of the store is not known any more.
    pub(crate) fn forget(&mut self) {
        *self = Self { is_outdated: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::Timestamp;

    fn at(due: i64, received: u8) -> LeasePosition {
        let id = EventId::from_bytes([received; 16]);
        LeasePosition { due: (Timestamp::from_millis(due), id), received: id }
    }

    fn searched(filter: u8, position: LeasePosition) -> LeaseSearches {
        LeaseSearches { searched: vec![([filter; 16], position)], ..LeaseSearches::default() }
    }

    fn apply(positions: &mut QueuePositions, searches: LeaseSearches) {
        positions.apply(searches, WebhookMarks::new());
    }

    #[test]
    fn what_becomes_available_before_a_position_moves_it_back() {
        let mut positions = QueuePositions::default();
        apply(&mut positions, searched(1, at(20, 20)));
        apply(&mut positions, searched(2, at(5, 5)));
        apply(&mut positions, searched(0, at(20, 20)));
        let (due, received) = (at(10, 10).due, at(10, 10).received);
        apply(
            &mut positions,
            LeaseSearches {
                retry: Some(due),
                received: Some(received),
                ..LeaseSearches::default()
            },
        );
        let moved = positions.get([1; 16]).unwrap();
        assert!(moved.due < due && moved.received < received, "POSITIONS-1");
        assert_eq!(positions.get(EVERY_TYPE), Some(moved), "POSITIONS-1");
        assert_eq!(positions.get([2; 16]), Some(at(5, 5)));
        apply(&mut positions, LeaseSearches { is_repeated: true, ..LeaseSearches::default() });
        assert_eq!(positions.get([2; 16]), None, "POSITIONS-1");
        assert_eq!(positions.get(EVERY_TYPE), None, "POSITIONS-1");
    }

    #[test]
    fn a_batch_of_the_time_before_sets_no_position() {
        let mut positions = QueuePositions::default();
        positions.begin_batch();
        positions.forget();
        apply(&mut positions, searched(0, at(1, 1)));
        assert_eq!(positions.get(EVERY_TYPE), None, "POSITIONS-3");
        positions.begin_batch();
        apply(&mut positions, searched(0, at(1, 1)));
        assert_eq!(positions.get(EVERY_TYPE), Some(at(1, 1)));
    }

    #[test]
    fn the_filter_used_least_recently_is_forgotten() {
        let mut positions = QueuePositions::default();
        apply(&mut positions, searched(0, at(3, 3)));
        for filter in 1..65 {
            apply(&mut positions, searched(filter, at(1, 1)));
        }
        apply(&mut positions, searched(1, at(2, 2)));
        apply(&mut positions, searched(200, at(1, 1)));
        assert_eq!(positions.get([1; 16]), Some(at(2, 2)));
        assert_eq!(positions.get([2; 16]), None, "POSITIONS-2");
        assert_eq!(positions.get(EVERY_TYPE), Some(at(3, 3)), "POSITIONS-2");
        assert_eq!(positions.filtered.len(), FILTERS_MAX);
    }
}
