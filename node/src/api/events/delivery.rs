//! What a consumer does with one event: acknowledge it, nack it, extend its lease, replay it.
//!
//! - `DELIVERY-REQUEST-1`: a token that is not that of a current lease is 409 and changes nothing,
//!   whatever its text.
//! - `DELIVERY-REQUEST-2`: an event that does not exist is 404 or 410, whatever the token.
//!
//! The tenant's inbox checks the lease in the transaction that makes the change.

use crate::api::event::{event_id, missing, respond_event};
use crate::api::inbox::lease::{
    VISIBILITY_TIMEOUT_SECONDS, bounded_reason, leased_event, parsed_token, retry_after_seconds,
};
use crate::api::prelude::*;
use crate::api::read;
use std::time::Duration;
use triggers_actors::model::operations::{self, Acknowledge, ExtendLease, Replay, Unchanged};
use triggers_actors::model::rows::LeaseToken;
use triggers_protocol::api::{Acknowledgement, EventJson, LeaseExtension, LeasedEvent, Nack};
use triggers_protocol::{ErrorCode, Event, EventId};

const STALE: &str = "lease_token is not that of a current lease of the event";

/// Acknowledge an event
///
/// The event becomes `delivered`. Acknowledging it again answers the same.
#[utoipa::path(
    post, path = "/v1/events/{id}/ack", tag = "inbox", operation_id = "acknowledgeEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    request_body(content = Option<Acknowledgement>, content_type = "application/json"),
    responses(
        (status = 200, description = "The event, delivered", body = EventJson<'static>),
        (status = 409, description = "The lease token is not the current one"),
        (status = 410, description = "It was deleted"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn acknowledge_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = event_id(&id)?;
    let body = JsonBody::read(request, &edge).await?;
    let asked = acknowledgement(body.optional())?;
    let token = checked_token(&edge, &caller, id, asked.lease_token).await?;
    let acknowledge = Acknowledge { id, token };
    let event = edge.router.change(&caller.tenant, acknowledge, edge.deadline()).await?;
    respond_event(StatusCode::OK, &changed(event, STALE)?)
}

/// Give a leased event back
///
/// The attempt counts as failed. The next one is due by the retry policy, or after
/// `retry_after_seconds`; after the last one the event is `failed`.
#[utoipa::path(
    post, path = "/v1/events/{id}/nack", tag = "inbox", operation_id = "refuseEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    request_body(content = Option<Nack>, content_type = "application/json"),
    responses(
        (status = 200, description = "The event, waiting for its next attempt or failed",
         body = EventJson<'static>),
        (status = 409, description = "It is not leased, or the token is not the current one"),
        (status = 410, description = "It was deleted"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn nack_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = event_id(&id)?;
    let body = JsonBody::read(request, &edge).await?;
    let Nack { reason, retry_after_seconds, lease_token } = nack(body.optional())?;
    let token = checked_token(&edge, &caller, id, lease_token).await?;
    let retry_after = retry_after_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let nack = operations::Nack { id, token, reason, retry_after };
    let event = edge.router.change(&caller.tenant, nack, edge.deadline()).await?;
    let conflict = "the event is not leased, or not under this lease_token";
    respond_event(StatusCode::OK, &changed(event, conflict)?)
}

/// Hold a leased event longer
///
/// The lease ends `visibility_timeout_seconds` from now.
#[utoipa::path(
    post, path = "/v1/events/{id}/lease", tag = "inbox", operation_id = "extendLease",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    request_body(content = LeaseExtension, content_type = "application/json"),
    responses(
        (status = 200, description = "The event with its token", body = LeasedEvent<'static>),
        (status = 409, description = "The lease token is not the current one"),
        (status = 410, description = "It was deleted"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn extend_lease(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let id = event_id(&id)?;
    let body = JsonBody::read(request, &edge).await?;
    let asked = extension(body.required())?;
    let visibility = Duration::from_secs(asked.visibility_timeout_seconds.into());
    let token = checked_token(&edge, &caller, id, Some(asked.lease_token))
        .await?
        .ok_or_else(|| conflict(STALE))?;
    let extend = ExtendLease { id, token, visibility };
    let event = edge.router.change(&caller.tenant, extend, edge.deadline()).await?;
    let event = changed(event, STALE)?;
    let leased = leased_event(&event, &token)?;
    respond(StatusCode::OK, &leased, leased.bytes_hint())
}

/// Deliver an event again
///
/// A failed or delivered event becomes `queued` if a subscription selects it, else `received`. Its
/// attempts are kept, and the retry policy begins anew.
#[utoipa::path(
    post, path = "/v1/events/{id}/replay", tag = "inbox", operation_id = "replayEvent",
    params(("id" = String, Path, description = "The event's id", format = "uuid")),
    responses(
        (status = 202, description = "The event, which waits for its delivery",
         body = EventJson<'static>),
        (status = 409, description = "It is neither failed nor delivered"),
        (status = 410, description = "It was deleted"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn replay_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
) -> Result<Response, ApiError> {
    let replay = Replay { id: event_id(&id)? };
    let event = edge.router.change(&caller.tenant, replay, edge.deadline()).await?;
    let conflict = "only a failed or delivered event can be replayed";
    respond_event(StatusCode::ACCEPTED, &changed(event, conflict)?)
}

/// The event after a change, or the error that says why nothing was changed.
fn changed(event: Result<Event, Unchanged>, message: &str) -> Result<Event, ApiError> {
    event.map_err(|unchanged| match unchanged {
        Unchanged::Conflict => conflict(message),
        Unchanged::Missing(why) => missing(why),
    })
}

fn conflict(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Conflict, message)
}

/// Parses a lease token. A malformed one is 409 like that of an ended lease, unless the event does
/// not exist: `DELIVERY-REQUEST-2`.
async fn checked_token(
    edge: &Edge,
    caller: &Caller,
    id: EventId,
    text: Option<String>,
) -> Result<Option<LeaseToken>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    if let Some(token) = parsed_token(&text) {
        return Ok(Some(token));
    }
    edge.router.find(&caller.tenant, id, edge.deadline()).await?.map_err(missing)?;
    Err(conflict(STALE))
}

/// Reads the body of an acknowledgement.
pub(in crate::api) fn acknowledgement(body: &[u8]) -> Result<Acknowledgement, ApiError> {
    read::object(body, ["lease_token"], |[lease_token], faults| Acknowledgement {
        lease_token: lease_token.owned_text(faults),
    })
}

/// Reads the body of a nack.
pub(in crate::api) fn nack(body: &[u8]) -> Result<Nack, ApiError> {
    let names = ["reason", "retry_after_seconds", "lease_token"];
    read::object(body, names, |[reason, retry_after, token], faults| {
        let lease_token = token.owned_text(faults);
        let retry_after_seconds = retry_after_seconds(retry_after, faults);
        Nack { lease_token, reason: bounded_reason(reason, faults), retry_after_seconds }
    })
}

/// Reads the body of an extension.
pub(in crate::api) fn extension(body: &[u8]) -> Result<LeaseExtension, ApiError> {
    let names = ["lease_token", "visibility_timeout_seconds"];
    read::object(body, names, |[token, timeout], faults| {
        token.required(faults);
        timeout.required(faults);
        LeaseExtension {
            lease_token: token.owned_text(faults).unwrap_or_default(),
            visibility_timeout_seconds: timeout
                .whole_number(faults, VISIBILITY_TIMEOUT_SECONDS)
                .unwrap_or_default(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(error: ApiError) -> Vec<String> {
        assert_eq!(error.code, ErrorCode::ValidationError);
        error.details.into_iter().map(|detail| detail.field).collect()
    }

    #[test]
    fn a_lease_token_is_a_string_or_not_there() {
        let given = |body: &[u8]| acknowledgement(body).unwrap().lease_token;
        for none in [&b"{}"[..], br#"{"lease_token":null}"#, br#"{"other":1}"#] {
            assert_eq!(given(none), None);
        }
        assert_eq!(given(br#"{"lease_token":"x"}"#).as_deref(), Some("x"));
        assert_eq!(fields(acknowledgement(br#"{"lease_token":1}"#).unwrap_err()), ["lease_token"]);
        assert_eq!(acknowledgement(b"nonsense").unwrap_err().code, ErrorCode::InvalidJson);
    }

    #[test]
    fn a_nack_has_bounds() {
        let asked = nack(br#"{"reason":"later","retry_after_seconds":0}"#).unwrap();
        assert_eq!((asked.reason.as_deref(), asked.retry_after_seconds), (Some("later"), Some(0)));
        assert!(nack(b"{}").unwrap().retry_after_seconds.is_none());
        let long = format!(
            r#"{{"reason":"{}","retry_after_seconds":86401,"lease_token":[]}}"#,
            "ä".repeat(1_025)
        );
        assert_eq!(
            fields(nack(long.as_bytes()).unwrap_err()),
            ["lease_token", "retry_after_seconds", "reason"]
        );
        let fits = format!(r#"{{"reason":"{}"}}"#, "ä".repeat(1_024));
        assert!(nack(fits.as_bytes()).is_ok());
    }

    #[test]
    fn an_extension_needs_both_members() {
        assert_eq!(
            fields(extension(b"{}").unwrap_err()),
            ["lease_token", "visibility_timeout_seconds"]
        );
        let zero = br#"{"lease_token":"x","visibility_timeout_seconds":0}"#;
        assert_eq!(fields(extension(zero).unwrap_err()), ["visibility_timeout_seconds"]);
        assert_eq!(extension(b"").unwrap_err().code, ErrorCode::InvalidJson);
    }
}
