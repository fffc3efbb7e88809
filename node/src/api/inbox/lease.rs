//! `POST /v1/inbox/lease`: leases events to one consumer; waits if there are none (long poll).
//!
//! - `LEASE-EDGE-1`: a response has events, unless the wait is over or the node is draining.
//! - `LEASE-EDGE-2`: a wait ends early enough for its last lease to complete within the request's
//!   time.
//! - `LEASE-EDGE-3`: a key that is revoked during a wait leases nothing a second later.
//! - `LEASE-EDGE-4`: a response without events comes after a search through everything that was
//!   available when the request came, or at the end of the request's time. The next request then
//!   goes on.
//! - `LEASE-TOKEN-1`: [`parsed_token`] reads what [`token_text`] writes: 32 hexadecimal digits.
//! - `LEASE-TOKEN-2`: any other text is answered like the token of a lease that has ended.
//!
//! A lease is a commit, and a commit of a tenant wakes all consumers that wait for it. So a woken
//! consumer reads before it leases: otherwise two consumers of an empty inbox would keep waking
//! each other. Once a second it leases without reading, for events whose next attempt is due and
//! for old ones that were replayed.

use super::{patterns, received};
use crate::api::prelude::*;
use crate::api::{event, read};
use crate::http::body::members::Member;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use triggers_actors::model::inbox::PageQuery;
use triggers_actors::model::operations::{Lease, LeasePosition, LeaseReply};
use triggers_actors::model::rows::LeaseToken;
use triggers_cluster_config::LimitOptions;
use triggers_protocol::api::{LeaseAnswer, LeaseRequest, LeasedEvent};
use triggers_protocol::{Event, Scope};

/// Bounds of the time for which a lease hides an event from other consumers.
pub(crate) const VISIBILITY_TIMEOUT_SECONDS: RangeInclusive<u64> = 1..=43_200;
const VISIBILITY_TIMEOUT_SECONDS_DEFAULT: u32 = 30;
const WAIT_SECONDS: RangeInclusive<u64> = 0..=20;
/// Maximum characters of a reason.
const REASON_CHARACTERS_MAX: usize = 1_024;
/// Maximum delay of the next attempt that a consumer can ask for, in seconds.
const RETRY_AFTER_SECONDS_MAX: u64 = 86_400;
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
    Ok(LeasedEvent::new(event::json(event)?, token_text(token)))
}

/// The text of a token.
fn token_text(token: &LeaseToken) -> String {
    format!("{:032x}", u128::from_be_bytes(*token))
}

/// The token of a text; `None` if it is not the text of a token.
pub(crate) fn parsed_token(text: &str) -> Option<LeaseToken> {
    let fits = text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    u128::from_str_radix(text, 16).ok().filter(|_| fits).map(u128::to_be_bytes)
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
    post, path = "/v1/inbox/lease", tag = "inbox", operation_id = "leaseEvents",
    request_body(content = Option<LeaseRequest>, content_type = "application/json"),
    responses((status = 200, description = "The leased events", body = LeaseAnswer<'static>)),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn lease_events(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let limits = &edge.options.limits;
    let asked = read_request(body.optional(), limits)?;
    let wait = seconds(asked.wait_seconds.unwrap_or(0));
    let request = Lease {
        limit: asked.limit.map_or(limits.page_events_default, |limit| limit as usize),
        event_types: asked.event_types.unwrap_or_default(),
        visibility: seconds(
            asked.visibility_timeout_seconds.unwrap_or(VISIBILITY_TIMEOUT_SECONDS_DEFAULT),
        ),
        after: None,
    };
    let poll = LongPoll { edge: &edge, caller: &caller, request };
    let reply = poll.lease_until((Instant::now() + wait).min(edge.last_start())).await?;
    let has_events = !reply.events.is_empty();
    let events = reply.events.iter().map(|leased| leased_event(&leased.event, &leased.token));
    let events: Vec<_> = events.collect::<Result<_, _>>()?;
    let bytes_hint = events.iter().map(LeasedEvent::bytes_hint).sum::<usize>() + 128;
    let lease_id = has_events.then(|| token_text(&reply.lease));
    let leased_until = has_events.then_some(reply.until);
    respond(StatusCode::OK, &LeaseAnswer { lease_id, leased_until, events }, bytes_hint)
}

/// A request that leases events, or waits for them.
struct LongPoll<'a> {
    edge: &'a Edge,
    caller: &'a Caller,
    request: Lease,
}

impl LongPoll<'_> {
    async fn lease_until(&self, end: Instant) -> Result<LeaseReply, ApiError> {
        loop {
            let reply = self.search().await?;
            if !reply.events.is_empty() || !self.wait(end, reply.position).await? {
                return Ok(reply);
            }
        }
    }

    /// Leases events, step by step until there are some or everything was searched.
    async fn search(&self) -> Result<LeaseReply, ApiError> {
        let (mut request, last_start) = (self.request.clone(), self.edge.last_start());
        loop {
            let (router, deadline) = (&self.edge.router, self.edge.deadline());
            let reply = router.execute(&self.caller.tenant, request.clone(), deadline).await?;
            let is_over = Instant::now() >= last_start;
            if !reply.events.is_empty() || !reply.has_more || is_over {
                return Ok(reply);
            }
            request.after = Some(reply.position);
            self.caller.check_again(Scope::InboxAck, self.edge).await?;
        }
    }

    /// Waits until there may be an event to lease; returns false when the wait is over.
    async fn wait(&self, end: Instant, searched: LeasePosition) -> Result<bool, ApiError> {
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
            if self.may_find_events(searched).await? {
                break;
            }
        }
        self.caller.check_again(Scope::InboxAck, self.edge).await?;
        Ok(true)
    }

    /// Whether there is a selected event, or so much to search that a lease had better do it.
    async fn may_find_events(&self, searched: LeasePosition) -> Result<bool, ApiError> {
        let event_types = self.request.event_types.clone();
        let query = PageQuery {
            page_bytes_max: 1,
            ..received(searched.received, 1, event_types, READ_ROWS_MAX)
        };
        let page = self.edge.router.list(&self.caller.tenant, query, self.edge.deadline()).await?;
        Ok(!page.events.is_empty() || page.next.is_some())
    }
}

