//! `GET /v1/inbox/stream`: received events as they arrive, as Server-Sent Events.
//!
//! The body is made page by page, each when the client has taken the one before. The limits of the
//! connection end the stream of a client that takes nothing.
//!
//! - `STREAM-EDGE-1`: events come in the order of their ids, each once, beginning behind
//!   `Last-Event-ID` or behind the newest event at the time of the request.
//! - `STREAM-EDGE-2`: a frame or a comment is sent at least every 15 s, and at least twice within
//!   the connection's idle timeout.
//! - `STREAM-EDGE-3`: a stream ends when the node drains, and about a second after its key ends.
//! - `STREAM-EDGE-4`: a tenant has a limited number of streams on a node, counted until the body is
//!   dropped.
//! - `FRAMES-1`: an event is one frame with one `data` line. Line breaks between the tokens of a
//!   payload become spaces, which changes no value: those in strings are escaped.
//! - `FRAMES-2`: a frame is sent completely or not at all.
//!
//! A stream leases nothing. An event that is acknowledged before the stream reaches it is left out.

use super::{parsed_event_types, received};
use crate::api::event;
use crate::api::prelude::*;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use triggers_actors::admission::count_rejection;
use triggers_actors::keyed_limit::KeyedPermit;
use triggers_actors::model::inbox::{EventPage, PageQuery};
use triggers_protocol::{ErrorCode, Event, EventId, EventTypePattern, Scope, TenantId};

/// The first bytes of every stream: a client that loses the connection returns after a second.
const GREETING: Bytes = Bytes::from_static(b"retry: 1000\n\n");
/// The comment that keeps a stream without events from looking idle.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells proxies not to buffer the stream.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Longest time between two frames.
const KEEP_ALIVE_INTERVAL_MAX: Duration = Duration::from_secs(15);
/// Interval of the checks whether the node drains, the key has ended or a comment is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two reads without events.
const READ_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Maximum number of open streams of one tenant on a node.
const STREAMS_MAX: usize = 100;
/// A page ends after this many events or payload bytes.
const PAGE_EVENTS_MAX: usize = 50;
const PAGE_BYTES_MAX: usize = 256 * 1024;

/// Follow the inbox
///
/// A stream of Server-Sent Events: `event: event`, `id:` the event's id, `data:` the event as one
/// line of JSON. It begins with what arrives after the request, or behind `Last-Event-ID`.
#[utoipa::path(
    get, path = "/v1/inbox/stream", tag = "inbox", operation_id = "streamInbox",
    params(
        ("Last-Event-ID" = Option<String>, Header,
         description = "The id of the last event that was seen", format = "uuid"),
        ("event_type" = Option<Vec<String>>, Query,
         description = "An event type, or a prefix such as `order.*`; repeatable, any of them",
         style = Form, explode),
    ),
    responses(
        (status = 200, description = "The stream", body = String,
         content_type = "text/event-stream"),
        (status = 429, description = "The rate is used up, or the tenant has 100 streams open"),
    ),
    security(("api_key" = ["inbox:read"]), ("bearer" = ["inbox:read"])),
)]
pub(crate) async fn stream_inbox(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxRead>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (after, event_types) = beginning(&headers, query.as_deref())?;
    if edge.is_draining() {
        return Err(ApiError::unavailable("the node is about to stop, and so would a stream"));
    }
    let streams = &caller.context.counters.streams;
    let permit = streams.acquire(caller.tenant.clone(), 1, STREAMS_MAX).ok_or_else(|| {
        count_rejection("streams");
        let message = format!("the tenant has the maximum of {STREAMS_MAX} streams on this node");
        ApiError::new(ErrorCode::TenantQuotaExceeded, message)
    })?;
    let idle_timeout = Duration::from_millis(edge.options.listen.idle_timeout_ms);
    let keep_alive_interval = KEEP_ALIVE_INTERVAL_MAX.min(idle_timeout / 2);
    let mut events = EventStream {
        edge,
        caller,
        event_types,
        after: EventId::ZERO,
        keep_alive_interval,
        keep_alive_at: Instant::now() + keep_alive_interval,
        _permit: permit,
    };
    events.after = match after {
        Some(after) => after,
        None => events.newest().await?.unwrap_or(EventId::ZERO),
    };
    let chunks = stream::unfold(events, EventStream::next);
    let body = Body::from_stream(stream::iter([Ok(GREETING)]).chain(chunks));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Reads the event after which a stream begins, if one is named, and the types that it selects.
fn beginning(
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<(Option<EventId>, Vec<EventTypePattern>), ApiError> {
    let [event_types] = query::parameters(query, ["event_type"]);
    let mut faults = Faults::default();
    let event_types = parsed_event_types(&event_types, &mut faults);
    let given = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    let after = given.and_then(|value| {
        let id = value.to_str().ok().and_then(|text| EventId::parse(text).ok());
        if id.is_none() {
            faults.add("Last-Event-ID", "must be the id of an event");
        }
        id
    });
    faults.check().map(|()| (after, event_types))
}

/// The state of a stream between two chunks of its body.
struct EventStream {
    edge: EdgeState,
    caller: Caller,
    event_types: Vec<EventTypePattern>,
    /// All events up to this one have been read.
    after: EventId,
    /// Longest time between two frames, at most half of the connection's idle timeout.
    keep_alive_interval: Duration,
    /// Time at which a comment is due.
    keep_alive_at: Instant,
    _permit: KeyedPermit<TenantId>,
}

impl EventStream {
    /// The next chunk of the body; `None` at its end.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let frames = self.next_frames().await.unwrap_or_else(|error| {
            tracing::debug!(tenant = self.caller.tenant.as_str(), %error, "stream ended");
            None
        })?;
        self.keep_alive_at = Instant::now() + self.keep_alive_interval;
        Some((Ok(frames), self))
    }

    /// Waits for events or until a comment is due; `None` when the node drains.
    async fn next_frames(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if self.edge.is_draining() {
                return Ok(None);
            }
            self.caller.check_again(Scope::InboxRead, &self.edge).await?;
            let began = Instant::now();
            let page = self.next_page().await?;
            if !page.events.is_empty() {
                return frames_of(&page.events).map(Some);
            }
            if began >= self.keep_alive_at {
                return Ok(Some(KEEP_ALIVE));
            }
            if page.next.is_none() {
                let until = (began + CHECK_INTERVAL).min(self.keep_alive_at);
                self.edge.router.changed(&self.caller.tenant, until).await;
                sleep_until(began + READ_INTERVAL_MIN).await;
            }
        }
    }

    /// Reads the next page and moves the stream behind it.
    async fn next_page(&mut self) -> Result<EventPage, ApiError> {
        // Read before the page: events that are neither on the page nor newer were not selected.
        let newest = if self.event_types.is_empty() { None } else { self.newest().await? };
        let rows_max = self.edge.options.broker.scan_rows_max;
        let query = PageQuery {
            page_bytes_max: PAGE_BYTES_MAX,
            ..received(self.after, PAGE_EVENTS_MAX, self.event_types.clone(), rows_max)
        };
        let page = self.list(query).await?;
        let last = page.events.last().map(|event| event.id);
        let read_up_to = page.next.or(newest.max(last));
        self.after = read_up_to.map_or(self.after, |id| id.max(self.after));
        Ok(page)
    }

    /// The newest received event of the tenant, of any type.
    async fn newest(&self) -> Result<Option<EventId>, ApiError> {
        let query = PageQuery {
            is_newest_first: true,
            page_bytes_max: 1,
            ..received(EventId::ZERO, 1, Vec::new(), 1)
        };
        let page = self.list(query).await?;
        Ok(page.events.first().map(|event| event.id))
    }

    async fn list(&self, query: PageQuery) -> Result<EventPage, ApiError> {
        Ok(self.edge.router.list(&self.caller.tenant, query, self.edge.deadline()).await?)
    }
}

