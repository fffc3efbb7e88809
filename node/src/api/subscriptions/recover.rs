//! `POST /v1/subscriptions/{id}/recover`: sends a subscription what it has missed.
//!
//! - `RECOVER-REQUEST-1`: one request recovers at most [`EVENTS_MAX`] events, starts no step late
//!   in its time, and reports how many there were.
//! - `RECOVER-REQUEST-2`: events are charged [`STEP`] by step, before each step. If rate or time
//!   run out after the first step, the response reports what was done and that there is more.
//! - `RECOVER-REQUEST-3`: a repeated request recovers only what is still missed. A dry run changes
//!   nothing and costs no event tokens.

use super::row::{not_found, subscription_id};
use crate::api::cursor::{self, EventList};
use crate::api::prelude::*;
use crate::api::read;
use tokio::time::Instant;
use triggers_actors::model::operations::{NotRecovered, Recover};
use triggers_protocol::api::{RecoveryAnswer, SubscriptionRecovery};
use triggers_protocol::{ErrorCode, EventId, SubscriptionId, Timestamp};

/// Maximum events of one request.
const EVENTS_MAX: u64 = 10_000;
/// Number of events that are charged and recovered together.
const STEP: usize = 50;
/// Approximate bytes of the response.
const ANSWER_BYTES: usize = 160;

/// Send a subscription what it has missed
///
/// What was accepted since a time, is still stored, and is selected by the subscription, but was
/// neither accepted by its endpoint nor is on its way to it, is sent to it once: for example what
/// came while it was disabled. Events that consumers have acknowledged or hold are left out. At
/// most 10,000 events in one request; each costs an event token. Repeating the request is safe.
#[utoipa::path(
    post, path = "/v1/subscriptions/{id}/recover",
    tag = "subscriptions", operation_id = "recoverSubscription",
    params(
        ("id" = String, Path, description = "The subscription's id", format = "uuid"),
        ("dry_run" = Option<bool>, Query, description = "Only count the events; false if absent"),
    ),
    request_body(content = SubscriptionRecovery, content_type = "application/json"),
    responses(
        (status = 202, description = "How many were recovered, or would be",
         body = RecoveryAnswer),
        (status = 409, description = "The subscription is disabled"),
    ),
    security(("api_key" = ["subscriptions:manage"]), ("bearer" = ["subscriptions:manage"])),
)]
pub(crate) async fn recover_subscription(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<SubscriptionsManage>,
    id: PathId,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, ApiError> {
    let subscription = subscription_id(&id)?;
    let is_dry_run = dry_run(query.as_deref())?;
    let body = JsonBody::read(request, &edge).await?;
    let asked = read_request(body.required())?;
    let (secret, tenant) = (&edge.cursor_secret, &caller.tenant);
    let after = match &asked.cursor {
        Some(text) => cursor::open_event(secret, EventList::Recovery, tenant, text)?,
        None => EventId::first_at(asked.since),
    };
    let mut walk =
        Walk { edge: &edge, caller: &caller, subscription, is_dry_run, after, recovered: 0 };
    let has_more = match walk.run(edge.last_start()).await {
        Ok(has_more) => has_more,
        Err(error) if walk.recovered == 0 => return Err(error),
        Err(_) => true,
    };
    let cursor =
        has_more.then(|| cursor::seal_event(secret, EventList::Recovery, tenant, walk.after));
    let answer =
        RecoveryAnswer { dry_run: is_dry_run, recovered: walk.recovered, has_more, cursor };
    respond(StatusCode::ACCEPTED, &answer, ANSWER_BYTES)
}

/// A walk through the events that a subscription may have missed.
struct Walk<'a> {
    edge: &'a Edge,
    caller: &'a Caller,
    subscription: SubscriptionId,
    is_dry_run: bool,
    after: EventId,
    recovered: u64,
}

impl Walk<'_> {
    /// Recovers step by step; returns whether there may be more.
    async fn run(&mut self, last_start: Instant) -> Result<bool, ApiError> {
        let (router, tenant) = (&self.edge.router, &self.caller.tenant);
        loop {
            if self.recovered >= EVENTS_MAX
                || Instant::now() >= last_start
                || self.edge.is_draining()
            {
                return Ok(true);
            }
            let (subscription, deadline) = (self.subscription, self.edge.deadline());
            let page =
                router.missed_events(tenant, subscription, self.after, STEP, deadline).await?;
            let page = page.ok_or_else(not_found)?;
            if self.is_dry_run {
                self.recovered += page.ids.len() as u64;
            } else if !page.ids.is_empty() {
                self.caller.charge_events(page.ids.len(), self.edge.environment.monotonic())?;
                let recover = Recover { subscription, ids: page.ids };
                let recovered = router.execute(tenant, recover, deadline).await?;
                self.recovered += recovered.map_err(not_recovered)? as u64;
            }
            match page.next {
                Some(next) => self.after = next,
                None => return Ok(false),
            }
        }
    }
}

fn not_recovered(why: NotRecovered) -> ApiError {
    match why {
        NotRecovered::NotFound => not_found(),
        NotRecovered::Disabled => {
            let message = "the subscription is disabled: enable it first";
            ApiError::new(ErrorCode::Conflict, message)
        }
    }
}

/// Reads the parameter `dry_run`.
fn dry_run(query: Option<&str>) -> Result<bool, ApiError> {
    let [values] = query::parameters(query, ["dry_run"]);
    let mut faults = Faults::default();
    let is_dry_run = match query::once("dry_run", &values, &mut faults) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            faults.add("dry_run", "must be true or false");
            false
        }
    };
    faults.check().map(|()| is_dry_run)
}

/// Reads the body of a request.
///
/// # Errors
/// 400 that names every fault.
pub(in crate::api) fn read_request(body: &[u8]) -> Result<SubscriptionRecovery, ApiError> {
    read::object(body, ["since", "cursor"], |[since, cursor], faults| {
        since.required(faults);
        SubscriptionRecovery {
            since: since.parsed(faults, Timestamp::parse).unwrap_or(Timestamp::EPOCH),
            cursor: cursor.owned_text(faults),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_names_its_beginning() {
        let asked = read_request(br#"{"since":"2026-01-01T00:00:00Z","cursor":"c"}"#).unwrap();
        assert_eq!(asked.since, Timestamp::parse("2026-01-01T00:00:00Z").unwrap());
        assert_eq!(asked.cursor.as_deref(), Some("c"));
        for bad in ["{}", r#"{"since":null}"#, r#"{"since":"yesterday"}"#, r#"{"since":1}"#] {
            let error = read_request(bad.as_bytes()).unwrap_err();
            assert_eq!(error.details[0].field, "since", "{bad}");
        }
        assert_eq!((dry_run(None), dry_run(Some("dry_run=false"))), (Ok(false), Ok(false)));
        assert_eq!(dry_run(Some("dry_run=true")), Ok(true));
        for bad in ["dry_run=1", "dry_run", "dry_run=true&dry_run=true"] {
            assert_eq!(dry_run(Some(bad)).unwrap_err().details[0].field, "dry_run", "{bad}");
        }
    }
}
