//! `GET /v1/inbox`: a page of a tenant's events in one status, oldest first.
//!
//! - `INBOX-LIST-1`: a page is one snapshot, and its cursor continues directly behind its last
//!   event. Following it never skips an event that was accepted before the read began.
//! - `INBOX-LIST-2`: `cursor` is null exactly when `has_more` is false.
//! - `INBOX-LIST-3`: a page ends after `PAGE_BYTES_MAX` of payloads, so it may have fewer events
//!   than its limit, even none, and still have a cursor.
//!
//! The submodules have the other operations on many events.

pub(super) mod acknowledge;
pub(crate) mod lease;
mod poll;
pub(super) mod replay;
mod stream;

use super::cursor;
use super::event_json::{self, status_names};
use crate::http::authenticate::{Authorized, InboxRead};
use crate::http::body::query::{self, Value};
use crate::http::edge::EdgeState;
use crate::http::error::{ApiError, Faults};
use crate::http::json::respond;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use triggers_actors::model::inbox::{EventPage, PageQuery};
use triggers_protocol::api::{EventJson, InboxPage, Pagination};
use triggers_protocol::{EventId, EventStatus, EventTypePattern, TenantId, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Maximum bytes of payloads in a page.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Maximum number of `event_type` values in one request.
const EVENT_TYPES_MAX: usize = 100;

/// The routes of this resource.
pub(crate) fn routes() -> OpenApiRouter<EdgeState> {
    OpenApiRouter::new()
        .routes(routes!(list_inbox))
        .routes(routes!(acknowledge::acknowledge_events))
        .routes(routes!(lease::lease_events))
        .routes(routes!(replay::replay_inbox))
        .routes(routes!(stream::stream_inbox))
        .routes(routes!(poll::poll_events))
}

/// List the inbox
///
/// A filter narrows what is listed; `total_count` remains the tenant's count in that status. A page
/// may have fewer events than its limit and still have a cursor.
#[utoipa::path(
    get,
    path = "/v1/inbox",
    tag = "inbox",
    operation_id = "listInbox",
    params(
        (
            "limit" = Option<u32>,
            Query,
            description = "Events of the page; 50 if absent",
            minimum = 1,
            maximum = 200,
        ),
        ("cursor" = Option<String>, Query, description = "Where to begin, from the page before"),
        (
            "event_type" = Option<Vec<String>>,
            Query,
            description = "An event type, or a prefix such as `order.*`; repeatable, any of them",
            style = Form,
            explode,
        ),
        ("status" = Option<EventStatus>, Query, description = "`received` if absent"),
        (
            "from_timestamp" = Option<String>,
            Query,
            description = "Accepted at this time or later",
            format = "date-time",
        ),
        (
            "to_timestamp" = Option<String>,
            Query,
            description = "Accepted at this time or earlier",
            format = "date-time",
        ),
    ),
    responses((status = 200, description = "The page", body = InboxPage<'static>)),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
async fn list_inbox(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let limits = &edge.options.limits;
    let query =
        page_query(query.as_deref(), &caller.tenant, &edge.cursor_secret, limits.page_events_max)?;
    let limit = query.limit.unwrap_or(limits.page_events_default);
    let query = PageQuery { limit, scan_rows_max: edge.options.broker.scan_rows_max, ..query.page };
    let page = edge.router.list(&caller.tenant, query, edge.deadline()).await?;
    let cursor =
        page.next.map(|after| cursor::seal_event(&edge.cursor_secret, &caller.tenant, after));
    respond_page(&page, limit, cursor)
}

fn respond_page(
    page: &EventPage,
    limit: usize,
    cursor: Option<String>,
) -> Result<Response, ApiError> {
    let events: Vec<_> = page.events.iter().map(event_json::complete).collect::<Result<_, _>>()?;
    let bytes_hint = events.iter().map(EventJson::bytes_hint).sum::<usize>() + 256;
    let has_more = cursor.is_some();
    let pagination =
        Pagination { limit, cursor: cursor.clone(), has_more, total_count: page.total.max(0) };
    respond(StatusCode::OK, &InboxPage { events, cursor, has_more, pagination }, bytes_hint)
}

/// The query of a request, and its limit if it has one.
struct InboxQuery {
    limit: Option<usize>,
    page: PageQuery,
}

const NAMES: [&str; 6] =
    ["limit", "cursor", "event_type", "status", "from_timestamp", "to_timestamp"];

fn page_query(
    query: Option<&str>,
    tenant: &TenantId,
    secret: &[u8; 32],
    limit_max: usize,
) -> Result<InboxQuery, ApiError> {
    let [limit, cursor, event_types, status, from, to] = query::parameters(query, NAMES);
    let mut faults = Faults::default();
    let limit = query::once("limit", &limit, &mut faults).map(|text| {
        query::whole_number(text, limit_max).unwrap_or_else(|| {
            fault(&mut faults, "limit", format!("must be a whole number from 1 to {limit_max}"), 1)
        })
    });
    let status =
        query::once("status", &status, &mut faults).map_or(EventStatus::Received, |text| {
            let message = || format!("must be one of {}", status_names());
            EventStatus::parse(text)
                .unwrap_or_else(|| fault(&mut faults, "status", message(), EventStatus::Received))
        });
    let event_types = patterns("event_type", event_types.iter().map(Value::as_str), &mut faults);
    let from = time("from_timestamp", &from, &mut faults);
    let to = time("to_timestamp", &to, &mut faults);
    let cursor = query::once("cursor", &cursor, &mut faults);
    faults.check()?;
    let after =
        cursor.map_or(Ok(EventId::ZERO), |text| cursor::open_event(secret, tenant, text))?;
    let page = PageQuery {
        status,
        after,
        limit: 1,
        event_types,
        from,
        to,
        scan_rows_max: 1,
        page_bytes_max: PAGE_BYTES_MAX,
    };
    Ok(InboxQuery { limit, page })
}

/// Adds a fault. The returned value is a placeholder until all faults are found; nothing uses it.
fn fault<T>(faults: &mut Faults, name: &str, message: String, stand_in: T) -> T {
    faults.add(name, message);
    stand_in
}

fn time(name: &str, values: &[Value], faults: &mut Faults) -> Option<Timestamp> {
    let text = query::once(name, values, faults)?;
    Timestamp::parse(text).map_err(|reason| faults.add(name, reason.0)).ok()
}

/// Parses patterns of event types; adds a fault for each invalid one.
fn patterns<'a>(
    name: &str,
    texts: impl ExactSizeIterator<Item = &'a str>,
    faults: &mut Faults,
) -> Vec<EventTypePattern> {
    if texts.len() > EVENT_TYPES_MAX {
        faults.add(name, format!("must name at most {EVENT_TYPES_MAX} types"));
        return Vec::new();
    }
    texts
        .filter_map(|text| {
            EventTypePattern::parse(text).map_err(|reason| faults.add(name, reason.0)).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::ErrorCode;

    const SECRET: [u8; 32] = [7; 32];

    fn asked(query: &str) -> Result<InboxQuery, ApiError> {
        page_query(Some(query), &TenantId::parse("acme").unwrap(), &SECRET, 200)
    }

    #[test]
    fn parameters_become_a_query() {
        let none = page_query(None, &TenantId::parse("acme").unwrap(), &SECRET, 200).unwrap();
        assert_eq!(
            (none.limit, none.page.after, none.page.status),
            (None, EventId::ZERO, EventStatus::Received)
        );
        let id = EventId::from_bytes([9; 16]);
        let cursor = cursor::seal_event(&SECRET, &TenantId::parse("acme").unwrap(), id);
        let query = format!(
            "limit=7&cursor={cursor}&event_type=a.*&event_type=b&status=failed\
             &from_timestamp=2020-01-01T00:00:00%2B02:00&x=1&x=2"
        );
        let asked = asked(&query).unwrap();
        assert_eq!(
            (asked.limit, asked.page.after, asked.page.status),
            (Some(7), id, EventStatus::Failed)
        );
        assert_eq!(asked.page.event_types.len(), 2);
        assert_eq!(asked.page.from, Some(Timestamp::parse("2019-12-31T22:00:00Z").unwrap()));
    }

    #[test]
    fn bad_values_are_all_named() {
        let error = asked(
            "limit=0&limit=1&status=RECEIVED&event_type=a..b&from_timestamp=x&to_timestamp=\
             &cursor=",
        )
        .err()
        .unwrap();
        let fields: Vec<_> = error.details.iter().map(|detail| detail.field.as_str()).collect();
        assert_eq!(
            fields,
            ["limit", "limit", "status", "event_type", "from_timestamp", "to_timestamp"]
        );
        assert_eq!(asked("cursor=nonsense").err().unwrap().code, ErrorCode::InvalidCursor);
        assert_eq!(asked("cursor=%FF").err().unwrap().code, ErrorCode::InvalidCursor);
        assert_eq!(asked("status=%FF").err().unwrap().code, ErrorCode::ValidationError);
    }
}
