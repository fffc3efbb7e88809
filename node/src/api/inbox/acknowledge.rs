//! `POST /v1/events/acknowledge/batch`: many acknowledgements in one request.
//!
//! - `ACK-1`: the response is 200 and has a result for each id, in the order of the request.
//! - `ACK-2`: an id that is not a UUID, or is another tenant's, is not found.

use crate::api::event::missing;
use crate::api::ingest::batch_answer::item_error;
use crate::api::prelude::*;
use crate::api::read;
use crate::http::body::members::Member;
use triggers_actors::model::inbox::Missing;
use triggers_protocol::api::{AcknowledgeAnswer, AcknowledgeResult, Acknowledgements};
use triggers_protocol::{EventId, EventStatus};

/// Approximate bytes of one result.
pub(super) const RESULT_BYTES: usize = 80;

/// Acknowledge up to 1,000 events
#[utoipa::path(
    post, path = "/v1/events/acknowledge/batch", tag = "inbox", operation_id = "acknowledgeEvents",
    request_body(content = Acknowledgements, content_type = "application/json"),
    responses((status = 200, description = "What became of each", body = AcknowledgeAnswer)),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn acknowledge_events(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = JsonBody::read(request, &edge).await?;
    let ids_max = edge.options.limits.batch_events_max;
    let Acknowledgements { event_ids } = acknowledgements(body.required(), ids_max)?;
    let parsed: Vec<_> = event_ids.iter().map(|text| EventId::parse(text).ok()).collect();
    let known: Vec<_> = parsed.iter().copied().flatten().collect();
    let results = if known.is_empty() {
        Vec::new()
    } else {
        edge.router.acknowledge_all(&caller.tenant, &known, edge.deadline()).await?
    };
    let mut results = results.into_iter();
    let answer_of = |(event_id, id): (_, Option<EventId>)| {
        let outcome = id.and_then(|_| results.next()).unwrap_or(Err(Missing::NotFound));
        match outcome.map_err(missing) {
            Ok(()) => AcknowledgeResult::Delivered { event_id, status: EventStatus::Delivered },
            Err(error) => AcknowledgeResult::Rejected { event_id, error: item_error(&error) },
        }
    };
    let results: Vec<_> = event_ids.into_iter().zip(parsed).map(answer_of).collect();
    let is_delivered = |result: &&_| matches!(result, AcknowledgeResult::Delivered { .. });
    let success_count = results.iter().filter(is_delivered).count();
    let failure_count = results.len() - success_count;
    let bytes_hint = RESULT_BYTES * results.len() + 64;
    let answer = AcknowledgeAnswer { success_count, failure_count, results };
    respond(StatusCode::OK, &answer, bytes_hint)
}

/// Reads the body of a request; it has 1 to `ids_max` ids.
pub(in crate::api) fn acknowledgements(
    body: &[u8],
    ids_max: usize,
) -> Result<Acknowledgements, ApiError> {
    read::object(body, ["event_ids"], |[member], faults| {
        member.required(faults);
        Acknowledgements { event_ids: ids_of(member, ids_max, faults).unwrap_or_default() }
    })
}

/// Reads a list of 1 to `ids_max` ids.
pub(super) fn ids_of(
    member: Member<'_>,
    ids_max: usize,
    faults: &mut Faults,
) -> Option<Vec<String>> {
    let ids: Option<Vec<String>> = member.decoded(faults, "must be an array of strings");
    let count = ids.as_ref().map(Vec::len);
    if count == Some(0) {
        faults.add(member.name, "must have at least one id");
    } else if let Some(count) = count.filter(|count| *count > ids_max) {
        faults.add(member.name, format!("must have at most {ids_max} ids, but has {count}"));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::ErrorCode;

    #[test]
    fn ids_are_one_to_as_many_as_allowed() {
        assert_eq!(
            acknowledgements(br#"{"event_ids":["a","b"]}"#, 2).unwrap().event_ids,
            ["a", "b"]
        );
        let bad = [
            "{}",
            r#"{"event_ids":[]}"#,
            r#"{"event_ids":"x"}"#,
            r#"{"event_ids":[1]}"#,
            r#"{"event_ids":["a","b","c"]}"#,
        ];
        for bad in bad {
            let error = acknowledgements(bad.as_bytes(), 2).unwrap_err();
            assert_eq!(
                (error.code, error.details[0].field.as_str()),
                (ErrorCode::ValidationError, "event_ids"),
                "{bad}"
            );
        }
        assert_eq!(acknowledgements(b"", 2).unwrap_err().code, ErrorCode::InvalidJson);
    }
}
