//! `POST /v1/events/acknowledge/batch`: many acknowledgements in one request.
//!
//! - `ACK-1`: the response is 200 and has a result for each id, in the order of the request.
//! - `ACK-2`: an id that is not a UUID, or is another tenant's, is not found.

use crate::api::event_lookup::missing;
use crate::api::ingest::batch_answer::item_error;
use crate::http::authenticate::{Authorized, InboxAck};
use crate::http::body;
use crate::http::body::members::members;
use crate::http::edge::EdgeState;
use crate::http::error::{ApiError, Faults};
use crate::http::json::respond;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use triggers_actors::model::inbox::Missing;
use triggers_protocol::api::{AcknowledgeAnswer, AcknowledgeResult, Acknowledgements};
use triggers_protocol::{EventId, EventStatus};

/// Approximate bytes of one result.
const RESULT_BYTES: usize = 80;

/// Acknowledge up to 1,000 events
#[utoipa::path(
    post,
    path = "/v1/events/acknowledge/batch",
    tag = "inbox",
    operation_id = "acknowledgeEvents",
    request_body(content = Acknowledgements, content_type = "application/json"),
    responses((status = 200, description = "What became of each", body = AcknowledgeAnswer)),
    security(("api_key" = ["inbox:ack"]), ("bearer" = ["inbox:ack"])),
)]
pub(crate) async fn acknowledge_events(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<InboxAck>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let body = body::read_small_json(&head.headers, body, &edge).await?;
    let ids_max = edge.options.limits.batch_events_max;
    let Acknowledgements { event_ids } =
        acknowledgements(body.as_deref().unwrap_or_default(), ids_max)?;
    let parsed: Vec<_> = event_ids.iter().map(|text| EventId::parse(text).ok()).collect();
    let known: Vec<_> = parsed.iter().copied().flatten().collect();
    let results = if known.is_empty() {
        Vec::new()
    } else {
        edge.router.acknowledge_all(&caller.tenant, &known, edge.deadline()).await?
    };
    let mut results = results.into_iter();
    let outcomes: Vec<Result<EventStatus, ApiError>> = parsed
        .iter()
        .map(|id| id.and_then(|_| results.next()).unwrap_or(Err(Missing::NotFound)))
        .map(|result| result.map(|()| EventStatus::Delivered).map_err(missing))
        .collect();
    answer(event_ids, &outcomes)
}

fn answer(
    event_ids: Vec<String>,
    outcomes: &[Result<EventStatus, ApiError>],
) -> Result<Response, ApiError> {
    let success_count = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let count = event_ids.len();
    let results = event_ids.into_iter().zip(outcomes).map(|(event_id, outcome)| match outcome {
        Ok(status) => AcknowledgeResult::Delivered { event_id, status: *status },
        Err(error) => AcknowledgeResult::Rejected { event_id, error: item_error(error) },
    });
    let failure_count = outcomes.len() - success_count;
    let answer = AcknowledgeAnswer { success_count, failure_count, results: results.collect() };
    respond(StatusCode::OK, &answer, RESULT_BYTES * count + 64)
}

/// Reads the body of a request; it has 1 to `ids_max` ids.
///
/// # Errors
/// 400 that names every fault.
pub(in crate::api) fn acknowledgements(
    body: &[u8],
    ids_max: usize,
) -> Result<Acknowledgements, ApiError> {
    let mut faults = Faults::default();
    let [event_ids] = members(body::text(body)?, ["event_ids"], &mut faults)?;
    let given = event_ids.required(&mut faults);
    let ids: Option<Vec<String>> =
        given.and_then(|_| event_ids.decoded(&mut faults, "must be an array of strings"));
    match ids.as_ref().map(Vec::len) {
        Some(0) => faults.add("event_ids", "must have at least one id"),
        Some(count) if count > ids_max => {
            faults.add("event_ids", format!("must have at most {ids_max} ids, but has {count}"));
        }
        _ => {}
    }
    faults.check().map(|()| Acknowledgements { event_ids: ids.unwrap_or_default() })
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
