//! `GET /v1/triggers/poll`: the newest received events as a bare array, for polling triggers of
//! automation services. They recognise new items by `id`.
//!
//! - `POLL-1`: the newest event comes first.
//! - `POLL-3`: an answer has as many of the newest events as were asked for, or all there are,
//!   unless the request's time or the bytes of an answer are used up.
//! - `POLL-2`: polling neither leases nor acknowledges an event.

use super::{parsed_event_types, received};
use crate::api::prelude::*;
use crate::api::{event, read};
use tokio::time::Instant;
use triggers_protocol::api::PolledEvent;
use triggers_protocol::{Event, EventId, EventTypePattern};

/// Maximum events of one response.
const EVENTS_MAX: usize = 50;

/// Poll for the newest events
///
/// For polling triggers: a bare array of received events, newest first, each with an `id` to tell
/// it from others.
#[utoipa::path(
    get, path = "/v1/triggers/poll", tag = "inbox", operation_id = "pollEvents",
    params(
        ("event_type" = Option<Vec<String>>, Query,
         description = "An event type, or a prefix such as `order.*`; repeatable, any of them",
         style = Form, explode),
        ("limit" = Option<u32>, Query, description = "Events at most; 50 if absent", minimum = 1,
         maximum = 50),
    ),
    responses((status = 200, description = "The newest events", body = Vec<PolledEvent<'static>>)),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
pub(crate) async fn poll_events(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (event_types, limit) = selection(query.as_deref())?;
    let events = newest(&edge, &caller, event_types, limit).await?;
    let events: Vec<_> = events.iter().map(event::json).collect::<Result<_, _>>()?;
    let bytes_hint = events.iter().map(|event| event.bytes_hint() + 64).sum();
    let events: Vec<_> = events.into_iter().map(PolledEvent::from).collect();
    respond(StatusCode::OK, &events, bytes_hint)
}

/// Reads the newest selected events, page by page.
async fn newest(
    edge: &Edge,
    caller: &Caller,
    event_types: Vec<EventTypePattern>,
    limit: usize,
) -> Result<Vec<Event>, ApiError> {
    let scan_rows_max = edge.options.broker.scan_rows_max;
    let mut query = received(EventId::ZERO, limit, event_types, scan_rows_max);
    query.is_newest_first = true;
    let mut events = Vec::new();
    loop {
        let page = edge.router.list(&caller.tenant, query.clone(), edge.deadline()).await?;
        let bytes: usize = page.events.iter().map(|event| event.payload.len()).sum();
        events.extend(page.events);
        let Some(next) = page.next else { return Ok(events) };
        query.after = next;
        query.limit = limit - events.len();
        query.page_bytes_max = query.page_bytes_max.saturating_sub(bytes);
        let is_over = Instant::now() >= edge.last_start() || edge.is_draining();
        if is_over && events.is_empty() {
            // An empty answer would say that there are no such events.
            return Err(ApiError::unavailable("the time was too short to search all events"));
        }
        if is_over || query.limit == 0 || query.page_bytes_max == 0 {
            return Ok(events);
        }
    }
}

fn selection(query: Option<&str>) -> Result<(Vec<EventTypePattern>, usize), ApiError> {
    let [event_types, limit] = query::parameters(query, ["event_type", "limit"]);
    let mut faults = Faults::default();
    let event_types = parsed_event_types(&event_types, &mut faults);
    let limit = read::limit(&limit, EVENTS_MAX, EVENTS_MAX, &mut faults);
    faults.check().map(|()| (event_types, limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_optional_and_checked() {
        assert_eq!(selection(None).unwrap(), (Vec::new(), 50));
        assert_eq!(selection(Some("limit=3&event_type=a.*")).unwrap().1, 3);
        let error = selection(Some("limit=51&event_type=a..b")).unwrap_err();
        assert_eq!(error.details.len(), 2);
    }
}
