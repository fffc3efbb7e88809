//! `triggers events list`: one page of the inbox, or all of it by following the cursor.
//!
//! Invariant: a table is printed page by page, so memory is bounded by one page whatever the inbox holds. With `--json` one
//! page is the node's answer as it came; with `--all --json` it is one event a line.
//!
//! It changes nothing: events listed are not leased.

use clap::{Args, ValueEnum};

use triggers_client::resources::{Event, InboxPage};
use triggers_client::{Call, Client, ClientError, Reply};

use super::super::exit::CommandError;
use super::super::output;
use super::super::table::Table;
use super::{EVENT_COLUMNS, event_cells};

/// Arguments of `triggers events list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers events list
  triggers events list --status failed --type 'order.*' --type invoice.paid
  triggers events list --all --json | jq -r .event_id

With --json one page is printed as the node sent it; with --all --json it is one event a line.")]
pub struct ListArguments {
    /// Only events in this status
    #[arg(long, value_enum, value_name = "STATUS", default_value_t = StatusFilter::Received)]
    status: StatusFilter,
    /// Only events of this type, exact or such as 'order.*'; repeatable
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Events on a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Follow the cursor to the end
    #[arg(long)]
    all: bool,
    /// Begin where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// The statuses of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFilter {
    /// Waiting for a consumer.
    Received,
    /// Taken by a consumer, or waiting for the next attempt.
    Queued,
    /// Given up after the last attempt.
    Failed,
    /// Acknowledged.
    Delivered,
}

impl StatusFilter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Queued => "queued",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
        }
    }
}

pub(super) async fn run(
    client: &Client,
    arguments: &ListArguments,
    json: bool,
) -> Result<(), CommandError> {
    let mut cursor = arguments.cursor.clone();
    let mut listed = 0;
    loop {
        let reply = client.execute(call(arguments, cursor.as_deref())).await?;
        let page: InboxPage = reply.decode()?;
        listed += page.events.len();
        print(&reply, &page, arguments.all, json)?;
        if !arguments.all || !page.has_more || page.cursor.is_none() {
            if !json {
                note(&page, listed, arguments);
            }
            return Ok(());
        }
        cursor = page.cursor;
    }
}

fn call(arguments: &ListArguments, cursor: Option<&str>) -> Call {
    let mut call = Call::get(&["inbox"])
        .query("limit", &arguments.limit.to_string())
        .query("status", arguments.status.as_str())
        .query_optional("cursor", cursor);
    for event_type in &arguments.event_types {
        call = call.query("event_type", event_type);
    }
    call
}

fn print(reply: &Reply, page: &InboxPage, all: bool, json: bool) -> Result<(), CommandError> {
    match (json, all) {
        (true, false) => output::line(reply.text()?),
        (true, true) => page.events.iter().try_for_each(|event| output::line(event.get())),
        (false, _) => {
            let mut table = Table::new(EVENT_COLUMNS);
            for event in &page.events {
                table.row(event_cells(&decoded(reply, event.get())?));
            }
            if table.is_empty() { Ok(()) } else { output::line(&table.to_string()) }
        }
    }
}

/// Reads one event of a page.
pub(super) fn decoded(reply: &Reply, text: &str) -> Result<Event, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::Unexpected {
        url: reply.url.clone(),
        status: reply.status,
        reason: error.to_string(),
    })
}

fn note(page: &InboxPage, listed: usize, arguments: &ListArguments) {
    let total = page.pagination.as_ref().and_then(|pagination| pagination.total_count);
    let status = arguments.status.as_str();
    output::note(&match total {
        Some(total) if arguments.event_types.is_empty() => {
            format!("{listed} listed of {total} {status}")
        }
        Some(total) => format!("{listed} listed; {total} {status} of all types"),
        None => format!("{listed} listed"),
    });
    if let (true, Some(cursor)) = (page.has_more, &page.cursor) {
        output::note(&format!("more: --all, or --cursor {cursor}"));
    }
}
