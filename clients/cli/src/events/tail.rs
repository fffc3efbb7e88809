//! `triggers events tail`: prints events as they arrive, until Ctrl-C.
//!
//! First it follows the inbox cursor through what is there, then it looks again every second from the time of acceptance
//! of the newest event it has printed. `Follower` decides what to ask and what is new; it is a machine without I/O.
//! Invariants: TAIL-1 an event is printed once; TAIL-2 memory does not grow with the number of events (ids grow within a
//! tenant, so the newest id is all that must be remembered); TAIL-3 nothing is acknowledged.
//!
//! An event that a consumer leases or acknowledges before the next look is not seen: this is a window onto the inbox, not
//! a consumer. A node that is away for a moment is waited for; a refused key ends the command.

use std::time::Duration;

use clap::Args;

use triggers_client::resources::{Event, InboxPage};
use triggers_client::{Call, Client, Reply};

use super::super::exit::CommandError;
use super::super::output;
use super::super::table::shortened;
use super::list::decoded;

/// Longest pause between two looks at a node that does not answer, in seconds.
const PAUSE_SECONDS_MAX: u64 = 30;

/// Arguments of `triggers events tail`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers events tail
  triggers events tail --type 'order.*' --json | jq .payload

Events that a consumer takes before the next look are not shown. With --json it is one event a line.")]
pub struct TailArguments {
    /// Only events of this type, exact or such as 'order.*'; repeatable
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Pause between two looks, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
}

/// What has been seen, and therefore what to ask next.
#[derive(Debug, Default)]
struct Follower {
    cursor: Option<String>,
    newest: Option<Newest>,
}

#[derive(Debug)]
struct Newest {
    event_id: String,
    created_at: String,
}

impl Follower {
    fn call(&self, event_types: &[String]) -> Call {
        let from = self.newest.as_ref().map(|newest| newest.created_at.as_str());
        let mut call = Call::get(&["inbox"]).query("limit", "200");
        call = match &self.cursor {
            Some(cursor) => call.query("cursor", cursor),
            None => call.query_optional("from_timestamp", from),
        };
        for event_type in event_types {
            call = call.query("event_type", event_type);
        }
        call
    }

    /// Whether the event is new; it counts as seen from now on.
    fn accept(&mut self, event: &Event) -> bool {
        if self.newest.as_ref().is_some_and(|newest| event.event_id <= newest.event_id) {
            return false;
        }
        self.newest =
            Some(Newest { event_id: event.event_id.clone(), created_at: event.created_at.clone() });
        true
    }

    /// Takes note of where the page ended; true when there is another page now.
    fn turn(&mut self, page: &InboxPage) -> bool {
        self.cursor = if page.has_more { page.cursor.clone() } else { None };
        self.cursor.is_some()
    }
}

pub(super) async fn run(
    client: &Client,
    arguments: &TailArguments,
    json: bool,
) -> Result<(), CommandError> {
    output::note(&format!("watching the inbox of {}; Ctrl-C ends", client.base_url()));
    tokio::select! {
        result = follow(client, arguments, json) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn follow(
    client: &Client,
    arguments: &TailArguments,
    json: bool,
) -> Result<(), CommandError> {
    let mut follower = Follower::default();
    let mut failures: u32 = 0;
    loop {
        let pause = match client.execute(follower.call(&arguments.event_types)).await {
            Ok(reply) => {
                failures = 0;
                let more = print(&mut follower, &reply, json)?;
                if more { Duration::ZERO } else { Duration::from_millis(arguments.interval_ms) }
            }
            Err(error) if error.is_temporary() => {
                let seconds = error
                    .retry_after_seconds()
                    .unwrap_or(1 << failures.min(5))
                    .clamp(1, PAUSE_SECONDS_MAX);
                output::note(&format!("{error}\nlooking again in {seconds} s"));
                failures += 1;
                Duration::from_secs(seconds)
            }
            Err(error) => return Err(error.into()),
        };
        tokio::time::sleep(pause).await;
    }
}

fn print(follower: &mut Follower, reply: &Reply, json: bool) -> Result<bool, CommandError> {
    let page: InboxPage = reply.decode()?;
    for raw in &page.events {
        let event = decoded(reply, raw.get())?;
        if !follower.accept(&event) {
            continue;
        }
        if json {
            output::line(raw.get())?;
        } else {
            let payload = event
                .payload
                .as_ref()
                .map(|payload| shortened(payload.get(), 120))
                .unwrap_or_default();
            let text = format!(
                "{}  {}  {}  {payload}",
                event.created_at, event.event_id, event.event_type
            );
            output::line(&output::printable(&text))?;
        }
    }
    Ok(follower.turn(&page))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> Event {
        let text = format!(
            r#"{{"event_id":"{id}","event_type":"a","timestamp":"t","payload":{{}},"status":"received","created_at":"at-{id}"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn page(cursor: Option<&str>, has_more: bool) -> InboxPage {
        InboxPage {
            events: Vec::new(),
            cursor: cursor.map(str::to_owned),
            has_more,
            pagination: None,
        }
    }

    #[test]
    fn an_event_is_printed_once() {
        let mut follower = Follower::default();
        assert!(follower.accept(&event("1")));
        assert!(follower.accept(&event("2")));
        assert!(!follower.accept(&event("2")));
        assert!(!follower.accept(&event("1")));
        assert!(follower.accept(&event("3")));
    }

    #[test]
    fn the_cursor_comes_first_and_then_the_newest_time() {
        let mut follower = Follower::default();
        assert_eq!(follower.call(&[]).path_and_query(), "/v1/inbox?limit=200");
        follower.accept(&event("1"));
        assert!(follower.turn(&page(Some("c"), true)));
        assert_eq!(follower.call(&[]).path_and_query(), "/v1/inbox?limit=200&cursor=c");
        assert!(!follower.turn(&page(Some("d"), false)));
        let types = ["order.created".to_owned()];
        assert_eq!(
            follower.call(&types).path_and_query(),
            "/v1/inbox?limit=200&from_timestamp=at-1&event_type=order.created"
        );
    }
}
