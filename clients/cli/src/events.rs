//! `triggers events …`: what a sender or a consumer does with events, from a terminal.
//!
//! Only `ack` acknowledges events. With `--json` the node's answer is printed on one line. No
//! command leases events: a consumer program uses the API or the client library.

use super::connection::{ConnectionArguments, Role};
use super::exit::{CommandError, CommandResult};
use super::output;
use super::record::{self, Object};
use super::table::{Table, shortened};
use clap::{Args, Subcommand};
use serde_json::json;
use triggers_client::api::{AcknowledgeResult, Acknowledgements, DeliveryStatus, WebhookJson};
use triggers_client::{Client, Event};

mod list;
mod replay;
mod send;
mod tail;

/// Most ids in one request.
const ACKNOWLEDGE_IDS_MAX: usize = 1_000;

/// Arguments of `triggers events`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct EventsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
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
    Show(EventArgument),
    /// Show the delivery attempts of one event
    Status(EventArgument),
    /// Acknowledge events: they count as delivered and leave the inbox
    #[command(
        after_help = "Example:\n  triggers events list --json | jq -r '.events[].event_id' | \
         xargs triggers events ack"
    )]
    Ack {
        /// The events' ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// Have failed or delivered events delivered again: by id, or all of a status
    Replay(replay::ReplayArguments),
    /// Delete one event for good
    Delete(EventArgument),
    /// Print events as they arrive, until Ctrl-C; acknowledges nothing
    Tail(tail::TailArguments),
}

/// Argument of the commands on one event.
#[derive(Debug, Args)]
pub struct EventArgument {
    /// The event's id
    #[arg(value_name = "ID")]
    id: String,
}

/// Runs one command on events.
pub async fn run(arguments: EventsArguments) -> CommandResult {
    let client = arguments.connection.client(Role::Tenant)?;
    let json = arguments.connection.json;
    match arguments.command {
        EventsCommand::Send(arguments) => send::run(&client, &arguments, json).await,
        EventsCommand::List(arguments) => list::run(&client, &arguments, json).await,
        EventsCommand::Show(EventArgument { id }) => show(&client, &id, json).await,
        EventsCommand::Status(EventArgument { id }) => status(&client, &id, json).await,
        EventsCommand::Ack { ids } => acknowledge(&client, &ids, json).await,
        EventsCommand::Replay(arguments) => replay::run(&client, &arguments, json).await,
        EventsCommand::Delete(EventArgument { id }) => delete(&client, &id, json).await,
        EventsCommand::Tail(arguments) => tail::run(&client, &arguments, json).await,
    }
}

async fn show(client: &Client, id: &str, json: bool) -> CommandResult {
    let reply = client.get_event(id).await?;
    if json {
        return output::json_text(reply.text()?);
    }
    let object: Object = reply.decode_as()?;
    let event = reply.decode()?;
    let plain: Object = object.into_iter().filter(|(name, _)| name != "payload").collect();
    output::line(&record::lines(&plain))?;
    if let Some(payload) = event.payload {
        // Byte for byte as sent, so that a number such as 1.0 stays as written.
        output::line("")?;
        output::line(payload.get())?;
    }
    Ok(())
}

async fn status(client: &Client, id: &str, json: bool) -> CommandResult {
    let reply = client.get_event_status(id).await?;
    if json {
        return output::json_text(reply.text()?);
    }
    output::line(&status_text(reply.decode()?))
}

fn status_text(status: DeliveryStatus) -> String {
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
    for WebhookJson { subscription_id, status, .. } in status.webhooks {
        lines.push(format!("webhook to {subscription_id}: {}", record::cell(&status)));
    }
    if !status.attempts.is_empty() {
        let mut table = Table::new(["ATTEMPT", "STARTED", "FINISHED", "OUTCOME", "HTTP", "ERROR"]);
        for attempt in status.attempts {
            table.row([
                attempt.number.to_string(),
                attempt.started_at.to_string(),
                record::cell(&attempt.finished_at),
                record::cell(&attempt.outcome),
                record::cell(&attempt.http_status),
                record::cell(&attempt.error),
            ]);
        }
        lines.push(table.to_string());
    }
    lines.join("\n")
}

async fn acknowledge(client: &Client, ids: &[String], json: bool) -> CommandResult {
    let mut failed = 0;
    let mut table = Table::new(["ID", "STATUS", "ERROR"]);
    for chunk in ids.chunks(ACKNOWLEDGE_IDS_MAX) {
        let request = Acknowledgements { event_ids: chunk.to_vec() };
        let reply = client.acknowledge_events(&request).await?;
        let outcome = reply.decode()?;
        failed += outcome.failure_count;
        if json {
            output::json_text(reply.text()?)?;
        }
        for item in outcome.results {
            table.row(match item {
                AcknowledgeResult::Delivered { event_id, status } => {
                    [event_id, status.to_string(), String::new()]
                }
                AcknowledgeResult::Rejected { event_id, error } => {
                    [event_id, String::new(), format!("{}: {}", error.code, error.message)]
                }
            });
        }
    }
    if !json {
        output::line(&table.to_string())?;
    }
    if failed > 0 {
        let text = format!("{failed} of {} events were not acknowledged", ids.len());
        return Err(CommandError::Failed(text));
    }
    Ok(())
}

async fn delete(client: &Client, id: &str, json: bool) -> CommandResult {
    client.delete_event(id).await?;
    output::result(json, &json!({ "event_id": id, "deleted": true }), &format!("deleted {id}"))
}

/// The columns of an event in a list.
const EVENT_COLUMNS: [&str; 6] = ["ID", "TYPE", "STATUS", "ACCEPTED", "ATTEMPTS", "PAYLOAD"];

fn event_cells(event: &Event) -> [String; 6] {
    [
        event.event_id.to_string(),
        event.event_type.to_string(),
        event.status.to_string(),
        event.created_at.to_string(),
        event.attempts.to_string(),
        event.payload.as_ref().map(|payload| shortened(payload.get(), 60)).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_shows_its_attempts() {
        let status: DeliveryStatus = serde_json::from_str(
            r#"{"event_id":"019b76da-a800-7000-8000-000000000001","status":"queued","retry_count":1,
            "last_retry_at":null,"next_retry_at":"2026-01-01T00:05:00.000Z","delivered_at":null,
            "failed_at":null,"attempts":[{"number":1,"started_at":"2026-01-01T00:00:00.000Z",
            "finished_at":null,"outcome":"failed",
            "http_status":500,"error":"the endpoint answered 500","subscription_id":null}]}"#,
        )
        .unwrap();
        let text = status_text(status);
        assert!(
            text.starts_with(
                "019b76da-a800-7000-8000-000000000001 is queued, 1 retry\nnext attempt: \
                 2026-01-01T00:05:00.000Z\nATTEMPT"
            ),
            "{text}"
        );
        assert!(text.ends_with("500   the endpoint answered 500"), "{text}");
    }
}
