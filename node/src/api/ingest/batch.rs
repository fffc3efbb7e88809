//! `POST /v1/events/batch`: many events in one request, each with a result of its own.
//!
//! The body is JSON `{"events": […]}`, NDJSON, or an array of CloudEvents.
//!
//! - `BATCH-REQUEST-1`: valid items are accepted in the order in which they were sent, whatever the
//!   other items are.
//! - `BATCH-REQUEST-2`: an item's index counts all items.
//! - `BATCH-REQUEST-3`: the idempotency key of item `i` is the batch's key with `i`; without one,
//!   the item's own.
//! - `BATCH-REQUEST-4`: event tokens are taken for all items before any is parsed.
//! - `NDJSON-1`: only a line feed ends a line of NDJSON, as JSON never has one unescaped. Blank
//!   lines, also those with a carriage return, are no items and have no index.

use super::append::{Sender, append};
use super::batch_answer;
use super::envelope::{CloudEventIdentity, Draft};
use super::form::Form;
use super::idempotency::{self, Key};
use super::{cloud_events, envelope};
use crate::api::prelude::*;
use crate::http::body::members::{items, members};
use crate::http::body::{self, BodyLimits};
use axum::body::Body;
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use triggers_actors::model::operations::Accepted;
use triggers_protocol::api::{BatchAnswer, CloudEvent, NewBatch};

/// Accept up to 1,000 events
///
/// Items succeed or fail one by one; the response tells each by its index. If no item succeeds the
/// whole request is an error. With an idempotency key, item `i` has the key `key/i`.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "events", operation_id = "createEvents",
    params(
        ("Idempotency-Key" = Option<String>, Header,
         description = "1 to 255 characters, bare or quoted; `X-Idempotency-Key` is the same",
         min_length = 1, max_length = 255),
    ),
    request_body(
        description = "The events; as `application/x-ndjson`, one a line.",
        content(
            (NewBatch<'static> = "application/json"),
            (String = "application/x-ndjson"),
            (Vec<CloudEvent<'static>> = "application/cloudevents-batch+json"),
        ),
    ),
    responses(
        (status = 201, description = "At least one event is durable", body = BatchAnswer),
        (status = 409,
         description = "An event with this idempotency key is being accepted right now"),
        (status = 422, description = "The idempotency key was used with another event"),
    ),
    security(("api_key" = ["events:write"]), ("bearer" = ["events:write"])),
)]
pub(crate) async fn create_events(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<EventsWrite>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let form = match Form::of_batch(&head.headers)? {
        Form::CloudEvent => {
            return Err(body::unsupported("application/cloudevents+json is for POST /v1/events"));
        }
        other => other,
    };
    accept(&edge, &caller, &head.headers, body, form).await
}

/// Accepts a batch in one of its forms.
///
/// # Errors
/// An error of the request itself; faults of items are in the results.
pub(super) async fn accept(
    edge: &EdgeState,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    form: Form,
) -> Result<Response, ApiError> {
    edge.router.ensure_can_send()?;
    let header_key = idempotency::header_key(headers)?;
    let limits = &edge.options.limits;
    let reading = BodyLimits::up_to(limits.batch_bytes_max, edge).of_tenant(&caller.tenant, edge);
    let body = body::read_decoded(headers, body, reading).await?;
    let items = items_of(&body, form, limits.batch_events_max)?;
    let count = items.len();
    caller.charge_events(count, edge.environment.monotonic())?;
    let drafts = items.into_iter().map(|item| parse(item, form, limits.payload_bytes_max));
    let mut outcomes = Vec::with_capacity(count);
    let mut events = Vec::with_capacity(count);
    let sender = Sender::of(caller, headers);
    for (index, draft) in drafts.enumerate() {
        outcomes.push(draft.map(|mut draft| {
            let key = key_of(header_key.as_deref(), index, draft.identity.take());
            events.push(draft.into_new_event(&body, key, &sender));
        }));
    }
    drop(body);
    let accepted =
        if events.is_empty() { Vec::new() } else { append(edge, caller, events).await? };
    batch_answer::answer(&merged(outcomes, accepted))
}

/// The idempotency key of an item: `BATCH-REQUEST-3`.
fn key_of(of_batch: Option<&str>, index: usize, own: Option<CloudEventIdentity>) -> Option<Key> {
    of_batch.map(|key| Key::Item(key.to_owned(), index)).or_else(|| own.map(Key::CloudEvent))
}

/// The outcome of every item: its own fault, or the outcome that the router reported for it.
fn merged(
    drafted: Vec<Result<(), ApiError>>,
    accepted: Vec<Result<Accepted, ApiError>>,
) -> Vec<Result<Accepted, ApiError>> {
    let mut accepted = accepted.into_iter();
    let too_few = || Err(ApiError::internal("the router gave too few outcomes"));
    let outcome =
        |draft: Result<(), _>| draft.and_then(|()| accepted.next().unwrap_or_else(too_few));
    drafted.into_iter().map(outcome).collect()
}

/// The texts of the items, not parsed.
fn items_of(body: &[u8], form: Form, events_max: usize) -> Result<Vec<&[u8]>, ApiError> {
    let (items, count) = if form == Form::Lines {
        lines(body, events_max)
    } else {
        let text = body::text(body)?;
        let (items, count) = if form == Form::CloudEvents {
            items(text, events_max)?
        } else {
            events_member(text, events_max)?
        };
        (items.into_iter().map(|item| item.get().as_bytes()).collect(), count)
    };
    if count == 0 {
        return Err(ApiError::validation("events", "must have at least one event"));
    }
    if count > events_max {
        return Err(ApiError::validation(
            "events",
            format!("must have at most {events_max} events, but has {count}"),
        ));
    }
    Ok(items)
}

