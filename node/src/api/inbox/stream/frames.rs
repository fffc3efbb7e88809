//! The text of a stream of Server-Sent Events.
//!
//! - `FRAMES-1`: an event is one frame with one `data` line. Line breaks between the tokens of a
//!   payload become spaces, which changes no value: those in strings are escaped.
//! - `FRAMES-2`: a frame is sent completely or not at all.

use crate::api::event_json;
use crate::http::error::ApiError;
use bytes::Bytes;
use triggers_protocol::Event;

/// The first bytes of every stream: a client that loses the connection returns after a second.
pub(super) const GREETING: Bytes = Bytes::from_static(b"retry: 1000\n\n");
/// The comment that shows that a silent stream is alive.
pub(super) const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// The frames of events, one after another.
///
/// # Errors
/// 500 if a stored payload is not JSON.
pub(super) fn frames(events: &[Event]) -> Result<Bytes, ApiError> {
    let jsons: Vec<_> = events.iter().map(event_json::complete).collect::<Result<_, _>>()?;
    let mut text = Vec::with_capacity(jsons.iter().map(|json| json.bytes_hint() + 80).sum());
    for (event, json) in events.iter().zip(&jsons) {
        text.extend_from_slice(format!("event: event\nid: {}\ndata: ", event.id).as_bytes());
        let begin = text.len();
        serde_json::to_writer(&mut text, json).map_err(ApiError::internal)?;
        for byte in &mut text[begin..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        text.extend_from_slice(b"\n\n");
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::event::EventState;
    use triggers_protocol::{EventId, EventType, Metadata, Timestamp};

    #[test]
    fn an_event_is_one_line_of_data() {
        let event = Event {
            id: EventId::parse("019b76da-a800-7000-8000-000000000001").unwrap(),
            event_type: EventType::parse("order.created").unwrap(),
            timestamp: Timestamp::parse("2026-01-01T00:00:00Z").unwrap(),
            payload: "{\r\n\"a\":\n\"\\n\"}".into(),
            metadata: std::sync::Arc::new(Metadata {
                source_ip: "::1".into(),
                user_agent: None,
                correlation_id: "r".into(),
                idempotency_key: None,
                trace_parent: None,
            }),
            state: EventState::ACCEPTED,
        };
        let text = frames(&[event.clone(), event]).unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        let frames: Vec<_> = text.split_terminator("\n\n").collect();
        assert_eq!(frames.len(), 2, "{text:?}");
        let lines: Vec<_> = frames[0].lines().collect();
        assert_eq!(lines[..2], ["event: event", "id: 019b76da-a800-7000-8000-000000000001"]);
        assert!(
            lines[2].starts_with("data: {\"event_id\":") && lines[2].contains(r#"{  "a": "\n"}"#),
            "{text:?}"
        );
        assert_eq!(lines.len(), 3);
    }
}
