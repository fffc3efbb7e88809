//! `GET /v1/inbox/stream`: received events as they arrive, as Server-Sent Events.
//!
//! The body is made page by page, each when the client has taken the one before. The limits of the
//! connection end the stream of a client that takes nothing.
//!
//! - `STREAM-EDGE-1`: events come in the order of their ids, each once, beginning behind
//!   `Last-Event-ID` or behind the newest event at the time of the request.
//! - `STREAM-EDGE-2`: a comment is sent at least every 15 s.
//! - `STREAM-EDGE-3`: a stream ends when the node drains, and about a second after its key ends.
//! - `STREAM-EDGE-4`: a tenant has a limited number of streams on a node, counted until the body is
//!   dropped.
//!
//! A stream leases nothing. An event that is acknowledged before the stream reaches it is left out.

mod frames;

use super::patterns;
use crate::http::authenticate::{Authorized, Caller, InboxRead};
use crate::http::body::query::{self, Value};
use crate::http::edge::EdgeState;
use crate::http::error::{ApiError, Faults};
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use triggers_actors::admission::count_rejection;
use triggers_actors::keyed_limit::KeyedPermit;
use triggers_actors::model::inbox::{EventPage, PageQuery, newest_first};
use triggers_protocol::api::ErrorBody;
use triggers_protocol::{ErrorCode, EventId, EventStatus, EventTypePattern, Scope, TenantId};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells proxies not to buffer the stream.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Longest time between two frames.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Interval of the checks whether the node drains, the key has ended or a comment is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two reads without events.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Largest number of open streams of one tenant on a node.
const STREAMS_MAX: usize = 100;
/// A page ends after this many events or payload bytes.
const PAGE_EVENTS: usize = 50;
const PAGE_BYTES: usize = 256 * 1024;

/// Follow the inbox
///
/// A stream of Server-Sent Events: `event: event`, `id:` the event's id, `data:` the event as one
/// line of JSON. It begins with what arrives after the request, or behind `Last-Event-ID`.
#[utoipa::path(
    get,
    path = "/v1/inbox/stream",
    tag = "inbox",
    operation_id = "streamInbox",
    params(
        (
            "Last-Event-ID" = Option<String>,
            Header,
            description = "The id of the last event that was seen",
            format = "uuid",
        ),
        (
            "event_type" = Option<Vec<String>>,
            Query,
            description = "An event type, or a prefix such as `order.*`; repeatable, any of them",
            style = Form,
            explode,
        ),
    ),
    responses(
        (
            status = 200,
            description = "The stream",
            body = String,
            content_type = "text/event-stream",
        ),
        (
            status = 429,
            description = "The rate is used up, or the tenant has 100 streams open",
            body = ErrorBody,
        ),
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
    let silence =
        KEEP_ALIVE_INTERVAL.min(Duration::from_millis(edge.options.listen.idle_timeout_ms) / 2);
    let keep_alive_at = Instant::now() + silence;
    let mut following = Following {
        edge,
        caller,
        event_types,
        after: EventId::ZERO,
        greeted: false,
        silence,
        keep_alive_at,
        _permit: permit,
    };
    following.after = match after {
        Some(after) => after,
        None => following.newest().await?.unwrap_or(EventId::ZERO),
    };
    let mut response = Response::new(Body::from_stream(stream::unfold(following, Following::next)));
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
    let event_types = patterns("event_type", event_types.iter().map(Value::as_str), &mut faults);
    let given = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
    let after = given.and_then(|value| {
        let id = value.to_str().ok().and_then(|text| EventId::parse(text).ok());
        // The greatest id has a special meaning in the store, and no event has it.
        let id = id.filter(|id| *id != newest_first());
        if id.is_none() {
            faults.add("Last-Event-ID", "must be the id of an event");
        }
        id
    });
    faults.check().map(|()| (after, event_types))
}

/// A stream that a client follows.
struct Following {
    edge: EdgeState,
    caller: Caller,
    event_types: Vec<EventTypePattern>,
    /// All events up to this one have been read.
    after: EventId,
    greeted: bool,
    /// Longest time without a frame: half of the idle timeout of the connection at most.
    silence: Duration,
    keep_alive_at: Instant,
    _permit: KeyedPermit<TenantId>,
}

impl Following {
    /// The next chunk of the body; `None` at its end.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let piece = if self.greeted {
            match self.piece().await {
                Ok(piece) => piece?,
                Err(error) => {
                    tracing::debug!(tenant = self.caller.tenant.as_str(), %error, "stream ended");
                    return None;
                }
            }
        } else {
            self.greeted = true;
            frames::GREETING
        };
        self.keep_alive_at = Instant::now() + self.silence;
        Some((Ok(piece), self))
    }

    /// Waits for events or until a comment is due; `None` when the node drains.
    async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if self.edge.is_draining() {
                return Ok(None);
            }
            self.caller.check_again(Scope::InboxRead, &self.edge).await?;
            let began = Instant::now();
            let page = self.page().await?;
            if !page.events.is_empty() {
                return frames::frames(&page.events).map(Some);
            }
            if began >= self.keep_alive_at {
                return Ok(Some(frames::KEEP_ALIVE));
            }
            if page.next.is_none() {
                let until = (began + CHECK_INTERVAL).min(self.keep_alive_at);
                self.edge.router.changed(&self.caller.tenant, until).await;
                sleep_until(began + LOOK_INTERVAL).await;
            }
        }
    }

    /// Reads the next page and moves the stream behind it.
    async fn page(&mut self) -> Result<EventPage, ApiError> {
        // Read before the page: events that are neither on the page nor newer were not selected.
        let newest = if self.event_types.is_empty() { None } else { self.newest().await? };
        let query = self.query(self.after, PAGE_EVENTS, self.event_types.clone());
        let page = self.edge.router.list(&self.caller.tenant, query, self.edge.deadline()).await?;
        let last = page.events.last().map(|event| event.id);
        let looked_at = page.next.or(newest.max(last));
        self.after = looked_at.map_or(self.after, |id| id.max(self.after));
        Ok(page)
    }

    /// The newest received event of the tenant, of any type.
    async fn newest(&self) -> Result<Option<EventId>, ApiError> {
        let query = self.query(newest_first(), 1, Vec::new());
        let page = self.edge.router.list(&self.caller.tenant, query, self.edge.deadline()).await?;
        Ok(page.events.first().map(|event| event.id))
    }

    fn query(&self, after: EventId, limit: usize, event_types: Vec<EventTypePattern>) -> PageQuery {
        PageQuery {
            status: EventStatus::Received,
            after,
            limit,
            event_types,
            from: None,
            to: None,
            scan_rows_max: self.edge.options.broker.scan_rows_max,
            page_bytes_max: PAGE_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for bad in ["nonsense", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            assert_eq!(of(bad, "").unwrap_err().details[0].field, "Last-Event-ID", "{bad}");
        }
        assert_eq!(of(id, "event_type=a..b").unwrap_err().details[0].field, "event_type");
    }
}