/// The first `items_max` lines that are not blank, and the number of all such lines.
fn lines(body: &[u8], items_max: usize) -> (Vec<&[u8]>, usize) {
    let (mut kept, mut count) = (Vec::new(), 0);
    for line in
        body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
    {
        count += 1;
        if count <= items_max {
            kept.push(line);
        }
    }
    (kept, count)
}

/// Parses one item.
fn parse(item: &[u8], form: Form, payload_bytes_max: usize) -> Result<Draft<'_>, ApiError> {
    let text = body::text(item)?;
    if form == Form::CloudEvents {
        return cloud_events::structured(text, payload_bytes_max);
    }
    envelope::parse(text, payload_bytes_max).map(Draft::from)
}

/// The items of `{"events": […]}`.
fn events_member(text: &str, events_max: usize) -> Result<(Vec<&RawValue>, usize), ApiError> {
    let mut faults = Faults::default();
    let [events] = members(text, ["events"], &mut faults)?;
    let given = events.required(&mut faults);
    faults.check()?;
    items(given.unwrap_or_default(), events_max)
        .map_err(|_| ApiError::validation("events", "must be an array"))
}

/// Reads all items of a JSON body.
///
/// # Errors
/// The error of the body, or of its first faulty item.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::api) fn read(
    body: &[u8],
    payload_bytes_max: usize,
) -> Result<NewBatch<'_>, ApiError> {
    let items = items_of(body, Form::Json, 1_000)?.into_iter();
    let events = items.map(|item| Ok(parse(item, Form::Json, payload_bytes_max)?.event));
    Ok(NewBatch { events: events.collect::<Result<_, ApiError>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::tests::live::LiveEdge;
    use triggers_protocol::{ErrorCode, Scope, Scopes};

    fn codes(body: &str, form: Form) -> Result<Vec<Option<ErrorCode>>, ErrorCode> {
        let items = items_of(body.as_bytes(), form, 3).map_err(|error| error.code)?;
        Ok(items
            .into_iter()
            .map(|item| parse(item, form, 100).err().map(|error| error.code))
            .collect())
    }

    #[test]
    fn items_of_json_fail_one_by_one() {
        let body = r#"{"events":[{"event_type":"a","payload":{}},7,{"payload":{}}]}"#;
        let bad = Some(ErrorCode::ValidationError);
        assert_eq!(codes(body, Form::Json), Ok(vec![None, bad, bad]));
        for body in [
            "{}",
            r#"{"events":null}"#,
            r#"{"events":{}}"#,
            r#"{"events":[]}"#,
            r#"{"events":[1,2,3,4]}"#,
            "[]",
        ] {
            assert_eq!(codes(body, Form::Json), Err(ErrorCode::ValidationError), "{body}");
        }
        for body in ["", "[", r#"{"events":[}"#, r#"{"events":[]} x"#] {
            assert_eq!(codes(body, Form::Json), Err(ErrorCode::InvalidJson), "{body}");
        }
    }

    #[test]
    fn lines_and_cloud_events_are_items() {
        let lines = "{\"event_type\":\"a\",\"payload\":{}}\r\n\nnonsense\n";
        assert_eq!(codes(lines, Form::Lines), Ok(vec![None, Some(ErrorCode::InvalidJson)]));
        assert_eq!(codes("\n", Form::Lines), Err(ErrorCode::ValidationError));
        let event = r#"{"specversion":"1.0","id":"1","source":"/","type":"a","data":{}}"#;
        let body = format!("[{event},{{}}]");
        assert_eq!(
            codes(&body, Form::CloudEvents),
            Ok(vec![None, Some(ErrorCode::ValidationError)])
        );
        assert_eq!(codes(event, Form::CloudEvents), Err(ErrorCode::ValidationError));
    }

    #[test]
    fn the_key_of_the_batch_goes_before_an_items_own() {
        let identity = CloudEventIdentity { source: "/shop".into(), id: "1".into() };
        let own = || Some(identity.clone());
        assert_eq!(key_of(Some("k"), 3, own()), Some(Key::Item("k".into(), 3)), "BATCH-REQUEST-3");
        assert_eq!(key_of(None, 3, own()), own().map(Key::CloudEvent));
        assert_eq!(key_of(None, 3, None), None);
    }

    #[tokio::test]
    async fn bad_items_cost_as_much_as_good_ones() {
        let live = LiveEdge::start().await;
        let key = live.key("acme", Scopes::from_iter([Scope::EventsWrite])).await;
        let body = format!("{{\"events\":[{}]}}", vec!["0"; 1_000].join(","));
        assert_eq!(live.send("POST", "/v1/events/batch", &key, &body).await.status, 400);
        assert_eq!(
            live.send("POST", "/v1/events/batch", &key, &body).await.status,
            429,
            "BATCH-REQUEST-4"
        );
    }

    #[test]
    fn blank_lines_are_no_items() {
        assert_eq!(lines(b"", 9), (vec![], 0));
        assert_eq!(lines(b"\n\r\n  \n", 9), (vec![], 0));
        assert_eq!(lines(b"a\r\n\n b \nc", 2), (vec![&b"a"[..], b"b"], 3));
    }
}
