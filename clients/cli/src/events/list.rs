//! `triggers events list`: one page of the inbox, or all pages.
//!
//! Tables are printed page by page, so memory is bounded by one page. With `--json` a page is one
//! line, as the node sent it; with `--all --json` each event is one line. Listing leases no events.

use super::super::exit::CommandResult;
use super::super::output;
use super::super::record;
use super::super::table::Table;
use super::{EVENT_COLUMNS, event_cells};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use triggers_client::{Client, ClientError, InboxPage, InboxQuery, Reply};
use triggers_protocol::EventStatus;

/// Arguments of `triggers events list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers events list
  triggers events list --status failed --type 'order.*' --type invoice.paid
  triggers events list --all --json | jq -r .event_id

With --json a page is one line, as the node sent it; with --all --json it is one event a line.")]
pub struct ListArguments {
    /// Only events in this status
    #[arg(long, value_name = "STATUS", default_value = "received",
        value_parser = record::one_of::<EventStatus>(STATUSES))]
    status: EventStatus,
    /// Only events of this type, exact or such as 'order.*'; repeatable
    #[arg(long = "type", value_name = "TYPE")]
    event_types: Vec<String>,
    /// Events on a page
    #[arg(long, value_name = "N", default_value_t = 50,
        value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Follow the cursor to the end
    #[arg(long)]
    all: bool,
    /// Begin where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// The statuses of an event.
const STATUSES: [(&str, &str); 4] = [
    ("received", "Waiting for a consumer"),
    ("queued", "Leased, being pushed, or waiting for the next attempt"),
    ("failed", "Given up after the last attempt"),
    ("delivered", "Acknowledged"),
];

/// The events of a page as the node wrote them.
#[derive(Deserialize)]
struct RawPage {
    events: Vec<Box<RawValue>>,
}

pub(super) async fn run(client: &Client, arguments: &ListArguments, json: bool) -> CommandResult {
    let mut query = InboxQuery {
        limit: Some(arguments.limit.into()),
        status: Some(arguments.status),
        cursor: arguments.cursor.clone(),
        event_types: arguments.event_types.clone(),
        ..InboxQuery::default()
    };
    let mut listed = 0;
    loop {
        let reply = client.list_inbox(&query).await?;
        let page = reply.decode()?;
        listed += page.events.len();
        print(&reply, &page, arguments.all, json)?;
        if !arguments.all || !page.has_more || page.cursor.is_none() {
            if !json {
                note(&page, listed, arguments);
            }
            return Ok(());
        }
        query.cursor = page.cursor;
    }
}

fn print(reply: &Reply<InboxPage>, page: &InboxPage, all: bool, json: bool) -> CommandResult {
    match (json, all) {
        (true, false) => output::json_text(reply.text()?),
        (true, true) => {
            raw_events(reply)?.iter().try_for_each(|event| output::json_text(event.get()))
        }
        (false, _) => {
            let mut table = Table::new(EVENT_COLUMNS);
            for event in &page.events {
                table.row(event_cells(event));
            }
            if table.is_empty() { Ok(()) } else { output::line(&table.to_string()) }
        }
    }
}

/// The events of a page as the node sent them.
pub(super) fn raw_events(reply: &Reply<InboxPage>) -> Result<Vec<Box<RawValue>>, ClientError> {
    Ok(reply.decode_as::<RawPage>()?.events)
}

fn note(page: &InboxPage, listed: usize, arguments: &ListArguments) {
    let total = page.pagination.total_count;
    let status = arguments.status;
    output::note(&match arguments.event_types.is_empty() {
        true => format!("{listed} listed of {total} {status}"),
        false => format!("{listed} listed; {total} {status} of all types"),
    });
    if let (true, Some(cursor)) = (page.has_more, &page.cursor) {
        output::note(&format!("more: --all, or --cursor {cursor}"));
    }
}
