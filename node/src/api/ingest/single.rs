//! `POST /v1/events`: one event.
//!
//! - `SINGLE-1`: 201 means that the event is durable.
//! - `SINGLE-2`: a repeated idempotency key with the same event has the first response again, with
//!   the header `Idempotent-Replayed`.
//! - `SINGLE-3`: a rejected request leaves nothing behind.
//!
//! An array of CloudEvents is accepted here too, for senders that are configured with one address;
//! it is answered as a batch.

use super::append::{REPLAYED_HEADER, Sender, rejected};
use super::form::Form;
use super::idempotency::{self, Key};
use super::{batch, cloud_events, envelope};
use crate::api::event;
use crate::api::prelude::*;
use crate::http::body::{self, BodyLimits};
use axum::body::Body;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use triggers_actors::model::operations::{Accepted, Append, NewEvent};
use triggers_protocol::api::{self, CloudEvent, EventJson};

/// Maximum bytes of a single event's body beside its payload.
const ENVELOPE_BYTES_MAX: usize = 64 * 1024;
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Accept an event
///
/// 201 is answered once the event is durable. With an idempotency key the request can be repeated
/// safely for 24 hours. An array of CloudEvents is answered as a batch.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", operation_id = "createEvent",
    params(
        ("Idempotency-Key" = Option<String>, Header,
         description = "1 to 255 characters, bare or quoted; `X-Idempotency-Key` is the same",
         min_length = 1, max_length = 255),
        ("Prefer" = Option<String>, Header,
         description = "`return=minimal` leaves the payload out of the response"),
    ),
    request_body(
        description = "The event. A CloudEvent in binary mode has its attributes in `ce-` headers \
            and its data, of any content type, as the body.",
        content(
            (api::NewEvent<'static> = "application/json"),
            (CloudEvent<'static> = "application/cloudevents+json"),
            (Vec<CloudEvent<'static>> = "application/cloudevents-batch+json"),
        ),
    ),
    responses(
        (status = 201, description = "The event is durable", body = EventJson<'static>,
         headers(
             ("Location" = String, description = "The event's path"),
             ("Idempotent-Replayed" = String,
              description = "`true` if this is the first response again"),
             ("Preference-Applied" = String,
              description = "`return=minimal` if that was asked for"),
         )),
        (status = 409,
         description = "An event with this idempotency key is being accepted right now"),
        (status = 422, description = "The idempotency key was used with another event"),
    ),
    security(("api_key" = ["events:write"]), ("bearer" = ["events:write"])),
)]
pub(crate) async fn create_event(
    State(edge): State<EdgeState>,
    Authorized(caller, _): Authorized<EventsWrite>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let form = Form::of(&head.headers)?;
    if form == Form::CloudEvents {
        // Boxed, so that the future of every other request stays small.
        return Box::pin(batch::accept(&edge, &caller, &head.headers, body, form)).await;
    }
    let event = read_event(&edge, &caller, &head.headers, form, body).await?;
    let is_minimal = prefers_minimal(&head.headers);
    drop(head);
    let waiting_events_max = caller.key.tenant.max_inbox_events;
    let append = Append { events: vec![event], waiting_events_max };
    let mut results = edge.router.execute(&caller.tenant, append, edge.deadline()).await?;
    let result = results.pop().ok_or_else(|| ApiError::internal("the event has no result"))?;
    created(&result.map_err(rejected)?, is_minimal)
}

/// Reads and charges the event. The body is dropped here, so that the connection can reuse its
/// memory for the next request.
async fn read_event(
    edge: &EdgeState,
    caller: &Caller,
    headers: &HeaderMap,
    form: Form,
    body: Body,
) -> Result<NewEvent, ApiError> {
    edge.router.ensure_can_send()?;
    let header_key = idempotency::header_key(headers)?;
    let payload_bytes_max = edge.options.limits.payload_bytes_max;
    let reading = BodyLimits::up_to(payload_bytes_max + ENVELOPE_BYTES_MAX, edge)
        .of_tenant(&caller.tenant, edge);
    let body = body::read_decoded(headers, body, reading).await?;
    let mut draft = match form {
        Form::Json => envelope::parse(body::text(&body)?, payload_bytes_max)?.into(),
        Form::CloudEvent => cloud_events::structured(body::text(&body)?, payload_bytes_max)?,
        Form::BinaryCloudEvent => cloud_events::binary(headers, &body, payload_bytes_max)?,
        Form::Lines | Form::CloudEvents => {
            return Err(body::unsupported("application/x-ndjson is for POST /v1/events/batch"));
        }
    };
    caller.charge_events(1, edge.environment.monotonic())?;
    let key = header_key.map(Key::Sent).or_else(|| draft.identity.take().map(Key::CloudEvent));
    Ok(draft.into_new_event(&body, key, &Sender::of(caller, headers)))
}

fn created(accepted: &Accepted, is_minimal: bool) -> Result<Response, ApiError> {
    let event = &accepted.event;
    let json = if is_minimal { EventJson::minimal(event) } else { event::json(event)? };
    let mut response = respond(StatusCode::CREATED, &json, json.bytes_hint())?;
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/events/{}", event.id)) {
        headers.insert(LOCATION, location);
    }
    if is_minimal {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("return=minimal"));
    }
    if accepted.replayed {
        headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Whether the first `return` preference (RFC 7240) is `minimal`.
fn prefers_minimal(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = values.flat_map(|value| value.split(','));
    let mut returns = preferences.filter_map(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("return").then(|| value.trim().trim_matches('"'))
    });
    returns.next() == Some("minimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_return_preference_counts() {
        let prefers = |values: &[&'static str]| {
            let pair = |value: &&'static str| {
                (HeaderName::from_static("prefer"), HeaderValue::from_static(value))
            };
            let mut headers = HeaderMap::new();
            for (name, value) in values.iter().map(pair) {
                headers.append(name, value);
            }
            prefers_minimal(&headers)
        };
        for yes in [
            &["return=minimal"][..],
            &["wait=5, Return = \"minimal\"; x=1"],
            &["respond-async", "return=minimal"],
        ] {
            assert!(prefers(yes), "{yes:?}");
        }
        for no in [
            &[][..],
            &["return=representation"],
            &["minimal"],
            &["return=representation, return=minimal"],
        ] {
            assert!(!prefers(no), "{no:?}");
        }
    }
}
