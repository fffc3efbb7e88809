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
    new_event(event_type, timestamp, payload, payload_bytes_max, faults)
}

/// Checks the three values that make an event.
pub(super) fn new_event<'a>(
    event_type: Member<'a>,
    timestamp: Member<'a>,
    payload: Member<'a>,
    payload_bytes_max: usize,
    mut faults: Faults,
) -> Result<NewEvent<'a>, ApiError> {
    let parsed_type = event_type
        .required(&mut faults)
        .and_then(|_| event_type.parsed(&mut faults, EventType::parse));
    let parsed_timestamp = timestamp
        .text(&mut faults)
        .and_then(|text| parsed_time(timestamp.name, &text, &mut faults));
    let payload = match payload.required(&mut faults).and(payload.raw) {
        Some(raw) => Some(checked_payload(payload.name, raw, payload_bytes_max, &mut faults)?),
        None => None,
    };
    match (parsed_type, payload) {
        (Some(event_type), Some(payload)) if faults.is_empty() => {
            let payload = Cow::Borrowed(payload);
            Ok(NewEvent { event_type, payload, timestamp: parsed_timestamp })
        }
        _ => Err(faults.into_error()),
    }
}

/// Parses a time; adds a fault if it is invalid.
pub(super) fn parsed_time(name: &str, text: &str, faults: &mut Faults) -> Option<Timestamp> {
    match Timestamp::parse(text) {
        Ok(time) => Some(time),
        Err(reason) => {
            faults.add(name, reason.0);
            None
        }
    }
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
    let text = raw.get();
    if text.len() > bytes_max {
        let message = format!("{name} must have at most {bytes_max} bytes, but has {}", text.len());
        return Err(ApiError::new(ErrorCode::PayloadTooLarge, message));
    }
    if let Err(reason) = check_payload(text) {
        faults.add(name, reason.0);
    }
    Ok(raw)
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
