//! `POST /v1/inbox/replay`: makes many failed or delivered events wait for delivery again.
//!
//! - `REPLAY-1`: one request replays at most [`EVENTS_MAX`] events, starts no step late in its
//!   time, and reports how many there were.
//! - `REPLAY-2`: events are charged [`STEP`] by step, before each step. If rate or time run out
//!   after the first step, the response reports what was done and that there is more.
//! - `REPLAY-3`: the cursor continues behind the events that were read, so that an event which is
//!   delivered quickly is not replayed twice.

use super::received;
use crate::api::cursor::{self, EventList};
use crate::api::prelude::*;
use crate::api::read;
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
/// Approximate bytes of the response.
const ANSWER_BYTES: usize = 128;

/// Deliver many events again
///
/// At most 10,000 in one request. Each costs an event token.
#[utoipa::path(
    post, path = "/v1/inbox/replay", tag = "inbox", operation_id = "replayInbox",
    request_body(content = InboxReplay, content_type = "application/json"),
    responses((status = 202, description = "How many were replayed", body = ReplayAnswer)),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn replay_inbox(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let replay = read_request(body.required())?;
    let after = replay.cursor.as_deref().map_or(Ok(EventId::ZERO), |cursor| {
        cursor::open_event(&edge.cursor_secret, EventList::Replay, &caller.tenant, cursor)
    })?;
    let query = first_page(&replay, after, edge.options.broker.scan_rows_max);
    let mut walk = Walk { edge: &edge, caller: &caller, query, replayed: 0 };
    let has_more = match walk.run(edge.last_start()).await {
        Ok(has_more) => has_more,
        Err(error) if walk.replayed == 0 => return Err(error),
        Err(_) => true,
    };
    let cursor = has_more.then(|| {
        let after = walk.query.after;
        cursor::seal_event(&edge.cursor_secret, EventList::Replay, &caller.tenant, after)
    });
    let answer = ReplayAnswer { replayed: walk.replayed, has_more, cursor };
    respond(StatusCode::ACCEPTED, &answer, ANSWER_BYTES)
}

/// A walk through the events of a status.
struct Walk<'a> {
    edge: &'a Edge,
    caller: &'a Caller,
    query: PageQuery,
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
            let (query, deadline) = (self.query.clone(), self.edge.deadline());
            let page = self.edge.router.list(&self.caller.tenant, query, deadline).await?;
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
        let deadline = self.edge.deadline();
        let replays = ids.into_iter().map(|id| router.change(tenant, Replay { id }, deadline));
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
pub(in crate::api) fn read_request(body: &[u8]) -> Result<InboxReplay, ApiError> {
    let names = ["status", "event_type", "from_timestamp", "to_timestamp", "cursor"];
    read::object(body, names, |[status, event_type, from, to, cursor], faults| {
        status.required(faults);
        let status = status.decoded(faults, "must be failed or delivered");
        InboxReplay {
            status: status.unwrap_or(ReplayedStatus::Failed),
            event_type: event_type.parsed(faults, EventTypePattern::parse),
            from_timestamp: from.parsed(faults, Timestamp::parse),
            to_timestamp: to.parsed(faults, Timestamp::parse),
            cursor: cursor.owned_text(faults),
        }
    })
}

/// The first page of the events that a request names.
fn first_page(replay: &InboxReplay, after: EventId, scan_rows_max: usize) -> PageQuery {
    PageQuery {
        status: match replay.status {
            ReplayedStatus::Failed => EventStatus::Failed,
            ReplayedStatus::Delivered => EventStatus::Delivered,
        },
        from: replay.from_timestamp,
        to: replay.to_timestamp,
        ..received(after, STEP, replay.event_type.iter().cloned().collect(), scan_rows_max)
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
