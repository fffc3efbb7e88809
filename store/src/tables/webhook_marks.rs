//! Marks in the index of webhooks by due time: which part of it is known to be empty.
//!
//! The inbox keeps a mark for each subscription, and a batch returns those that it has changed.
//! Reads of due webhooks skip the empty part, so they do not walk over the keys of webhooks that
//! are finished.
//!
//! - `WEBHOOK-MARK-1`: the index has no row up to [`WebhookMark`]'s `after`, and none in its gap. A
//!   row that is added in either takes its place out.
//!
//! A gap is needed because a running attempt has its row at the time at which it counts as lost.
//! Between the webhooks that are due and the first of these rows lie the keys of all attempts that
//! have ended in the meantime.

use super::TableError;
use super::keys::{TenantKeys, id_of_key, time_of_due_key};
use crate::kv::{KeyRange, Page, Prefetch, RangeRead, Transaction};
use std::collections::BTreeMap;
use triggers_protocol::{EventId, SubscriptionId, Timestamp};

/// The known marks of a tenant's subscriptions.
pub type WebhookMarks = BTreeMap<SubscriptionId, WebhookMark>;

/// A place in the index by due time, in whole microseconds as in the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DuePosition {
    due: Timestamp,
    id: EventId,
}

impl DuePosition {
    const BEGIN: Self = Self { due: Timestamp::EPOCH, id: EventId::ZERO };

    /// The place of a webhook that is due at `due`.
    pub fn new(due: Timestamp, id: EventId) -> Self {
        Self { due: Timestamp::from_micros(due.as_micros().max(0)), id }
    }

    /// The last place of this time.
    pub(super) fn last_at(due: Timestamp) -> Self {
        Self::new(due, EventId::from_bytes([0xff; 16]))
    }

    fn end() -> Self {
        Self::last_at(Timestamp::from_micros(i64::MAX))
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        Some(Self::new(time_of_due_key(key)?, id_of_key(key)?))
    }

    /// The place just before. No event has the id zero.
    fn before(self) -> Self {
        Self { id: self.id.before(), ..self }
    }
}

/// The rows after the first place up to and including the second.
type Span = (DuePosition, DuePosition);

/// The part of a subscription's index that is known to be empty (`WEBHOOK-MARK-1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookMark {
    after: DuePosition,
    /// Rows behind `after`, apart from it, of which none is left.
    gap: Option<Span>,
    /// The last place of all rows that were added. Behind it are no keys to walk over.
    last: DuePosition,
}

impl WebhookMark {
    /// Nothing is known.
    pub const UNKNOWN: Self =
        Self { after: DuePosition::BEGIN, gap: None, last: DuePosition::BEGIN };

    /// A row is added at `at`.
    pub fn add(&mut self, at: DuePosition) {
        self.last = self.last.max(at);
        if let Some((begin, end)) = self.gap
            && begin < at
            && at <= end
        {
            self.gap = self.longer((begin, at.before()), (at, end));
        }
        if at <= self.after {
            // The first span without rows is the one that the next reads pass.
            self.gap = Some((at, self.after)).filter(|(begin, end)| begin < end).or(self.gap);
            self.after = at.before();
        }
    }

    /// The span that probably has more keys of rows that are gone; none if both are empty.
    fn longer(&self, one: Span, two: Span) -> Option<Span> {
        let length = |(begin, end): Span| end.min(self.last).due.since(begin.due);
        let is_first = length(one) > length(two);
        Some(if is_first { one } else { two }).filter(|(begin, end)| begin < end)
    }

    /// No row is left up to `to`.
    pub fn searched(&mut self, to: DuePosition) {
        self.after = self.after.max(to);
        if let Some((begin, end)) = self.gap
            && begin <= self.after
        {
            self.after = self.after.max(end);
            self.gap = None;
        }
    }

    /// The spans up to and including `until` that may have rows.
    fn spans(&self, until: DuePosition) -> impl Iterator<Item = Span> {
        let (first, second) = match self.gap {
            Some((begin, end)) => ((self.after, begin.min(until)), (end, until)),
            None => ((self.after, until), (until, until)),
        };
        [first, second].into_iter().filter(|(begin, end)| begin < end)
    }

    fn ranges(
        &self,
        keys: &TenantKeys,
        id: SubscriptionId,
        until: DuePosition,
    ) -> impl Iterator<Item = KeyRange> {
        let key = move |at: DuePosition| {
            let mut key = keys.push_due(id, at.due, at.id);
            key.push(0);
            key
        };
        self.spans(until).map(move |(begin, end)| KeyRange::new(key(begin), key(end)))
    }

