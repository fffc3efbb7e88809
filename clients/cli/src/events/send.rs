//! `triggers events send`: one event, from an argument, a file or stdin.
//!
//! The payload is sent byte for byte as given. The command checks only that it is a JSON object, to
//! explain the mistake. It does not repeat a failed call; an idempotency key makes repeating safe.

use super::super::exit::{CommandError, CommandResult};
use super::super::output;
use clap::Args;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Read as _;
use std::path::PathBuf;
use triggers_client::Client;
use triggers_client::api::NewEvent;
use triggers_protocol::{EventType, Timestamp};

/// Largest payload in bytes, as the node accepts it.
const PAYLOAD_BYTES_MAX: u64 = 1024 * 1024;

/// Arguments of `triggers events send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers events send --type order.created --payload '{\"order\":7}'
  triggers events send --type order.created --payload-file order.json --idempotency-key order-7
  jq -c .order input.json | triggers events send --type order.created -

Without a payload an empty object is sent. Repeating a command with the same idempotency key \
sends nothing twice.")]
pub struct SendArguments {
    /// Type of the event: dot-separated words, such as order.created
    #[arg(long = "type", value_name = "TYPE", value_parser = EventType::parse)]
    event_type: EventType,
    /// The payload, a JSON object
    #[arg(long, value_name = "JSON", conflicts_with_all = ["payload_file", "stdin"])]
    payload: Option<String>,
    /// A file with the payload; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "stdin")]
    payload_file: Option<PathBuf>,
    /// Write `-` to read the payload from stdin
    #[arg(value_name = "-", value_parser = ["-"])]
    stdin: Option<String>,
    /// A key under which the node accepts this event once (kept 24 h)
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// When it happened, RFC 3339 [default: the time of acceptance]
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    timestamp: Option<Timestamp>,
}

pub(super) async fn run(client: &Client, arguments: &SendArguments, json: bool) -> CommandResult {
    let body = NewEvent {
        event_type: arguments.event_type.clone(),
        payload: Cow::Owned(payload(arguments)?),
        timestamp: arguments.timestamp,
    };
    let reply = client.create_event(&body, arguments.idempotency_key.as_deref()).await?;
    if reply.is_replayed {
        output::note(
            "this idempotency key was used before: nothing new was sent, this is the first answer \
             again",
        );
    }
    if json {
        return output::json_text(reply.text()?);
    }
    output::line(&reply.decode()?.event_id.to_string())
}

fn payload(arguments: &SendArguments) -> Result<Box<RawValue>, CommandError> {
    let from_stdin = arguments.stdin.is_some()
        || arguments.payload_file.as_deref().is_some_and(|file| file.as_os_str() == "-");
    let (text, origin) = match (&arguments.payload, &arguments.payload_file) {
        (Some(text), _) => (text.clone(), "--payload".to_owned()),
        _ if from_stdin => (read(std::io::stdin().lock(), "stdin")?, "stdin".to_owned()),
        (None, Some(file)) => {
            let name = file.display().to_string();
            let opened = std::fs::File::open(file)
                .map_err(|error| CommandError::Usage(format!("cannot open {name}: {error}")))?;
            (read(opened, &name)?, name)
        }
        (None, None) => ("{}".to_owned(), "the default".to_owned()),
    };
    checked(text, &origin)
}

fn read(source: impl std::io::Read, name: &str) -> Result<String, CommandError> {
    let mut text = String::new();
    source.take(PAYLOAD_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| {
        CommandError::Usage(format!("cannot read the payload from {name}: {error}"))
    })?;
    if text.len() as u64 > PAYLOAD_BYTES_MAX {
        let text = format!("the payload from {name} is larger than {PAYLOAD_BYTES_MAX} bytes");
        return Err(CommandError::Usage(text));
    }
    Ok(text)
}

fn checked(text: String, origin: &str) -> Result<Box<RawValue>, CommandError> {
    let trimmed = text.trim();
    let payload = RawValue::from_string(trimmed.to_owned()).map_err(|error| {
        CommandError::Usage(format!("the payload from {origin} is not JSON: {error}"))
    })?;
    if !trimmed.starts_with('{') {
        return Err(CommandError::Usage(format!(
            "the payload from {origin} must be a JSON object, such as '{{\"n\":1}}'"
        )));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        let payload = checked(" {\"b\": 1.0,  \"a\":1e3}\n".to_owned(), "stdin").unwrap();
        assert_eq!(payload.get(), "{\"b\": 1.0,  \"a\":1e3}");
    }

    #[test]
    fn what_is_not_an_object_is_explained() {
        for (text, word) in
            [("[1]", "object"), ("{", "not JSON"), ("", "not JSON"), ("{} {}", "not JSON")]
        {
            let error = checked(text.to_owned(), "--payload").unwrap_err();
            assert!(error.to_string().contains(word), "{text}: {error}");
            assert_eq!(error.exit_code(), super::super::super::exit::USAGE);
        }
    }

    #[test]
    fn an_endless_input_is_not_read_to_its_end() {
        let error = read(std::io::repeat(b' '), "stdin").unwrap_err();
        assert!(error.to_string().contains("larger"), "{error}");
    }
}
