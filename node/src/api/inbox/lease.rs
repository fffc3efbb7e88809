//! `POST /v1/inbox/lease`: leases events to one consumer; waits if there are none (long poll).
//!
//! - `LEASE-EDGE-1`: a response has events, unless the wait is over or the node is draining.
//! - `LEASE-EDGE-2`: a wait ends early enough for its last lease to complete within the request's
//!   time.
//! - `LEASE-EDGE-3`: a key that is revoked during a wait leases nothing a second later.
//!
//! A lease is a commit, and a commit of a tenant wakes all consumers that wait for it. So a woken
//! consumer reads before it leases: otherwise two consumers of an empty inbox would keep waking
//! each other. Once a second it leases without reading, for events whose next attempt is due.

use super::patterns;
use crate::api::event_json;
use crate::api::lease_token;
use crate::http::authenticate::{Authorized, Caller, InboxAck};
use crate::http::body;
use crate::http::body::members::members;
use crate::http::edge::{Edge, EdgeState};
use crate::http::error::{ApiError, Faults};
use crate::http::json::respond;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use triggers_actors::model::inbox::PageQuery;
use triggers_actors::model::operations::{Lease, Leased};
use triggers_actors::model::rows::LeaseToken;
use triggers_cluster_config::LimitOptions;
use triggers_protocol::api::{LeaseAnswer, LeaseRequest, LeasedEvent};
use triggers_protocol::{Event, EventId, EventStatus, Scope};

/// Bounds of the time that a consumer may hold an event, in seconds.
pub(crate) const VISIBILITY_S: RangeInclusive<u64> = 1..=43_200;
const VISIBILITY_DEFAULT_S: u32 = 30;
const WAIT_S: RangeInclusive<u64> = 0..=20;
/// Longest time within a wait without a lease.
const LEASE_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two reads within a wait, however much is committed.
const READ_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum rows that one read scans.
const READ_ROWS_MAX: usize = 1_000;

/// The JSON form of an event and the token of its lease.
///
/// # Errors
/// 500 if the stored payload is not JSON.
pub(crate) fn leased_event<'a>(
    event: &'a Event,
    token: &LeaseToken,
) -> Result<LeasedEvent<'a>, ApiError> {
    Ok(LeasedEvent::new(event_json::complete(event)?, lease_token::text(token)))
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

/// Lease events
///
/// The events become `queued` and invisible to other leases until they are acknowledged or given
/// back, or until the time is over, when the attempt counts as failed and the retry policy applies.
/// With `wait_seconds` the answer comes as soon as there is an event.
#[utoipa::path(
    post,
    path = "/v1/inbox/lease",
    tag = "inbox",
    operation_id = "leaseEvents",
    request_body(content = Option<LeaseRequest>, content_type = "application/json"),
    responses((status = 200, description = "The leased events", body = LeaseAnswer<'static>)),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn lease_events(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    request: Request,
) -> Result<Response, ApiError> {
    let (last_start, deadline) = (edge.last_start(), edge.deadline());
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    let limits = &edge.options.limits;
    let asked = read_request(body.as_deref(), limits)?;
    let wait = seconds(asked.wait_seconds.unwrap_or(0));
    let request = Lease {
        limit: asked.limit.map_or(limits.page_events_default, |limit| limit as usize),
        event_types: asked.event_types.unwrap_or_default(),
        visibility: seconds(asked.visibility_timeout_seconds.unwrap_or(VISIBILITY_DEFAULT_S)),
    };
    let poll = Poll { edge: &edge, caller: &caller, request, deadline };
    let leased = poll.lease_until((Instant::now() + wait).min(last_start)).await?;
    let events = leased.iter().map(|leased| leased_event(&leased.event, &leased.token));
    let events: Vec<_> = events.collect::<Result<_, _>>()?;
    let bytes_hint = events.iter().map(LeasedEvent::bytes_hint).sum::<usize>() + 16;
    respond(StatusCode::OK, &LeaseAnswer { events }, bytes_hint)
}

/// A request that leases events, or waits for them.
struct Poll<'a> {
    edge: &'a Edge,
    caller: &'a Caller,
    request: Lease,
    deadline: Instant,
}

