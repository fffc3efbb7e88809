//! `triggers events …`: what a partner or a consumer does with events, from a terminal.
//!
//! The arguments and the short commands are here; sending, listing, replaying and watching have a file each. Invariants:
//! nothing here acknowledges an event except `ack`; with `--json` what the node answered is printed as it came.
//!
//! It leases nothing: a consumer program uses the API or a client library.

use clap::{Args, Subcommand};
use serde_json::json;

use triggers_client::resources::{BatchOutcome, Event, EventStatus};
use triggers_client::{Call, Client};

use super::connection::{ConnectionArguments, Role};
use super::exit::CommandError;
use super::output;
use super::record::{self, Object};
use super::table::{Table, shortened};

mod list;
mod replay;
mod send;
mod tail;

/// Ids in one acknowledgement, at most.
const ACKNOWLEDGE_IDS_MAX: usize = 1_000;

/// `triggers events …`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct EventsArguments {
    /// How to reach the node.
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: EventsCommand,
}

/// The commands on events.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Send one event; it is durable when this returns
    Send(send::SendArguments),
    /// List the inbox, oldest first
    List(list::ListArguments),
    /// Show one event with its payload
    Show {
        /// The event's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Show the delivery attempts of one event
    Status {
        /// The event's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Acknowledge events: they count as delivered and leave the inbox
    #[command(
        after_help = "Example:\n  triggers events list --json | jq -r '.events[].event_id' | xargs triggers events ack"
    )]
    Ack {
        /// The events' ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Have failed or delivered events delivered again: by id, or all of a status
    Replay(replay::ReplayArguments),
    /// Delete one event for good
    Delete {
        /// The event's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Print events as they arrive, until Ctrl-C; acknowledges nothing
    Tail(tail::TailArguments),
}

/// Runs one command on events.
///
/// # Errors
/// What the node refused, or why it could not be reached.
pub async fn run(arguments: EventsArguments) -> Result<(), CommandError> {
    let client = arguments.connection.client(Role::Tenant)?;
    let json = arguments.connection.json;
    match arguments.command {
        EventsCommand::Send(arguments) => send::run(&client, &arguments, json).await,
        EventsCommand::List(arguments) => list::run(&client, &arguments, json).await,
        EventsCommand::Show { id } => show(&client, &id, json).await,
        EventsCommand::Status { id } => status(&client, &id, json).await,
        EventsCommand::Ack { ids } => acknowledge(&client, &ids, json).await,
        EventsCommand::Replay(arguments) => replay::run(&client, &arguments, json).await,
        EventsCommand::Delete { id } => delete(&client, &id, json).await,
        EventsCommand::Tail(arguments) => tail::run(&client, &arguments, json).await,
    }
}

async fn show(client: &Client, id: &str, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(Call::get(&["events", id])).await?;
    if json {
        return output::line(reply.text()?);
    }
    let object: Object = reply.decode()?;
    let event: Event = reply.decode()?;
    let plain: Object = object.into_iter().filter(|(name, _)| name != "payload").collect();
    output::line(&record::lines(&plain))?;
    if let Some(payload) = event.payload {
        // As sent, byte for byte: a number such as 1.0 stays as it was written.
        output::line("")?;
        output::line(payload.get())?;
    }
    Ok(())
}

async fn status(client: &Client, id: &str, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(Call::get(&["events", id, "status"])).await?;
    if json {
        return output::line(reply.text()?);
    }
    let status: EventStatus = reply.decode()?;
    output::line(&status_text(status))
}

fn status_text(status: EventStatus) -> String {
    let retries = if status.retry_count == 1 { "retry" } else { "retries" };
    let mut lines =
        vec![format!("{} is {}, {} {retries}", status.event_id, status.status, status.retry_count)];
    let times = [
        ("delivered", status.delivered_at),
        ("failed", status.failed_at),
        ("next attempt", status.next_retry_at),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            lines.push(format!("{name}: {time}"));
        }
    }
    if !status.attempts.is_empty() {
        let mut table = Table::new(["ATTEMPT", "STARTED", "FINISHED", "OUTCOME", "HTTP", "ERROR"]);
        for attempt in status.attempts {
            table.row([
                attempt.number.to_string(),
                attempt.started_at.unwrap_or_default(),
                attempt.finished_at.unwrap_or_default(),
                attempt.outcome.unwrap_or_default(),
                attempt.http_status.map(|status| status.to_string()).unwrap_or_default(),
                attempt.error.as_ref().map(record::text).unwrap_or_default(),
            ]);
        }
        lines.push(table.to_string());
    }
    lines.join("\n")
}

async fn acknowledge(client: &Client, ids: &[String], json: bool) -> Result<(), CommandError> {
    let mut failed = 0;
    let mut table = Table::new(["ID", "STATUS", "ERROR"]);
    for chunk in ids.chunks(ACKNOWLEDGE_IDS_MAX) {
        let call =
            Call::post(&["events", "acknowledge", "batch"]).json(&json!({ "event_ids": chunk }))?;
        let reply = client.execute(call).await?;
        let outcome: BatchOutcome = reply.decode()?;
        failed += outcome.failure_count;
        if json {
            output::line(reply.text()?)?;
        }
        for item in outcome.results {
            let error = item.error.as_ref().map(item_error).unwrap_or_default();
            table.row([item.event_id.unwrap_or_default(), item.status.unwrap_or_default(), error]);
        }
    }
    if !json {
        output::line(&table.to_string())?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(CommandError::Failed(format!(
            "{failed} of {} events were not acknowledged",
            ids.len()
        ))),
    }
}

fn item_error(error: &serde_json::Value) -> String {
    match (
        error.get("code").and_then(|code| code.as_str()),
        error.get("message").and_then(|text| text.as_str()),
    ) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => record::text(error),
    }
}

async fn delete(client: &Client, id: &str, json: bool) -> Result<(), CommandError> {
    client.execute(Call::delete(&["events", id])).await?;
    if json {
        output::json(&json!({ "event_id": id, "deleted": true }))
    } else {
        output::line(&format!("deleted {id}"))
    }
}

/// The columns of an event in a list.
const EVENT_COLUMNS: [&str; 6] = ["ID", "TYPE", "STATUS", "ACCEPTED", "ATTEMPTS", "PAYLOAD"];

fn event_cells(event: &Event) -> [String; 6] {
    [
        event.event_id.clone(),
        event.event_type.clone(),
        event.status.clone(),
        event.created_at.clone(),
        event.attempts.to_string(),
        event.payload.as_ref().map(|payload| shortened(payload.get(), 60)).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_shows_its_attempts() {
        let status: EventStatus = serde_json::from_str(
            r#"{"event_id":"e","status":"queued","retry_count":1,"next_retry_at":"2026-01-01T00:05:00.000Z","attempts":
            [{"number":1,"started_at":"2026-01-01T00:00:00.000Z","finished_at":null,"outcome":"failed","http_status":500,
            "error":"the endpoint answered 500"}]}"#,
        )
        .unwrap();
        let text = status_text(status);
        assert!(
            text.starts_with(
                "e is queued, 1 retry\nnext attempt: 2026-01-01T00:05:00.000Z\nATTEMPT"
            ),
            "{text}"
        );
        assert!(text.ends_with("500   the endpoint answered 500"), "{text}");
    }

    #[test]
    fn an_item_s_error_is_code_and_message() {
        assert_eq!(
            item_error(&json!({"code":"NOT_FOUND","message":"no such event"})),
            "NOT_FOUND: no such event"
        );
        assert_eq!(item_error(&json!("odd")), "odd");
    }
}
