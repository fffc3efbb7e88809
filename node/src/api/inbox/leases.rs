//! Changes of a whole lease, or of some of its events: acknowledge, nack, extend.
//!
//! - `LEASE-CHANGE-1`: without `event_ids` all events are changed that the lease still holds; if
//!   there are none the answer is 409.
//! - `LEASE-CHANGE-2`: with `event_ids` the answer is 200 and has a result for each id, in the
//!   order of the request. An event that was acknowledged under this lease before is a success.
//!
//! The tenant's inbox checks the lease in the transaction that makes the change.

use super::acknowledge::{RESULT_BYTES, ids_of};
use super::lease::{VISIBILITY_TIMEOUT_SECONDS, bounded_reason, parsed_token, retry_after_seconds};
use crate::api::event::missing;
use crate::api::ingest::batch_answer::item_error;
use crate::api::prelude::*;
use crate::api::read;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use triggers_actors::model::inbox::Missing;
use triggers_actors::model::operations::{ChangeLease, ChangedEvents, LeaseChange, Unchanged};
use triggers_protocol::api::{
    AcknowledgeAnswer, AcknowledgeResult, LeaseAcknowledgement, LeaseNack, LeaseRenewal,
};
use triggers_protocol::{ErrorCode, EventId, EventStatus};

const ENDED: &str = "the lease holds no event: it has ended, or there is no such lease";

