//! `triggers events replay`: has events delivered again, by id or by a filter.
//!
//! A filtered request replays some events and says where it stopped; the command then repeats it
//! from there. `Progress` decides whether and when, without I/O.
//!
//! - `REPLAY-COMMAND-1`: the command waits as long as the node asks, and at most `WAITS_MAX` times
//!   in a row without progress.
//! - `REPLAY-COMMAND-2`: an error says how many events were replayed before it.

use super::super::exit::{CommandError, CommandResult};
use super::super::output;
use super::super::record;
use clap::Args;
use serde_json::json;
use std::time::Duration;
use triggers_client::api::{InboxReplay, ReplayAnswer, ReplayedStatus};
use triggers_client::{Client, ClientError};
use triggers_protocol::{EventTypePattern, Timestamp};

/// Most waits in a row.
const WAITS_MAX: u32 = 100;
/// Longest wait, in seconds.
const PAUSE_SECONDS_MAX: u64 = 3_600;

/// Arguments of `triggers events replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers events replay 019b76da-a800-7000-8000-000000000001
  triggers events replay --status failed
  triggers events replay --status delivered --type 'order.*' --from 2026-01-01T00:00:00Z --to \
2026-01-02T00:00:00Z

Give ids or a status. The times are those of acceptance.")]
pub struct ReplayArguments {
    /// The events' ids
    #[arg(value_name = "ID", required_unless_present = "status",
        conflicts_with_all = ["status", "event_type", "from_timestamp", "to_timestamp", "cursor"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
}

/// What selects events.
#[derive(Debug, Clone, Args)]
pub struct FilterArguments {
    /// All events in this status
    #[arg(long, value_name = "STATUS", value_parser = record::one_of::<ReplayedStatus>(STATUSES))]
    status: Option<ReplayedStatus>,
    /// Only events of this type, exact or such as 'order.*'
    #[arg(long = "type", value_name = "PATTERN", requires = "status",
        value_parser = EventTypePattern::parse)]
    event_type: Option<EventTypePattern>,
    /// Only events from this time on, RFC 3339
    #[arg(long = "from", value_name = "TIME", requires = "status", value_parser = Timestamp::parse)]
    from_timestamp: Option<Timestamp>,
    /// Only events up to this time, RFC 3339
    #[arg(long = "to", value_name = "TIME", requires = "status", value_parser = Timestamp::parse)]
    to_timestamp: Option<Timestamp>,
    /// Go on where an earlier command was stopped
    #[arg(long, value_name = "CURSOR", requires = "status")]
    cursor: Option<String>,
}

/// The statuses that an event can be replayed from.
const STATUSES: [(&str, &str); 2] =
    [("failed", "Given up after the last attempt"), ("delivered", "Acknowledged")];

impl FilterArguments {
    fn selection(&self, status: ReplayedStatus) -> InboxReplay {
        let Self { event_type, from_timestamp, to_timestamp, cursor, .. } = self.clone();
        InboxReplay { status, event_type, from_timestamp, to_timestamp, cursor }
    }
}

/// The next step after an answer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Done,
    /// Ask again after so many seconds.
    After(u64),
    GiveUp,
}

/// The events replayed so far, and the waits since the last progress.
#[derive(Debug, Default)]
struct Progress {
    replayed: u64,
    waits: u32,
}

impl Progress {
    fn answered(&mut self, outcome: &ReplayAnswer) -> Next {
        self.replayed += outcome.replayed;
        match outcome {
            ReplayAnswer { has_more: false, .. } => Next::Done,
            ReplayAnswer { replayed: 0, .. } => self.wait(1),
            ReplayAnswer { .. } => {
                self.waits = 0;
                Next::After(0)
            }
        }
    }

    fn failed(&mut self, error: &ClientError) -> Next {
        match error {
            ClientError::Api(api) if matches!(api.status, 429 | 503) => {
                self.wait(api.retry_after_seconds.unwrap_or(1))
            }
            _ => Next::GiveUp,
        }
    }

    fn wait(&mut self, seconds: u64) -> Next {
        self.waits += 1;
        match self.waits {
            0..=WAITS_MAX => Next::After(seconds.clamp(1, PAUSE_SECONDS_MAX)),
            _ => Next::GiveUp,
        }
    }
}

