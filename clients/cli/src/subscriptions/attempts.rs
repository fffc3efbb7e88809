//! What becomes of a subscription's webhooks: one that is sent now to try it, and the attempts so far.
//!
//! Invariant: a test that did not arrive is a failure of the command, with the reason, whatever is printed.
//!
//! It sends nothing itself: the node does, so that what is tried is the node's way to the endpoint.

use clap::Args;

use triggers_client::resources::{AttemptsPage, TestOutcome};
use triggers_client::{Call, Client};

use super::super::exit::CommandError;
use super::super::output;
use super::super::record;

const COLUMNS: [&str; 8] = [
    "event_id",
    "event_type",
    "number",
    "started_at",
    "finished_at",
    "outcome",
    "http_status",
    "error",
];

/// Arguments of `triggers subscriptions attempts`.
#[derive(Debug, Args)]
pub struct AttemptsArguments {
    /// The subscription's id
    #[arg(value_name = "ID")]
    id: String,
    /// Attempts on a page
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: Option<u16>,
    /// Begin where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub(super) async fn list(
    client: &Client,
    arguments: &AttemptsArguments,
    json: bool,
) -> Result<(), CommandError> {
    let limit = arguments.limit.map(|limit| limit.to_string());
    let call = Call::get(&["subscriptions", &arguments.id, "attempts"])
        .query_optional("limit", limit.as_deref())
        .query_optional("cursor", arguments.cursor.as_deref());
    let reply = client.execute(call).await?;
    if json {
        return output::line(reply.text()?);
    }
    let page: AttemptsPage = reply.decode()?;
    if page.attempts.is_empty() {
        output::note("no attempts");
    } else {
        output::line(&record::table(&page.attempts, &COLUMNS).to_string())?;
    }
    if let (true, Some(cursor)) = (page.has_more, &page.cursor) {
        output::note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}

pub(super) async fn test(client: &Client, id: &str, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(Call::post(&["subscriptions", id, "test"])).await?;
    let outcome: TestOutcome = reply.decode()?;
    if json {
        output::line(reply.text()?)?;
    }
    match (outcome.delivered, json) {
        (false, _) => Err(CommandError::Failed(outcome_text(&outcome))),
        (true, true) => Ok(()),
        (true, false) => output::line(&outcome_text(&outcome)),
    }
}

fn outcome_text(outcome: &TestOutcome) -> String {
    let word = if outcome.delivered { "delivered" } else { "not delivered" };
    let status = outcome.http_status.map(|status| format!("the endpoint answered {status}"));
    let reason = outcome.error.as_deref().map(output::printable).or(status);
    let reason = reason.unwrap_or_else(|| "the node gave no reason".to_owned());
    format!("{word}: {reason} ({} ms)", outcome.duration_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outcome: &str) -> String {
        outcome_text(&serde_json::from_str(outcome).unwrap())
    }

    #[test]
    fn an_outcome_is_told_with_its_reason() {
        assert_eq!(
            text(r#"{"delivered":true,"http_status":204,"error":null,"duration_ms":12}"#),
            "delivered: the endpoint answered 204 (12 ms)"
        );
        assert_eq!(
            text(
                r#"{"delivered":false,"http_status":null,"error":"no\nconnection","duration_ms":3}"#
            ),
            "not delivered: no\\nconnection (3 ms)"
        );
        assert_eq!(
            text(r#"{"delivered":false,"http_status":500,"error":null,"duration_ms":3}"#),
            "not delivered: the endpoint answered 500 (3 ms)"
        );
    }
}