/// Acknowledge a lease
///
/// All events that the lease still holds become `delivered`, or those of `event_ids`.
#[utoipa::path(
    post, path = "/v1/inbox/leases/{id}/ack", tag = "inbox", operation_id = "acknowledgeLease",
    params(("id" = String, Path, description = "The `lease_id` of the lease's answer")),
    request_body(content = Option<LeaseAcknowledgement>, content_type = "application/json"),
    responses(
        (status = 200, description = "What became of each event", body = AcknowledgeAnswer),
        (status = 409, description = "The lease holds no event"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn acknowledge_lease(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let asked = acknowledgement(body.optional(), edge.options.limits.page_events_max)?;
    change(&edge, &caller, &id.0, asked.event_ids, LeaseChange::Acknowledge).await
}

/// Give a lease back
///
/// The attempts of all events that the lease still holds, or of those of `event_ids`, count as
/// failed. The next ones are due by the retry policy, or after `retry_after_seconds`.
#[utoipa::path(
    post, path = "/v1/inbox/leases/{id}/nack", tag = "inbox", operation_id = "nackLease",
    params(("id" = String, Path, description = "The `lease_id` of the lease's answer")),
    request_body(content = Option<LeaseNack>, content_type = "application/json"),
    responses(
        (status = 200, description = "What became of each event", body = AcknowledgeAnswer),
        (status = 409, description = "The lease holds no event"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn nack_lease(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let asked = nack(body.optional(), edge.options.limits.page_events_max)?;
    let retry_after = asked.retry_after_seconds.map(|wait| Duration::from_secs(wait.into()));
    let nack = LeaseChange::Nack { reason: asked.reason, retry_after };
    change(&edge, &caller, &id.0, asked.event_ids, nack).await
}

/// Hold a lease longer
///
/// The lease of all events that it still holds, or of those of `event_ids`, ends
/// `visibility_timeout_seconds` from now. After the end of the lease,
/// an event that is held longer than the others is acknowledged by its own id.
#[utoipa::path(
    post, path = "/v1/inbox/leases/{id}/extend", tag = "inbox", operation_id = "renewLease",
    params(("id" = String, Path, description = "The `lease_id` of the lease's answer")),
    request_body(content = LeaseRenewal, content_type = "application/json"),
    responses(
        (status = 200, description = "What became of each event", body = AcknowledgeAnswer),
        (status = 409, description = "The lease holds no event"),
    ),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn renew_lease(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    id: PathId,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let asked = renewal(body.required(), edge.options.limits.page_events_max)?;
    let visibility = Duration::from_secs(asked.visibility_timeout_seconds.into());
    change(&edge, &caller, &id.0, asked.event_ids, LeaseChange::Extend { visibility }).await
}

/// Changes a lease and answers with a result for each event.
async fn change(
    edge: &Edge,
    caller: &Caller,
    id: &str,
    named: Option<Vec<String>>,
    change: LeaseChange,
) -> Result<Response, ApiError> {
    let Some(lease) = parsed_token(id) else { return Err(conflict(ENDED)) };
    let ids = named.as_ref().map(|texts| {
        let ids: BTreeSet<_> = texts.iter().filter_map(|text| EventId::parse(text).ok()).collect();
        ids.into_iter().collect()
    });
    let operation = ChangeLease { lease, ids, change };
    let changed = edge.router.execute(&caller.tenant, operation, edge.deadline()).await?;
    let changed = changed.map_err(|_| conflict(ENDED))?;
    let results = match named {
        Some(texts) => named_results(texts, changed),
        None => changed.into_iter().map(|(id, outcome)| result(id.to_string(), outcome)).collect(),
    };
    let is_changed = |result: &&_| matches!(result, AcknowledgeResult::Delivered { .. });
    let success_count = results.iter().filter(is_changed).count();
    let failure_count = results.len() - success_count;
    let bytes_hint = RESULT_BYTES * results.len() + 64;
    let answer = AcknowledgeAnswer { success_count, failure_count, results };
    respond(StatusCode::OK, &answer, bytes_hint)
}

/// The results in the order of the ids as they were sent.
fn named_results(texts: Vec<String>, changed: ChangedEvents) -> Vec<AcknowledgeResult> {
    let changed: HashMap<EventId, _> = changed.into_iter().collect();
    let of = |text: String| {
        let outcome = EventId::parse(&text).ok().and_then(|id| changed.get(&id).copied());
        result(text, outcome.unwrap_or(Err(Unchanged::Missing(Missing::NotFound))))
    };
    texts.into_iter().map(of).collect()
}

fn result(event_id: String, outcome: Result<EventStatus, Unchanged>) -> AcknowledgeResult {
    let error = match outcome {
        Ok(status) => return AcknowledgeResult::Delivered { event_id, status },
        Err(Unchanged::Conflict) => conflict("the lease does not hold the event"),
        Err(Unchanged::Missing(why)) => missing(why),
    };
    AcknowledgeResult::Rejected { event_id, error: item_error(&error) }
}

fn conflict(message: &str) -> ApiError {
    ApiError::new(ErrorCode::Conflict, message)
}

/// Reads the body of an acknowledgement.
pub(in crate::api) fn acknowledgement(
    body: &[u8],
    ids_max: usize,
) -> Result<LeaseAcknowledgement, ApiError> {
    read::object(body, ["event_ids"], |[ids], faults| LeaseAcknowledgement {
        event_ids: ids_of(ids, ids_max, faults),
    })
}

/// Reads the body of a nack.
pub(in crate::api) fn nack(body: &[u8], ids_max: usize) -> Result<LeaseNack, ApiError> {
    let names = ["event_ids", "reason", "retry_after_seconds"];
    read::object(body, names, |[ids, reason, retry_after], faults| LeaseNack {
        event_ids: ids_of(ids, ids_max, faults),
        reason: bounded_reason(reason, faults),
        retry_after_seconds: retry_after_seconds(retry_after, faults),
    })
}

/// Reads the body of an extension.
pub(in crate::api) fn renewal(body: &[u8], ids_max: usize) -> Result<LeaseRenewal, ApiError> {
    let names = ["event_ids", "visibility_timeout_seconds"];
    read::object(body, names, |[ids, timeout], faults| {
        timeout.required(faults);
        LeaseRenewal {
            event_ids: ids_of(ids, ids_max, faults),
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
        error.details.into_iter().map(|detail| detail.field).collect()
    }

    #[test]
    fn ids_are_optional_and_bounded() {
        assert_eq!(acknowledgement(b"{}", 2).unwrap().event_ids, None);
        assert_eq!(acknowledgement(br#"{"event_ids":null}"#, 2).unwrap().event_ids, None);
        let two = acknowledgement(br#"{"event_ids":["a","b"]}"#, 2).unwrap().event_ids.unwrap();
        assert_eq!(two, ["a", "b"]);
        for bad in [
            r#"{"event_ids":[]}"#,
            r#"{"event_ids":"x"}"#,
            r#"{"event_ids":[1]}"#,
            r#"{"event_ids":["a","b","c"]}"#,
        ] {
            assert_eq!(fields(acknowledgement(bad.as_bytes(), 2).unwrap_err()), ["event_ids"]);
        }
    }

    #[test]
    fn all_faults_are_named() {
        let bad = br#"{"event_ids":[],"reason":1,"retry_after_seconds":86401}"#;
        let named = fields(nack(bad, 2).unwrap_err());
        assert_eq!(named, ["event_ids", "reason", "retry_after_seconds"]);
        let bad = fields(renewal(br#"{"event_ids":1}"#, 2).unwrap_err());
        assert_eq!(bad, ["visibility_timeout_seconds", "event_ids"]);
    }
}
