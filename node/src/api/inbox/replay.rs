//! `POST /v1/inbox/replay`: makes many failed or delivered events wait for delivery again.
//!
//! - `REPLAY-1`: one request replays at most [`EVENTS_MAX`] events, starts no step late in its
//!   time, and reports how many there were.
//! - `REPLAY-2`: events are charged [`STEP`] by step, before each step. If rate or time run out
//!   after the first step, the response reports what was done and that there is more.
//! - `REPLAY-3`: the cursor continues behind the events that were read, so that an event which is
//!   delivered quickly is not replayed twice.

use super::PAGE_BYTES_MAX;
use crate::api::cursor;
use crate::http::authenticate::{Authorized, Caller, InboxAck};
use crate::http::body;
use crate::http::body::members::members;
use crate::http::edge::{Edge, EdgeState};
use crate::http::error::{ApiError, Faults};
use crate::http::json::respond;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::join_all;
use tokio::time::Instant;
use triggers_actors::BrokerError;
use triggers_actors::model::inbox::PageQuery;
use triggers_actors::model::operations::{Replay, Unchanged};
use triggers_protocol::api::{InboxReplay, ReplayAnswer, ReplayedStatus};
use triggers_protocol::{EventId, EventStatus, EventTypePattern, Timestamp};

/// Maximum events of one request.
const EVENTS_MAX: u64 = 10_000;
/// Number of events that are charged and replayed together.
const STEP: usize = 50;

/// Deliver many events again
///
/// At most 10,000 in one request. Each costs an event token.
#[utoipa::path(
    post,
    path = "/v1/inbox/replay",
    tag = "inbox",
    operation_id = "replayInbox",
    request_body(content = InboxReplay, content_type = "application/json"),
    responses((status = 202, description = "How many were replayed", body = ReplayAnswer)),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn replay_inbox(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    request: Request,
) -> Result<Response, ApiError> {
    let (last_start, deadline) = (edge.last_start(), edge.deadline());
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    let replay = read_request(body.as_deref().unwrap_or_default())?;
    let after = replay.cursor.as_deref().map_or(Ok(EventId::ZERO), |cursor| {
        cursor::open_replay(&edge.cursor_secret, &caller.tenant, cursor)
    })?;
    let query = first_page(&replay, after, edge.options.broker.scan_rows_max);
    let mut walk = Walk { edge: &edge, caller: &caller, query, deadline, replayed: 0 };
    let outcome = walk.run(last_start).await;
    let replayed = walk.replayed;
    let has_more = match outcome {
        Ok(has_more) => has_more,
        Err(error) if replayed == 0 => return Err(error),
        Err(_) => true,
    };
    let cursor = has_more
        .then(|| cursor::seal_replay(&edge.cursor_secret, &caller.tenant, walk.query.after));
    respond(StatusCode::ACCEPTED, &ReplayAnswer { replayed, has_more, cursor }, 128)
}

/// A walk through the events of a status.
struct Walk<'a> {
    edge: &'a Edge,
    caller: &'a Caller,
    query: PageQuery,
    deadline: Instant,
    replayed: u64,
}

impl Walk<'_> {
    /// Replays step by step; returns whether there may be more.
    async fn run(&mut self, last_start: Instant) -> Result<bool, ApiError> {
        loop {
            if self.replayed >= EVENTS_MAX
                || Instant::now() >= last_start
                || self.edge.is_draining()
            {
                return Ok(true);
            }
            let page = self
                .edge
                .router
                .list(&self.caller.tenant, self.query.clone(), self.deadline)
                .await?;
            let ids: Vec<_> = page.events.into_iter().map(|event| event.id).collect();
            if !ids.is_empty() {
                self.caller.charge_events(ids.len(), self.edge.environment.monotonic())?;
                self.step(ids).await?;
            }
            match page.next {
                Some(next) => self.query.after = next,
                None => return Ok(false),
            }
        }
    }

    /// Replays these events; skips those whose status has changed meanwhile.
    async fn step(&mut self, ids: Vec<EventId>) -> Result<(), ApiError> {
        let (router, tenant) = (&self.edge.router, &self.caller.tenant);
        let replays = ids.into_iter().map(|id| router.change(tenant, Replay { id }, self.deadline));
        let mut failure = None;
        for outcome in join_all(replays).await {
            match outcome {
                Ok(Ok(_)) => self.replayed += 1,
                Ok(Err(Unchanged::Conflict | Unchanged::Missing(_))) => {}
                // An unknown outcome is the one that the client must learn of.
                Err(error) if failure != Some(BrokerError::Unknown) => failure = Some(error),
                Err(_) => {}
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Reads the body of a request.
///
/// # Errors
/// 400 that names every fault.
pub(in crate::api) fn read_request(body: &[u8]) -> Result<InboxReplay, ApiError> {
    let mut faults = Faults::default();
    let names = ["status", "event_type", "from_timestamp", "to_timestamp", "cursor"];
    let [status, event_type, from, to, cursor] = members(body::text(body)?, names, &mut faults)?;
    status.required(&mut faults);
    let status = status.decoded(&mut faults, "must be failed or delivered");
    let replay = InboxReplay {
        status: status.unwrap_or(ReplayedStatus::Failed),
        event_type: event_type.parsed(&mut faults, EventTypePattern::parse),
        from_timestamp: from.parsed(&mut faults, Timestamp::parse),
        to_timestamp: to.parsed(&mut faults, Timestamp::parse),
        cursor: cursor.owned_text(&mut faults),
    };
    faults.check().map(|()| replay)
}

/// The first page of the events that a request names.
fn first_page(replay: &InboxReplay, after: EventId, scan_rows_max: usize) -> PageQuery {
    PageQuery {
        status: match replay.status {
            ReplayedStatus::Failed => EventStatus::Failed,
            ReplayedStatus::Delivered => EventStatus::Delivered,
        },
        after,
        limit: STEP,
        event_types: replay.event_type.iter().cloned().collect(),
        from: replay.from_timestamp,
        to: replay.to_timestamp,
        scan_rows_max,
        page_bytes_max: PAGE_BYTES_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_one_that_can_be_replayed() {
        let replay = read_request(br#"{"status":"delivered","event_type":"a.*"}"#).unwrap();
        let query = first_page(&replay, EventId::ZERO, 7);
        assert_eq!((query.status, query.event_types.len()), (EventStatus::Delivered, 1));
        for bad in [r#"{"status":"received"}"#, r#"{"status":"x"}"#, r#"{"status":1}"#, "{}"] {
            let error = read_request(bad.as_bytes()).unwrap_err();
            assert_eq!(error.details[0].field, "status", "{bad}");
        }
        let error = read_request(br#"{"event_type":"a..b","from_timestamp":"x","to_timestamp":1}"#)
            .unwrap_err();
        let fields: Vec<_> = error.details.into_iter().map(|detail| detail.field).collect();
        assert_eq!(fields, ["status", "event_type", "from_timestamp", "to_timestamp"]);
    }
}
