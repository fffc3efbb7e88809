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
pub(super) mod leases;
mod poll;
pub(super) mod replay;
mod stream;

use super::cursor::{self, EventList};
use super::{event, read};
use crate::api::prelude::*;
use crate::http::body::query::Value;
use triggers_actors::model::inbox::PageQuery;
use triggers_cluster_config::LimitOptions;
use triggers_protocol::api::{EventJson, InboxPage, Pagination};
use triggers_protocol::{EventId, EventStatus, EventTypePattern, Timestamp};

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
        .routes(routes!(leases::acknowledge_lease))
        .routes(routes!(leases::nack_lease))
        .routes(routes!(leases::renew_lease))
        .routes(routes!(replay::replay_inbox))
        .routes(routes!(stream::stream_inbox))
        .routes(routes!(poll::poll_events))
}

/// List the inbox
///
/// A filter narrows what is listed; `total_count` remains the tenant's count in that status. A page
/// may have fewer events than its limit and still have a cursor.
#[utoipa::path(
    get, path = "/v1/inbox", tag = "inbox", operation_id = "listInbox",
    params(
        ("limit" = Option<u32>, Query, description = "Events of the page; 50 if absent",
         minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "Where to begin, from the page before"),
        ("event_type" = Option<Vec<String>>, Query,
         description = "An event type, or a prefix such as `order.*`; repeatable, any of them",
         style = Form, explode),
        ("status" = Option<EventStatus>, Query, description = "`received` if absent"),
        ("from_timestamp" = Option<String>, Query, description = "Accepted at this time or later",
         format = "date-time"),
        ("to_timestamp" = Option<String>, Query, description = "Accepted at this time or earlier",
         format = "date-time"),
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
        page_query(query.as_deref(), limits, edge.options.broker.scan_rows_max, |cursor| {
            cursor::open_event(&edge.cursor_secret, EventList::Inbox, &caller.tenant, cursor)
        })?;
    let limit = query.limit;
    let page = edge.router.list(&caller.tenant, query, edge.deadline()).await?;
    let events: Vec<_> = page.events.iter().map(event::json).collect::<Result<_, _>>()?;
    let bytes_hint = events.iter().map(EventJson::bytes_hint).sum::<usize>() + 256;
    let cursor = page.next.map(|after| {
        cursor::seal_event(&edge.cursor_secret, EventList::Inbox, &caller.tenant, after)
    });
    let has_more = cursor.is_some();
    let pagination =
        Pagination { limit, cursor: cursor.clone(), has_more, total_count: page.total.max(0) };
    respond(StatusCode::OK, &InboxPage { events, cursor, has_more, pagination }, bytes_hint)
}

/// Reads the parameters of a request. `open` reads a cursor.
fn page_query(
    query: Option<&str>,
    limits: &LimitOptions,
    scan_rows_max: usize,
    open: impl FnOnce(&str) -> Result<EventId, ApiError>,
) -> Result<PageQuery, ApiError> {
    let names = ["limit", "cursor", "event_type", "status", "from_timestamp", "to_timestamp"];
    let [limit, cursor, event_types, status, from, to] = query::parameters(query, names);
    let mut faults = Faults::default();
    let limit = read::page_limit(&limit, limits, &mut faults);
    let status = query::once("status", &status, &mut faults).map(|text| {
        let status = EventStatus::parse(text);
        if status.is_none() {
            let names = EventStatus::ALL.map(EventStatus::as_str).join(", ");
            faults.add("status", format!("must be one of {names}"));
        }
        status
    });
    let event_types = parsed_event_types(&event_types, &mut faults);
    let from = time("from_timestamp", &from, &mut faults);
    let to = time("to_timestamp", &to, &mut faults);
    let cursor = query::once("cursor", &cursor, &mut faults);
    faults.check()?;
    let after = cursor.map_or(Ok(EventId::ZERO), open)?;
    let page = received(after, limit, event_types, scan_rows_max);
    Ok(PageQuery { status: status.flatten().unwrap_or(page.status), from, to, ..page })
}

/// A query for received events of any time, which stops after `PAGE_BYTES_MAX`.
fn received(
    after: EventId,
    limit: usize,
    event_types: Vec<EventTypePattern>,
    scan_rows_max: usize,
) -> PageQuery {
    PageQuery {
        status: EventStatus::Received,
        is_newest_first: false,
        after,
        limit,
        event_types,
        from: None,
        to: None,
        scan_rows_max,
        page_bytes_max: PAGE_BYTES_MAX,
    }
}

fn time(name: &str, values: &[Value], faults: &mut Faults) -> Option<Timestamp> {
    let text = query::once(name, values, faults)?;
    Timestamp::parse(text).map_err(|reason| faults.add(name, reason.0)).ok()
}

/// Parses the values of the parameter `event_type`; adds a fault for each invalid one.
fn parsed_event_types(values: &[Value], faults: &mut Faults) -> Vec<EventTypePattern> {
    patterns("event_type", values.iter().map(Value::as_str), faults)
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
    use triggers_protocol::{ErrorCode, TenantId};

    const SECRET: [u8; 32] = [7; 32];

    fn tenant() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    fn asked(query: &str) -> Result<PageQuery, ApiError> {
        let open = |text: &str| cursor::open_event(&SECRET, EventList::Inbox, &tenant(), text);
        page_query(Some(query), &LimitOptions::default(), 9, open)
    }

    #[test]
    fn parameters_become_a_query() {
        let none = asked("").unwrap();
        assert_eq!(
            (none.limit, none.after, none.status),
            (50, EventId::ZERO, EventStatus::Received)
        );
        let id = EventId::from_bytes([9; 16]);
        let cursor = cursor::seal_event(&SECRET, EventList::Inbox, &tenant(), id);
        let query = format!(
            "limit=7&cursor={cursor}&event_type=a.*&event_type=b&status=failed\
             &from_timestamp=2020-01-01T00:00:00%2B02:00&x=1&x=2"
        );
        let asked = asked(&query).unwrap();
        assert_eq!((asked.limit, asked.after, asked.status), (7, id, EventStatus::Failed));
        assert_eq!(asked.event_types.len(), 2);
        assert_eq!(asked.from, Some(Timestamp::parse("2019-12-31T22:00:00Z").unwrap()));
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
