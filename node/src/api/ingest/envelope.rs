//! The API's own form of an event: `{event_type, payload, timestamp?}`.
//!
//! - `ENVELOPE-1`: all faults of an event are reported at once, each under its member's name.
//! - `ENVELOPE-2`: a payload over its limit is 413 whatever else is wrong, because correcting the
//!   rest would not help.
//!
//! Unknown members are ignored. CloudEvents share the checks of the three values.

use crate::http::body::members::{Member, members};
use crate::http::error::{ApiError, Faults};
use serde_json::value::RawValue;
use std::borrow::Cow;
use triggers_protocol::api::NewEvent;
use triggers_protocol::json::check_payload;
use triggers_protocol::{ErrorCode, EventType, Timestamp};

/// A checked event that borrows from the body, in whatever form it was sent.
#[derive(Debug)]
pub(in crate::api) struct Draft<'a> {
    pub(in crate::api) event: NewEvent<'a>,
    /// The identity of a CloudEvent.
    pub(super) identity: Option<CloudEventIdentity>,
}

impl<'a> From<NewEvent<'a>> for Draft<'a> {
    fn from(event: NewEvent<'a>) -> Self {
        Self { event, identity: None }
    }
}

/// The `source` and `id` of a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::api) struct CloudEventIdentity {
    pub(super) source: String,
    pub(super) id: String,
}

/// Reads one event.
///
/// # Errors
/// 400 that names every fault; 413 if the payload is too large.
pub(in crate::api) fn parse(
    text: &str,
    payload_bytes_max: usize,
) -> Result<NewEvent<'_>, ApiError> {
    let mut faults = Faults::default();
    let [event_type, timestamp, payload] =
        members(text, ["event_type", "timestamp", "payload"], &mut faults)?;
    let parsed_type = required_type(event_type, &mut faults);
    let parsed_timestamp = timestamp.parsed(&mut faults, Timestamp::parse);
    let payload = match payload.required(&mut faults).and(payload.raw) {
        Some(raw) => Some(checked_payload(payload.name, raw, payload_bytes_max, &mut faults)?),
        None => None,
    };
    event_of(parsed_type, payload.map(Cow::Borrowed), parsed_timestamp, faults)
}

/// The member as an event type; a fault if it is absent or not valid.
pub(super) fn required_type(member: Member<'_>, faults: &mut Faults) -> Option<EventType> {
    member.required(faults).and_then(|_| member.parsed(faults, EventType::parse))
}

/// Makes an event of its checked values.
///
/// # Errors
/// 400 that names the faults that were found.
pub(super) fn event_of<'a>(
    event_type: Option<EventType>,
    payload: Option<Cow<'a, RawValue>>,
    timestamp: Option<Timestamp>,
    faults: Faults,
) -> Result<NewEvent<'a>, ApiError> {
    let (Some(event_type), Some(payload), true) = (event_type, payload, faults.is_empty()) else {
        return Err(faults.into_error());
    };
    Ok(NewEvent { event_type, payload, timestamp })
}

/// Checks a payload; adds a fault if it is not an I-JSON object.
///
/// # Errors
/// 413 if it is over the limit.
pub(super) fn checked_payload<'a>(
    name: &str,
    raw: &'a RawValue,
    bytes_max: usize,
    faults: &mut Faults,
) -> Result<&'a RawValue, ApiError> {
    check_size(name, raw.get().as_bytes(), bytes_max)?;
    if let Err(reason) = check_payload(raw.get()) {
        faults.add(name, reason.0);
    }
    Ok(raw)
}

/// Checks the size of a payload's text: `ENVELOPE-2`.
///
/// # Errors
/// 413 if it is over the limit.
pub(super) fn check_size(name: &str, text: &[u8], bytes_max: usize) -> Result<(), ApiError> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    let message = format!("{name} must have at most {bytes_max} bytes, but has {}", text.len());
    Err(ApiError::new(ErrorCode::PayloadTooLarge, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn faults(text: &str) -> (ErrorCode, Vec<String>) {
        let error = parse(text, 100).unwrap_err();
        (error.code, error.details.into_iter().map(|detail| detail.field).collect())
    }

    #[test]
    fn a_good_event_is_read_as_sent() {
        let text = r#"{"x":1, "payload": { "a" : 1.0 } ,"event_type":"order.cr\u0065ated",
            "timestamp":"2026-01-01T01:00:00+01:00"}"#;
        let draft = parse(text, 100).unwrap();
        assert_eq!(draft.payload.get(), r#"{ "a" : 1.0 }"#);
        assert_eq!(draft.event_type.as_str(), "order.created");
        assert_eq!(draft.timestamp.unwrap().to_string(), "2026-01-01T00:00:00.000Z");
        assert_eq!(
            parse(r#"{"payload":{},"event_type":"a","timestamp":null}"#, 2).unwrap().timestamp,
            None
        );
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let all = vec!["event_type".to_owned(), "timestamp".to_owned(), "payload".to_owned()];
        assert_eq!(
            faults(r#"{"event_type":"a..b","timestamp":"never","payload":[]}"#),
            (ErrorCode::ValidationError, all.clone())
        );
        assert_eq!(
            faults(r#"{"event_type":1,"timestamp":{},"payload":null}"#),
            (ErrorCode::ValidationError, all.clone())
        );
        assert_eq!(faults("{}").1, [&all[..1], &all[2..]].concat());
        assert_eq!(faults(r#"{"event_type":"a","payload":{},"payload":{}}"#).1, ["payload"]);
        assert_eq!(faults(r#"{"event_type":"a","payload":{"x":1,"x":2}}"#).1, ["payload"]);
        assert_eq!(faults(r#"{"event_type":"\ud800","payload":{}}"#).1, ["event_type"]);
        let large = format!(r#"{{"payload":{{"a":"{}"}}}}"#, "x".repeat(100));
        assert_eq!(faults(&large).0, ErrorCode::PayloadTooLarge);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}|[\\{\\}\\[\\]\",:a\\\\ ]{0,40}") {
            let _ = parse(&text, 100);
        }
    }
}
