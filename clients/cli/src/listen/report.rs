//! Prints one webhook on one line: for people with a shortened payload, for machines as a JSON
//! object.
//!
//! Text from elsewhere can neither control the terminal nor break the line. For machines the event
//! is the sender's own JSON, with line ends replaced by blanks and control characters by escapes.

use super::super::exit::CommandResult;
use super::super::output;
use super::super::table::shortened;
use super::receiver::{Received, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use triggers_protocol::Timestamp;

/// Most characters shown of a payload.
const PAYLOAD_CHARACTERS: usize = 120;
/// Most characters shown of any other text.
const NAME_CHARACTERS: usize = 128;

/// The members of an event that are shown.
#[derive(Debug, Default, Deserialize)]
struct Shown<'a> {
    event_type: Option<String>,
    attempts: Option<u64>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// A webhook as JSON for machines.
#[derive(Debug, Serialize)]
struct Line<'a> {
    received_at: Timestamp,
    webhook_id: Option<&'a str>,
    timestamp: Option<&'a str>,
    verified: Option<bool>,
    reason: Option<&'a str>,
    repeat: bool,
    event: Option<Box<RawValue>>,
}

/// Prints one webhook on one line.
pub(super) fn print(webhook: &Received, json: bool) -> CommandResult {
    if json { output::json(&object(webhook)) } else { output::line(&line(webhook)) }
}

fn line(webhook: &Received) -> String {
    let shown: Shown<'_> = serde_json::from_slice(&webhook.body).unwrap_or_default();
    let name = |text: Option<&str>| shortened(text.unwrap_or("-"), NAME_CHARACTERS);
    let mut cells = vec![
        webhook.at.to_string(),
        name(webhook.id.as_deref()),
        name(shown.event_type.as_deref()),
    ];
    cells.extend(shown.attempts.map(|number| format!("attempt {number}")));
    cells.push(match &webhook.verdict {
        Verdict::Good => "signature good".to_owned(),
        Verdict::Bad(reason) => format!("signature BAD: {reason}"),
        Verdict::Unchecked => "signature unchecked".to_owned(),
    });
    cells.extend(webhook.repeat.then(|| "repeat".to_owned()));
    cells.push(match shown.payload {
        Some(payload) => shortened(payload.get(), PAYLOAD_CHARACTERS),
        None => shortened(&String::from_utf8_lossy(&webhook.body), PAYLOAD_CHARACTERS),
    });
    output::printable(&cells.join("  "))
}

fn object(webhook: &Received) -> Line<'_> {
    let (verified, reason) = match &webhook.verdict {
        Verdict::Good => (Some(true), None),
        Verdict::Bad(reason) => (Some(false), Some(reason.as_str())),
        Verdict::Unchecked => (None, None),
    };
    Line {
        received_at: webhook.at,
        webhook_id: webhook.id.as_deref(),
        timestamp: webhook.timestamp.as_deref(),
        verified,
        reason,
        repeat: webhook.repeat,
        event: event(&webhook.body),
    }
}

/// The body as JSON on one line, if it is JSON.
fn event(body: &[u8]) -> Option<Box<RawValue>> {
    let sent: &RawValue = serde_json::from_slice(body).ok()?;
    RawValue::from_string(output::on_one_line(sent.get())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(verdict: Verdict, body: &'static str) -> Received {
        Received {
            at: Timestamp::from_millis(0),
            id: Some("i".to_owned()),
            timestamp: Some("0".to_owned()),
            verdict,
            repeat: false,
            body: body.into(),
        }
    }

    fn json(webhook: &Received) -> String {
        serde_json::to_string(&object(webhook)).unwrap()
    }

    #[test]
    fn a_line_says_what_came_and_what_it_is_worth() {
        let event = r#"{"event_id":"e","event_type":"a.b","attempts":2,"payload":{"n":1.0}}"#;
        let start = "1970-01-01T00:00:00.000Z  i  a.b  attempt 2  signature";
        assert_eq!(line(&webhook(Verdict::Good, event)), format!(r#"{start} good  {{"n":1.0}}"#));
        let bad = Verdict::Bad("why".to_owned());
        assert_eq!(line(&webhook(bad, event)), format!(r#"{start} BAD: why  {{"n":1.0}}"#));
        let repeat = Received { repeat: true, ..webhook(Verdict::Unchecked, event) };
        assert_eq!(line(&repeat), format!(r#"{start} unchecked  repeat  {{"n":1.0}}"#));
    }

    #[test]
    fn what_is_no_event_cannot_break_the_line() {
        let strange = Received { id: None, ..webhook(Verdict::Unchecked, "a\n\x1b[2Jb") };
        assert_eq!(
            line(&strange),
            "1970-01-01T00:00:00.000Z  -  -  signature unchecked  a\\n\\u{1b}[2Jb"
        );
        let expected = concat!(
            r#"{"received_at":"1970-01-01T00:00:00.000Z","webhook_id":null,"timestamp":"0","#,
            r#""verified":null,"reason":null,"repeat":false,"event":null}"#
        );
        assert_eq!(json(&strange), expected);
    }

    #[test]
    fn machines_get_the_event_as_it_was_sent() {
        let text =
            json(&webhook(Verdict::Bad("why".to_owned()), "{\r\n  \"b\": 1.0,\n\"a\": 1e3}"));
        assert!(text.ends_with(r#""event":{    "b": 1.0, "a": 1e3}}"#), "{text}");
        let obeyed = json(&webhook(Verdict::Unchecked, "{\"a\":\"\u{9b}2J\u{7f}ü\"}"));
        assert!(obeyed.ends_with(r#""event":{"a":"\u009b2J\u007fü"}}"#), "{obeyed}");
        assert!(text.contains(r#""verified":false,"reason":"why""#), "{text}");
        let good = json(&webhook(Verdict::Good, "{}"));
        assert!(good.contains(r#""verified":true,"reason":null"#), "{good}");
    }
}