/// The frames of events, one after another.
fn frames_of(events: &[Event]) -> Result<Bytes, ApiError> {
    let jsons: Vec<_> = events.iter().map(event::json).collect::<Result<_, _>>()?;
    let mut text = Vec::with_capacity(jsons.iter().map(|json| json.bytes_hint() + 80).sum());
    for (event, json) in events.iter().zip(&jsons) {
        text.extend_from_slice(format!("event: event\nid: {}\ndata: ", event.id).as_bytes());
        let begin = text.len();
        serde_json::to_writer(&mut text, json).map_err(ApiError::internal)?;
        for byte in &mut text[begin..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        text.extend_from_slice(b"\n\n");
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::event::EventState;
    use triggers_protocol::{EventType, Metadata, Timestamp};

    fn of(
        last: &'static str,
        query: &str,
    ) -> Result<(Option<EventId>, Vec<EventTypePattern>), ApiError> {
        beginning(
            &HeaderMap::from_iter([(LAST_EVENT_ID, HeaderValue::from_static(last))]),
            Some(query),
        )
    }

    #[test]
    fn a_stream_begins_behind_an_event_or_now() {
        let id = "019b76da-a800-7000-8000-000000000001";
        assert_eq!(of(id, "").unwrap().0, EventId::parse(id).ok());
        assert_eq!(
            of("", "event_type=a.*").unwrap(),
            (None, vec![EventTypePattern::parse("a.*").unwrap()])
        );
        assert_eq!(of("nonsense", "").unwrap_err().details[0].field, "Last-Event-ID");
        assert_eq!(of(id, "event_type=a..b").unwrap_err().details[0].field, "event_type");
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let event = Event {
            id: EventId::parse("019b76da-a800-7000-8000-000000000001").unwrap(),
            received_at: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            event_type: EventType::parse("order.created").unwrap(),
            timestamp: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            payload: "{\r\n\"a\":\n\"\\n\"}".into(),
            metadata: std::sync::Arc::new(Metadata {
                source_ip: "::1".into(),
                user_agent: None,
                correlation_id: "r".into(),
                idempotency_key: None,
                trace_parent: None,
            }),
            state: EventState::ACCEPTED,
        };
        let text = frames_of(&[event.clone(), event]).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        let frames: Vec<_> = text.split_terminator("\n\n").collect();
        assert_eq!(frames.len(), 2, "{text:?}");
        let lines: Vec<_> = frames[0].lines().collect();
        assert_eq!(lines[..2], ["event: event", "id: 019b76da-a800-7000-8000-000000000001"]);
        assert!(
            lines[2].starts_with("data: {\"event_id\":") && lines[2].contains(r#"{  "a": "\n"}"#),
            "{text:?}"
        );
        assert_eq!(lines.len(), 3);
    }
}