pub(super) async fn run(client: &Client, arguments: &ReplayArguments, json: bool) -> CommandResult {
    match arguments.filter.status {
        Some(status) => selected(client, arguments.filter.selection(status), json).await,
        None => named(client, &arguments.ids, json).await,
    }
}

/// Replays one event after another. An error of one does not stop the others.
async fn named(client: &Client, ids: &[String], json: bool) -> CommandResult {
    let mut failed = 0;
    for id in ids {
        match client.replay_event(id).await {
            Ok(reply) if json => output::json_text(reply.text()?)?,
            Ok(_) => output::line(&format!("replayed {id}"))?,
            Err(error @ ClientError::Api(_)) if ids.len() > 1 => {
                failed += 1;
                output::note(&format!("{id}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if failed > 0 {
        let text = format!("{failed} of {} events were not replayed", ids.len());
        return Err(CommandError::Failed(text));
    }
    Ok(())
}

async fn selected(client: &Client, mut selection: InboxReplay, json: bool) -> CommandResult {
    let mut progress = Progress::default();
    loop {
        let (next, failure) = match client.replay_inbox(&selection).await {
            Ok(reply) => match reply.decode() {
                Ok(outcome) => {
                    selection.cursor = outcome.cursor.clone().or(selection.cursor);
                    (progress.answered(&outcome), None)
                }
                Err(error) => (Next::GiveUp, Some(error)),
            },
            Err(error) => (progress.failed(&error), Some(error)),
        };
        let replayed = progress.replayed;
        match next {
            Next::Done => {
                let text = format!("replayed {replayed} events");
                return output::result(json, &json!({ "replayed": replayed }), &text);
            }
            Next::GiveUp => return Err(given_up(replayed, selection.cursor.as_deref(), failure)),
            Next::After(0) => {}
            Next::After(seconds) => {
                output::note(&format!("replayed {replayed} so far; going on in {seconds} s"));
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
        }
    }
}

fn given_up(replayed: u64, cursor: Option<&str>, failure: Option<ClientError>) -> CommandError {
    if replayed > 0 {
        output::note(&format!("replayed {replayed} events before it ended"));
    }
    if let Some(cursor) = cursor {
        output::note(&format!("to go on: --cursor {}", output::printable(cursor)));
    }
    match failure {
        Some(error) => error.into(),
        None => {
            let text = "the node says that there are more events and replays none";
            CommandError::Failed(text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_client::ApiFailure;

    fn failure(status: u16, retry_after_seconds: Option<u64>) -> ClientError {
        ClientError::Api(Box::new(ApiFailure {
            status,
            code: "CODE".to_owned(),
            message: "message".to_owned(),
            details: Vec::new(),
            request_id: None,
            retry_after_seconds,
        }))
    }

    #[test]
    fn it_goes_on_until_there_is_no_more() {
        let mut progress = Progress::default();
        assert_eq!(
            progress.answered(&ReplayAnswer { replayed: 10_000, has_more: true, cursor: None }),
            Next::After(0)
        );
        assert_eq!(progress.failed(&failure(429, Some(7))), Next::After(7));
        assert_eq!(progress.failed(&failure(503, None)), Next::After(1));
        assert_eq!(progress.failed(&failure(503, Some(0))), Next::After(1));
        assert_eq!(
            progress.answered(&ReplayAnswer { replayed: 5, has_more: false, cursor: None }),
            Next::Done
        );
        assert_eq!(progress.replayed, 10_005);
    }

    #[test]
    fn waits_in_a_row_are_bounded() {
        let mut progress = Progress::default();
        for _ in 0..WAITS_MAX {
            assert_eq!(progress.failed(&failure(429, Some(1))), Next::After(1));
        }
        assert_eq!(
            progress.answered(&ReplayAnswer { replayed: 0, has_more: true, cursor: None }),
            Next::GiveUp
        );
        assert_eq!(
            progress.answered(&ReplayAnswer { replayed: 1, has_more: true, cursor: None }),
            Next::After(0)
        );
        assert_eq!(progress.failed(&failure(429, Some(1))), Next::After(1));
        assert_eq!(progress.failed(&failure(400, None)), Next::GiveUp);
    }
}
