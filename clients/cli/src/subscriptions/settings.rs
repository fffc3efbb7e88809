//! What a subscription is made of and what can be changed about it: the arguments, and the request bodies.
//!
//! Invariants: only what was given on the command line is sent, so that an update leaves the rest as it is; the tenant's
//! own retries are asked for by a `null`. The node's address has the flag `--url`, so that the target's is `--target-url`.
//!
//! It checks no URL and no pattern: which ones are taken is the node's decision.

use clap::{Args, ValueEnum};
use serde::Serialize;
use triggers_protocol::{Malformed, RetryPolicy};

use super::super::exit::CommandError;

/// Arguments of `triggers subscriptions create`, and the request body.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  triggers subscriptions create --target-url https://example.com/hooks
  SECRET=$(triggers subscriptions create --target-url https://example.com/hooks --type 'order.*' --type invoice.paid)
  triggers subscriptions create --target-url https://example.com/hooks --scheme ed25519 --retry-delays 10,60,300

What a receiver checks signatures with is printed alone on stdout: the secret (whsec_…), which is shown this once, or \
with ed25519 the public key (whpk_…).")]
pub struct CreateArguments {
    /// Where webhooks go
    #[arg(long, value_name = "URL")]
    target_url: String,
    /// Only events of this type, exact or such as 'order.*'; repeatable [default: everything]
    #[arg(long = "type", value_name = "PATTERN")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    event_types: Vec<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The key to sign with, whsec_… or whsk_… [default: made by the node]
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// How webhooks are signed [default: hmac-sha256]
    #[arg(long = "scheme", value_enum, value_name = "SCHEME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_scheme: Option<SchemeName>,
    /// Webhooks on their way at once, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    /// Seconds before each retry, such as 10,60,300; `none` for a single attempt [default: the tenant's]
    #[arg(long = "retry-delays", value_name = "SECONDS", value_parser = delays)]
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_policy: Option<RetryPolicy>,
}

/// The signature schemes as they are typed and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
pub enum SchemeName {
    /// A secret that both sides have
    #[value(name = "hmac-sha256")]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// A key pair, of which the receiver has the public half
    #[value(name = "ed25519")]
    #[serde(rename = "ed25519")]
    Ed25519,
}

/// Arguments of `triggers subscriptions update`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers subscriptions update ID --target-url https://example.com/v2/hooks
  triggers subscriptions update ID --type 'order.*' --retry-delays 10,60
  triggers subscriptions update ID --type '*' --default-retries

The types given replace those that were there; '*' is everything.")]
pub struct UpdateArguments {
    /// The subscription's id
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Where webhooks go from now on
    #[arg(long, value_name = "URL")]
    target_url: Option<String>,
    /// Only events of this type from now on, exact or such as 'order.*'; repeatable
    #[arg(long = "type", value_name = "PATTERN")]
    event_types: Vec<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Webhooks on their way at once, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: Option<u32>,
    /// Seconds before each retry, such as 10,60,300; `none` for a single attempt
    #[arg(long, value_name = "SECONDS", value_parser = delays, conflicts_with = "default_retries")]
    retry_delays: Option<RetryPolicy>,
    /// Retry as the tenant's other subscriptions do
    #[arg(long)]
    default_retries: bool,
}

/// Body of `PATCH /v1/subscriptions/{id}`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct ChangeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    target_url: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    event_types: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_policy: Option<Option<&'a RetryPolicy>>,
}

impl UpdateArguments {
    /// The request body.
    ///
    /// # Errors
    /// `CommandError::Usage` when nothing is to be changed.
    pub(super) fn body(&self) -> Result<ChangeBody<'_>, CommandError> {
        let retry_policy =
            if self.default_retries { Some(None) } else { self.retry_delays.as_ref().map(Some) };
        let body = ChangeBody {
            target_url: self.target_url.as_deref(),
            event_types: &self.event_types,
            description: self.description.as_deref(),
            max_in_flight: self.max_in_flight,
            retry_policy,
        };
        if body == ChangeBody::default() {
            return Err(CommandError::Usage(
                "nothing to change: give at least one setting".to_owned(),
            ));
        }
        Ok(body)
    }
}

/// Reads `10,60,300`, or `none`.
fn delays(text: &str) -> Result<RetryPolicy, Malformed> {
    let numbers =
        text.split(',').filter(|_| text != "none").map(|number| number.trim().parse::<u32>());
    let delays_seconds = numbers.collect::<Result<Vec<_>, _>>().map_err(|_| {
        Malformed(
            "must be whole seconds separated by commas, such as 10,60,300, or none".to_owned(),
        )
    })?;
    Ok(RetryPolicy::Delays { delays_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> UpdateArguments {
        UpdateArguments {
            id: "i".to_owned(),
            target_url: None,
            event_types: Vec::new(),
            description: None,
            max_in_flight: None,
            retry_delays: None,
            default_retries: false,
        }
    }

    fn text(arguments: &UpdateArguments) -> String {
        serde_json::to_string(&arguments.body().unwrap()).unwrap()
    }

    #[test]
    fn a_new_subscription_is_sent_as_the_api_names_it() {
        let arguments = CreateArguments {
            target_url: "https://h/".to_owned(),
            event_types: vec!["a.*".to_owned()],
            description: None,
            secret: None,
            signature_scheme: Some(SchemeName::Ed25519),
            max_in_flight: None,
            retry_policy: Some(delays("10, 60").unwrap()),
        };
        let expected = concat!(
            r#"{"target_url":"https://h/","event_types":["a.*"],"signature_scheme":"ed25519","#,
            r#""retry_policy":{"delays_seconds":[10,60]}}"#
        );
        assert_eq!(serde_json::to_string(&arguments).unwrap(), expected);
        assert_eq!(serde_json::to_string(&SchemeName::HmacSha256).unwrap(), r#""hmac-sha256""#);
    }

    #[test]
    fn an_update_sends_only_what_was_given() {
        let described = UpdateArguments { description: Some(String::new()), ..update() };
        assert_eq!(text(&described), r#"{"description":""}"#);
        let delayed = UpdateArguments { retry_delays: Some(delays("5").unwrap()), ..update() };
        assert_eq!(text(&delayed), r#"{"retry_policy":{"delays_seconds":[5]}}"#);
        let default = UpdateArguments { default_retries: true, ..update() };
        assert_eq!(text(&default), r#"{"retry_policy":null}"#);
        assert!(matches!(update().body(), Err(CommandError::Usage(_))));
    }

    #[test]
    fn delays_are_whole_seconds() {
        assert_eq!(delays("none").unwrap(), RetryPolicy::Delays { delays_seconds: Vec::new() });
        for bad in ["", "1,", "-1", "1.5", "1;2", "none,1", "4294967296"] {
            assert!(delays(bad).is_err(), "{bad}");
        }
    }
}