impl Poll<'_> {
    async fn lease_until(&self, end: Instant) -> Result<Vec<Leased>, ApiError> {
        loop {
            let leased = self
                .edge
                .router
                .execute(&self.caller.tenant, self.request.clone(), self.deadline)
                .await?;
            if !leased.is_empty() || !self.wait(end).await? {
                return Ok(leased);
            }
        }
    }

    /// Waits until there may be an event to lease; returns false when the wait is over.
    async fn wait(&self, end: Instant) -> Result<bool, ApiError> {
        let lease_at = Instant::now() + LEASE_INTERVAL;
        loop {
            let now = Instant::now();
            if now >= end || self.edge.is_draining() {
                return Ok(false);
            }
            if now >= lease_at {
                break;
            }
            self.edge.router.changed(&self.caller.tenant, lease_at.min(end)).await;
            sleep_until((now + READ_INTERVAL).min(end)).await;
            if self.sees_an_event().await? {
                break;
            }
        }
        self.caller.check_again(Scope::InboxAck, self.edge).await?;
        Ok(true)
    }

    async fn sees_an_event(&self) -> Result<bool, ApiError> {
        let query = PageQuery {
            status: EventStatus::Received,
            after: EventId::ZERO,
            limit: 1,
            event_types: self.request.event_types.clone(),
            from: None,
            to: None,
            scan_rows_max: READ_ROWS_MAX,
            page_bytes_max: 1,
        };
        Ok(!self
            .edge
            .router
            .list(&self.caller.tenant, query, self.deadline)
            .await?
            .events
            .is_empty())
    }
}

/// Reads the body of a request; without one every member is absent.
///
/// # Errors
/// 400 that names every fault.
pub(in crate::api) fn read_request(
    body: Option<&[u8]>,
    limits: &LimitOptions,
) -> Result<LeaseRequest, ApiError> {
    let mut faults = Faults::default();
    let names = ["limit", "event_types", "visibility_timeout_seconds", "wait_seconds"];
    let text = body.map_or(Ok("{}"), body::text)?;
    let [limit, event_types, visibility, wait] = members(text, names, &mut faults)?;
    let limit_max = u64::try_from(limits.page_events_max).unwrap_or(u64::MAX);
    let request = LeaseRequest {
        limit: limit.whole_number(&mut faults, 1..=limit_max),
        visibility_timeout_seconds: visibility.whole_number(&mut faults, VISIBILITY_S),
        wait_seconds: wait.whole_number(&mut faults, WAIT_S),
        event_types: event_types
            .decoded::<Vec<String>>(&mut faults, "must be an array of strings")
            .map(|types| patterns("event_types", types.iter().map(String::as_str), &mut faults)),
    };
    faults.check().map(|()| request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<LeaseRequest, ApiError> {
        read_request(Some(body.as_bytes()), &LimitOptions::default())
    }

    #[test]
    fn nothing_is_required() {
        let none = serde_json::json!({});
        for request in [
            read_request(None, &LimitOptions::default()).unwrap(),
            parsed(r#"{"limit":null,"unknown":1}"#).unwrap(),
        ] {
            assert_eq!(serde_json::to_value(request).unwrap(), none);
        }
    }

    #[test]
    fn bad_members_are_all_named() {
        let body = r#"{"limit":201,"event_types":["a..b"],
            "visibility_timeout_seconds":43201,"wait_seconds":21}"#;
        let fields: Vec<_> =
            parsed(body).unwrap_err().details.into_iter().map(|detail| detail.field).collect();
        assert_eq!(fields, ["limit", "visibility_timeout_seconds", "wait_seconds", "event_types"]);
        assert!(parsed(r#"{"event_types":"a.b"}"#).is_err());
    }
}
