//! The response to a batch: a list of results, or one error if no item was accepted.
//!
//! - `ANSWER-1`: if at least one item was accepted, the status is 201 and each item has a result.
//! - `ANSWER-2`: otherwise the response is an error that the client can act upon. If a later
//!   attempt could help for any item, the error says so. If not, it is the code that all items
//!   share, or 400 with the faults of each item by its index.

use super::append::REPLAYED_HEADER;
use crate::api::prelude::*;
use axum::http::HeaderValue;
use triggers_actors::model::operations::Accepted;
use triggers_protocol::ErrorCode;
use triggers_protocol::api::{BatchAnswer, BatchResult, Detail, ItemError};

/// Approximate bytes of one result.
const RESULT_BYTES: usize = 160;
/// Maximum faults in the error of a batch of which no item was accepted.
const DETAILS_MAX: usize = 1_000;

/// The error of an item, as its result shows it.
pub(crate) fn item_error(error: &ApiError) -> ItemError {
    ItemError {
        code: error.code.as_str().to_owned(),
        message: error.message.clone(),
        details: error.details.clone(),
    }
}

/// The response to a batch with these outcomes, at least one.
///
/// # Errors
/// `ANSWER-2`, if nothing was accepted.
pub(super) fn answer(outcomes: &[Result<Accepted, ApiError>]) -> Result<Response, ApiError> {
    let success_count = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    if success_count == 0 {
        let errors: Vec<&ApiError> =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        return Err(request_error(&errors));
    }
    let results = outcomes.iter().enumerate().map(|(index, outcome)| match outcome {
        Ok(Accepted { event, .. }) => BatchResult::Accepted {
            index,
            event_id: event.id,
            status: event.state.status,
            timestamp: event.timestamp,
        },
        Err(error) => BatchResult::Rejected { index, error: item_error(error) },
    });
    let failure_count = outcomes.len() - success_count;
    let answer = BatchAnswer { success_count, failure_count, results: results.collect() };
    let mut response = respond(StatusCode::CREATED, &answer, RESULT_BYTES * outcomes.len())?;
    if outcomes.iter().flatten().all(|accepted| accepted.replayed) {
        response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The error of a batch of which no item was accepted: `ANSWER-2`.
fn request_error(errors: &[&ApiError]) -> ApiError {
    let temporary =
        [ErrorCode::Unavailable, ErrorCode::TenantQuotaExceeded, ErrorCode::InternalError];
    let helped_by_time =
        temporary.iter().find_map(|code| errors.iter().find(|error| error.code == *code));
    if let Some(error) = helped_by_time {
        return (*error).clone();
    }
    let shared = errors
        .first()
        .map(|first| first.code)
        .filter(|code| errors.iter().all(|error| error.code == *code));
    let code =
        shared.filter(|code| *code != ErrorCode::InvalidJson).unwrap_or(ErrorCode::ValidationError);
    let details = errors
        .iter()
        .enumerate()
        .flat_map(|(index, error)| item_details(index, error))
        .take(DETAILS_MAX);
    let retry_after_seconds = errors.iter().filter_map(|error| error.retry_after_seconds).max();
    let message = match errors {
        [only] => format!("the only event was not accepted: {}", only.message),
        several => format!("none of the {} events was accepted", several.len()),
    };
    ApiError { details: details.collect(), retry_after_seconds, ..ApiError::new(code, message) }
}

/// The faults of one item, with its index in front.
fn item_details(index: usize, error: &ApiError) -> Vec<Detail> {
    let item = format!("events[{index}]");
    if error.details.is_empty() {
        return vec![Detail { field: item, message: error.message.clone() }];
    }
    let named = |detail: &Detail| match detail.field.as_str() {
        "body" => item.clone(),
        field => format!("{item}.{field}"),
    };
    error
        .details
        .iter()
        .map(|detail| Detail { field: named(detail), message: detail.message.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::event::EventState;
    use triggers_protocol::{Event, EventId, EventType, Timestamp};

    fn accepted(replayed: bool) -> Result<Accepted, ApiError> {
        let event = Event {
            id: EventId::ZERO,
            received_at: Timestamp::EPOCH,
            event_type: EventType::parse("a").unwrap(),
            timestamp: Timestamp::from_millis(0),
            payload: bytes::Bytes::from_static(b"{}"),
            metadata: std::sync::Arc::default(),
            state: EventState::ACCEPTED,
        };
        Ok(Accepted { event, replayed })
    }

    #[test]
    fn a_batch_is_a_replay_if_all_that_was_accepted_is() {
        let is_replay =
            |outcomes: &[_]| answer(outcomes).unwrap().headers().contains_key(REPLAYED_HEADER);
        let bad = || Err(ApiError::validation("payload", "is required"));
        assert!(is_replay(&[accepted(true), accepted(true)]));
        assert!(is_replay(&[accepted(true), bad()]), "the same bad item is as bad as before");
        assert!(!is_replay(&[accepted(true), accepted(false)]));
        assert!(!is_replay(&[accepted(false), bad()]));
    }

    fn error_of(errors: &[ApiError]) -> ApiError {
        request_error(&errors.iter().collect::<Vec<_>>())
    }

    #[test]
    fn faults_are_named_by_index() {
        let bad =
            ApiError::validation("payload", "is required").with_detail("event_type", "is required");
        let error = error_of(&[
            bad,
            ApiError::validation("body", "must be a JSON object"),
            ApiError::new(ErrorCode::InvalidJson, "no JSON"),
        ]);
        assert_eq!(error.code, ErrorCode::ValidationError);
        let fields: Vec<_> = error.details.iter().map(|detail| detail.field.as_str()).collect();
        assert_eq!(fields, ["events[0].payload", "events[0].event_type", "events[1]", "events[2]"]);
    }

    #[test]
    fn an_error_that_time_may_cure_comes_first() {
        let bad = || ApiError::validation("payload", "is required");
        let of = ApiError::new;
        assert_eq!(
            error_of(&[bad(), of(ErrorCode::TenantQuotaExceeded, "full")]).code,
            ErrorCode::TenantQuotaExceeded
        );
        let both = [of(ErrorCode::TenantQuotaExceeded, "full"), of(ErrorCode::Unavailable, "x")];
        assert_eq!(error_of(&both).code, ErrorCode::Unavailable);
        let reused =
            [of(ErrorCode::IdempotencyKeyReused, "x"), of(ErrorCode::IdempotencyKeyReused, "x")];
        assert_eq!(error_of(&reused).code, ErrorCode::IdempotencyKeyReused);
        assert_eq!(
            error_of(&[bad(), of(ErrorCode::PayloadTooLarge, "x")]).code,
            ErrorCode::ValidationError
        );
        assert_eq!(error_of(&[of(ErrorCode::InvalidJson, "x")]).code, ErrorCode::ValidationError);
    }
}
