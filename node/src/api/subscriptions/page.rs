//! The limit of a page, which is the number of entries of a list in one response.
//!
//! `PAGE-LIMIT-1`: every list has the bounds of the node's options.

use crate::http::body::query::{self, Value};
use crate::http::error::Faults;
use triggers_cluster_config::LimitOptions;

/// The limit in the values of the parameter `limit`. Adds a fault and returns 1 if it is out of
/// bounds.
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
