//! The limit of a page: how many entries of a list one response has.
//!
//! Invariant: `PAGE-LIMIT-1` it is what the node's options allow, for every list alike. Where a page begins is told by
//! a cursor, of which each list has its own kind.

use crate::http::body::faults::Faults;
use crate::http::body::query::{self, Value};
use triggers_cluster_config::LimitOptions;

/// The limit that the values of the parameter `limit` ask for; a fault, and 1 in its place, if they are no number of
/// entries that a page may have.
pub(crate) fn limit(values: &[Value], limits: &LimitOptions, faults: &mut Faults) -> usize {
    let Some(text) = query::once("limit", values, faults) else {
        return limits.page_events_default;
    };
    query::whole_number(text, limits.page_events_max).unwrap_or_else(|| {
        faults.add("limit", format!("must be a whole number from 1 to {}", limits.page_events_max));
        1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> (usize, Vec<String>) {
        let [values] = query::parameters(Some(query), ["limit"]);
        let mut faults = Faults::default();
        let limit = limit(&values, &LimitOptions::default(), &mut faults);
        (limit, faults.into_error().details.into_iter().map(|detail| detail.field).collect())
    }

    #[test]
    fn a_limit_has_a_default_and_bounds() {
        assert_eq!((asked("x=1"), asked("limit=200")), ((50, vec![]), (200, vec![])));
        for bad in ["limit=", "limit=0", "limit=201", "limit=-1", "limit=1.5", "limit=%FF"] {
            assert_eq!(asked(bad).1, ["limit"], "{bad}");
        }
        assert_eq!(asked("limit=1&limit=2").1, ["limit"], "twice");
    }
}
