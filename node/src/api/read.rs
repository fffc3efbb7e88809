//! Reads what handlers have in common: small JSON bodies, and the limit of a page.
//!
//! `PAGE-LIMIT-1`: a limit is a whole number from 1 to the maximum of its list.

use crate::http::body::members::{Member, members};
use crate::http::body::query::{self, Value};
use crate::http::body::{self, read_small_json};
use crate::http::edge::Edge;
use crate::http::error::{ApiError, Faults};
use axum::extract::Request;
use bytes::Bytes;
use triggers_cluster_config::LimitOptions;

/// The body of a request that carries no events, or `None` if it is empty.
pub(crate) struct JsonBody(Option<Bytes>);

impl JsonBody {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// As [`read_small_json`].
    pub(crate) async fn read(request: Request, edge: &Edge) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        read_small_json(&head.headers, body, edge).await.map(Self)
    }

    /// The text of a body that the operation requires; an empty one is not valid JSON.
    pub(crate) fn required(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The text of a body that may be absent, which means the same as an object without members.
    pub(crate) fn optional(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(b"{}")
    }
}

/// Makes a value of the named members of a JSON object.
///
/// # Errors
/// 400 that names every fault which `make` adds.
pub(crate) fn object<const N: usize, T>(
    body: &[u8],
    names: [&'static str; N],
    make: impl FnOnce([Member<'_>; N], &mut Faults) -> T,
) -> Result<T, ApiError> {
    let mut faults = Faults::default();
    let members = members(body::text(body)?, names, &mut faults)?;
    let value = make(members, &mut faults);
    faults.check().map(|()| value)
}

/// The number of entries that a page of a list has at most, by the parameter `limit`.
pub(crate) fn page_limit(values: &[Value], limits: &LimitOptions, faults: &mut Faults) -> usize {
    limit(values, limits.page_events_default, limits.page_events_max, faults)
}

/// The number in the parameter `limit`, or `default` without one. Adds a fault and returns 1 if it
/// is out of bounds.
pub(crate) fn limit(values: &[Value], default: usize, max: usize, faults: &mut Faults) -> usize {
    let Some(text) = query::once("limit", values, faults) else { return default };
    query::whole_number(text, max).unwrap_or_else(|| {
        faults.add("limit", format!("must be a whole number from 1 to {max}"));
        1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> (usize, Vec<String>) {
        let [values] = query::parameters(Some(query), ["limit"]);
        let mut faults = Faults::default();
        let limit = page_limit(&values, &LimitOptions::default(), &mut faults);
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

    #[test]
    fn an_absent_body_is_an_empty_object_only_where_it_is_optional() {
        let read = |body: &[u8]| object(body, ["a"], |[a], _| a.given().is_some());
        assert_eq!(read(JsonBody(None).optional()), Ok(false));
        let body = JsonBody(Some(Bytes::from_static(br#"{"a":1}"#)));
        assert_eq!((read(body.optional()), read(body.required())), (Ok(true), Ok(true)));
        let error = read(JsonBody(None).required()).unwrap_err();
        assert_eq!(error.code, triggers_protocol::ErrorCode::InvalidJson);
    }
}
