//! Tests a subscription with one webhook, and lists its delivery attempts.
//!
//! A test that does not arrive is a failure of the command, with the reason. The node sends the
//! webhook, so that the test uses the node's way to the endpoint.

use super::super::exit::{CommandError, CommandResult};
use super::super::output;
use super::super::record;
use clap::Args;
use triggers_client::api::SubscriptionTest;
use triggers_client::{AttemptsQuery, Client};

const COLUMNS: &str = "event_id event_type number started_at finished_at outcome http_status error";

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
) -> CommandResult {
    let query =
        AttemptsQuery { limit: arguments.limit.map(u32::from), cursor: arguments.cursor.clone() };
    let reply = client.list_subscription_attempts(&arguments.id, &query).await?;
    record::print_list(&reply, json, "attempts", COLUMNS)?;
    if json {
        return Ok(());
    }
    let page = reply.decode()?;
    if let (true, Some(cursor)) = (page.has_more, &page.cursor) {
        output::note(&format!("more: --cursor {cursor}"));
    }
    Ok(())
}

pub(super) async fn test(client: &Client, id: &str, json: bool) -> CommandResult {
    let reply = client.test_subscription(id).await?;
    let outcome = reply.decode()?;
    if json {
        output::json_text(reply.text()?)?;
    }
    match (outcome.delivered, json) {
        (false, _) => Err(CommandError::Failed(outcome_text(&outcome))),
        (true, true) => Ok(()),
        (true, false) => output::line(&outcome_text(&outcome)),
    }
}

fn outcome_text(outcome: &SubscriptionTest) -> String {
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