    /// Adds the first `limit` rows of a subscription to what is read in advance.
    pub(super) fn prefetch(
        &self,
        reads: &mut Prefetch,
        keys: &TenantKeys,
        id: SubscriptionId,
        limit: usize,
    ) {
        self.ranges(keys, id, DuePosition::end()).for_each(|range| reads.first(range, limit));
    }
}

/// Reads the first rows of a subscription that are due at `at`, or at any time; at most `limit`.
pub(super) async fn read_due(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: SubscriptionId,
    mark: &WebhookMark,
    at: Option<Timestamp>,
    limit: usize,
) -> Result<Page, TableError> {
    let until = at.map_or_else(DuePosition::end, DuePosition::last_at);
    let mut all = Page::default();
    for range in mark.ranges(keys, id, until) {
        if all.pairs.len() >= limit {
            all.has_more = true;
            break;
        }
        let rest = RangeRead::first(range, limit - all.pairs.len());
        let Page { pairs, has_more } = tx.range_snapshot(rest).await?;
        all.pairs.extend(pairs);
        all.has_more = has_more;
        if has_more {
            break;
        }
    }
    Ok(all)
}

/// Due time of a subscription's first unfinished webhook. The mark moves on to it.
pub(super) async fn first_due(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: SubscriptionId,
    mark: &mut WebhookMark,
) -> Result<Option<Timestamp>, TableError> {
    let page = read_due(tx, keys, id, mark, None, 1).await?;
    let first = page.pairs.first().and_then(|(key, _)| DuePosition::of_key(key));
    mark.searched(first.map_or_else(DuePosition::end, DuePosition::before));
    Ok(first.map(|first| first.due))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8, u8),
        /// Removes a row that is not the first, as the end of a running attempt does.
        Remove(usize),
        /// Removes the first rows up to a time.
        Claim(u8, usize),
        First,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..20, 1u8..4).prop_map(|(due, id)| Step::Add(due, id)),
            2 => (0usize..20).prop_map(Step::Remove),
            2 => (0u8..20, 1usize..4).prop_map(|(due, limit)| Step::Claim(due, limit)),
            2 => Just(Step::First),
        ]
    }

    fn at(due: u8, id: u8) -> DuePosition {
        DuePosition::new(Timestamp::from_micros(due.into()), EventId::from_bytes([id; 16]))
    }

    /// The rows in the spans that a mark leaves.
    fn seen(mark: &WebhookMark, rows: &BTreeSet<DuePosition>, to: DuePosition) -> Vec<DuePosition> {
        let inside = |(begin, end)| rows.iter().filter(move |row| begin < **row && **row <= end);
        mark.spans(to).flat_map(inside).copied().collect()
    }

    proptest! {
        #[test]
        fn a_mark_hides_no_row(steps in prop::collection::vec(step(), 0..60)) {
            let (mut mark, mut rows) = (WebhookMark::UNKNOWN, BTreeSet::new());
            for step in steps {
                match step {
                    Step::Add(due, id) => {
                        rows.insert(at(due, id));
                        mark.add(at(due, id));
                    }
                    Step::Remove(number) => {
                        let row = rows.iter().nth(number).copied();
                        row.map(|row| rows.remove(&row));
                    }
                    Step::Claim(due, limit) => {
                        let to = DuePosition::last_at(at(due, 0).due);
                        let due: Vec<_> = rows.range(..=to).copied().collect();
                        prop_assert_eq!(seen(&mark, &rows, to), due.clone(), "WEBHOOK-MARK-1");
                        for row in due.into_iter().take(limit) {
                            rows.remove(&row);
                            mark.searched(row);
                        }
                    }
                    Step::First => {
                        let first = seen(&mark, &rows, DuePosition::end()).first().copied();
                        prop_assert_eq!(first, rows.first().copied(), "WEBHOOK-MARK-1");
                        mark.searched(first.map_or_else(DuePosition::end, DuePosition::before));
                    }
                }
            }
        }
    }

    #[test]
    fn the_keys_before_running_attempts_stay_known_as_empty() {
        let mut mark = WebhookMark::UNKNOWN;
        mark.searched(DuePosition::end());
        // The only row is that of an attempt, whose time ends at 60.
        mark.add(at(0, 1));
        mark.add(at(60, 9));
        mark.searched(at(0, 1));
        for due in 1..50 {
            mark.add(at(due, 1));
            let spans: Vec<_> = mark.spans(DuePosition::end()).collect();
            let begin = at(due, 1).before();
            assert_eq!(spans, [(begin, at(due, 1)), (at(60, 9).before(), DuePosition::end())]);
            mark.searched(at(due, 1));
            assert_eq!((mark.after, mark.gap), (at(60, 9).before(), None));
        }
    }
}
