//! `triggers events tail`: prints events as they arrive, until Ctrl-C.
//!
//! The command first follows the inbox cursor to the end. Then it polls every second, from the
//! acceptance time of the newest event it has printed. `Follower` decides what to ask and what is
//! new, without I/O.
//!
//! - TAIL-1: an event is printed once.
//! - TAIL-2: memory does not grow with the number of events. Ids grow within a tenant, so the
//!   newest id is enough.
//! - TAIL-3: nothing is acknowledged.
//!
//! An event that a consumer leases or acknowledges before the next poll is not shown. The command
//! waits for a node that does not answer; a rejected key ends it.

use super::super::exit::{CommandError, CommandResult};
use super::super::output;
use super::super::table::shortened;
use super::list::raw_events;
use clap::Args;
use std::time::Duration;
use triggers_client::{Client, Event, InboxPage, InboxQuery, Reply};
use triggers_protocol::{EventId, Timestamp};

/// Longest pause before asking again a node that does not answer, in seconds.
const PAUSE_SECONDS_MAX: u64 = 30;

/// Arguments of `triggers events tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers events tail
  triggers events tail --type 'order.*' --json | jq .payload

Events that a consumer takes before the next poll are not shown. With --json it is one event a \
line.")]
pub struct TailArguments {
    /// Only events of this type, exact or such as 'order.*'; repeatable
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Pause between two polls, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
}

/// What was printed, and therefore what to ask next.
#[derive(Debug, Default)]
struct Follower {
    cursor: Option<String>,
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    event_id: EventId,
    created_at: Timestamp,
}

impl Follower {
    fn query(&self, event_types: &[String]) -> InboxQuery {
        let from = self.newest.as_ref().map(|newest| newest.created_at);
        InboxQuery {
            limit: Some(200),
            cursor: self.cursor.clone(),
            from_timestamp: from.filter(|_| self.cursor.is_none()),
            event_types: event_types.to_vec(),
            ..InboxQuery::default()
        }
    }

    /// Whether the event is new. It counts as printed from now on.
    fn accept(&mut self, event: &Event) -> bool {
        if self.newest.as_ref().is_some_and(|newest| event.event_id <= newest.event_id) {
            return false;
        }
        self.newest = Some(Newest { event_id: event.event_id, created_at: event.created_at });
        true
    }

    /// Remembers where the page ended. Returns whether there is another page now.
    fn turn(&mut self, page: &InboxPage) -> bool {
        self.cursor = if page.has_more { page.cursor.clone() } else { None };
        self.cursor.is_some()
    }
}

pub(super) async fn run(client: &Client, arguments: &TailArguments, json: bool) -> CommandResult {
    output::note(&format!("watching the inbox of {}; Ctrl-C ends", client.base_url()));
    tokio::select! {
        result = follow(client, arguments, json) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow(client: &Client, arguments: &TailArguments, json: bool) -> CommandResult {
    let mut follower = Follower::default();
    let mut failures: u32 = 0;
    loop {
        let pause = match client.list_inbox(&follower.query(&arguments.event_types)).await {
            Ok(reply) => {
                failures = 0;
                let more = print(&mut follower, &reply, json)?;
                if more { Duration::ZERO } else { Duration::from_millis(arguments.interval_ms) }
            }
            Err(error) if error.is_temporary() => {
                let seconds = error.retry_after_seconds().unwrap_or(1 << failures.min(5));
                let seconds = seconds.clamp(1, PAUSE_SECONDS_MAX);
                output::note(&format!("{error}\ntrying again in {seconds} s"));
                failures += 1;
                Duration::from_secs(seconds)
            }
            Err(error) => return Err(error.into()),
        };
        tokio::time::sleep(pause).await;
    }
}

fn print(
    follower: &mut Follower,
    reply: &Reply<InboxPage>,
    json: bool,
) -> Result<bool, CommandError> {
    let page = reply.decode()?;
    for (event, raw) in page.events.iter().zip(raw_events(reply)?) {
        if !follower.accept(event) {
            continue;
        }
        if json {
            output::json_text(raw.get())?;
        } else {
            let Event { created_at, event_id, event_type, payload, .. } = event;
            let payload = payload.as_ref().map(|payload| shortened(payload.get(), 120));
            let payload = payload.unwrap_or_default();
            let text = format!("{created_at}  {event_id}  {event_type}  {payload}");
            output::line(&output::printable(&text))?;
        }
    }
    Ok(follower.turn(&page))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u8) -> Event {
        let text = format!(
            r#"{{"event_id":"019b76da-a800-7000-8000-00000000000{number}","event_type":"a",
            "timestamp":"2026-01-01T00:00:00Z","payload":{{}},"status":"received",
            "created_at":"2026-01-01T00:00:0{number}Z","attempts":0,"last_attempt_at":null,
            "next_retry_at":null,"delivered_at":null,"failed_at":null,"last_error":null,
            "metadata":{{"source_ip":"::1","user_agent":null,
            "api_version":"v1","correlation_id":"r","idempotency_key":null}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn page(cursor: &str, has_more: bool) -> InboxPage {
        let text = format!(
            r#"{{"events":[],"cursor":"{cursor}","has_more":{has_more},
            "pagination":{{"limit":1,"cursor":null,"has_more":false,"total_count":0}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_event_is_printed_once() {
        let mut follower = Follower::default();
        assert!(follower.accept(&event(1)));
        assert!(follower.accept(&event(2)));
        assert!(!follower.accept(&event(2)));
        assert!(!follower.accept(&event(1)));
        assert!(follower.accept(&event(3)));
    }

    #[test]
    fn the_cursor_comes_first_and_then_the_newest_time() {
        let mut follower = Follower::default();
        assert_eq!(follower.query(&[]).limit, Some(200));
        follower.accept(&event(1));
        assert!(follower.turn(&page("c", true)));
        let query = follower.query(&[]);
        assert_eq!((query.cursor.as_deref(), query.from_timestamp), (Some("c"), None));
        assert!(!follower.turn(&page("d", false)));
        let query = follower.query(&["order.created".to_owned()]);
        assert_eq!((query.cursor, query.from_timestamp), (None, Some(event(1).created_at)));
        assert_eq!(query.event_types, ["order.created"]);
    }
}