/// Reads the reason of a nack.
pub(in crate::api) fn bounded_reason(member: Member<'_>, faults: &mut Faults) -> Option<String> {
    let reason = member.owned_text(faults);
    if reason.as_ref().is_some_and(|text| text.chars().count() > REASON_CHARACTERS_MAX) {
        faults.add(member.name, format!("must have at most {REASON_CHARACTERS_MAX} characters"));
    }
    reason
}

/// Reads the delay that a nack asks for.
pub(in crate::api) fn retry_after_seconds(member: Member<'_>, faults: &mut Faults) -> Option<u32> {
    member.whole_number(faults, 0..=RETRY_AFTER_SECONDS_MAX)
}

/// Reads the body of a request; every member is optional.
pub(in crate::api) fn read_request(
    body: &[u8],
    limits: &LimitOptions,
) -> Result<LeaseRequest, ApiError> {
    let names = ["limit", "event_types", "visibility_timeout_seconds", "wait_seconds"];
    let limit_max = u64::try_from(limits.page_events_max).unwrap_or(u64::MAX);
    read::object(body, names, |[limit, event_types, timeout, wait], faults| LeaseRequest {
        limit: limit.whole_number(faults, 1..=limit_max),
        visibility_timeout_seconds: timeout.whole_number(faults, VISIBILITY_TIMEOUT_SECONDS),
        wait_seconds: wait.whole_number(faults, WAIT_SECONDS),
        event_types: event_types
            .decoded::<Vec<String>>(faults, "must be an array of strings")
            .map(|types| patterns("event_types", types.iter().map(String::as_str), faults)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(body: &str) -> Result<LeaseRequest, ApiError> {
        read_request(body.as_bytes(), &LimitOptions::default())
    }

    #[test]
    fn nothing_is_required() {
        let none = serde_json::json!({});
        for body in ["{}", r#"{"limit":null,"unknown":1}"#] {
            assert_eq!(serde_json::to_value(parsed(body).unwrap()).unwrap(), none);
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

    proptest! {
        #[test]
        fn what_is_written_is_read(token: [u8; 16]) {
            prop_assert_eq!(parsed_token(&token_text(&token)), Some(token));
        }
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let good = "0123456789abcdef0123456789abcdef";
        assert!(parsed_token(good).is_some());
        for bad in [
            "",
            "x",
            &good[1..],
            &format!("{good}0"),
            &good.to_uppercase(),
            &format!("+{}", &good[1..]),
        ] {
            assert_eq!(parsed_token(bad), None, "{bad}");
        }
    }
}
