//! The settings of a subscription: arguments, and the requests made from them.
//!
//! Only what the command line gives is sent, so an update leaves other settings unchanged. `null`
//! restores the tenant's own retries. The node's address has the flag `--url`, so the target's is
//! `--target-url`.

use super::super::exit::CommandError;
use super::super::record;
use clap::Args;
use triggers_client::api::{NewSubscription, SubscriptionPatch};
use triggers_protocol::webhook::{SignatureScheme, SigningKey};
use triggers_protocol::{EventTypePattern, Malformed, RetryPolicy};

/// Arguments of `triggers subscriptions create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers subscriptions create --target-url https://example.com/hooks
  SECRET=$(triggers subscriptions create --target-url https://example.com/hooks --type 'order.*' \
--type invoice.paid)
  triggers subscriptions create --target-url https://example.com/hooks --scheme ed25519 \
--retry-delays 10,60,300

What a receiver checks signatures with is printed alone on stdout: the secret (whsec_…), which is \
shown this once, or \
with ed25519 the public key (whpk_…).")]
pub struct CreateSubscriptionArguments {
    /// Where webhooks go
    #[arg(long, value_name = "URL")]
    target_url: String,
    /// Only events of this type, exact or such as 'order.*'; repeatable [default: everything]
    #[arg(long = "type", value_name = "PATTERN", value_parser = EventTypePattern::parse)]
    event_types: Vec<EventTypePattern>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The key to sign with, whsec_… or whsk_… [default: made by the node]
    #[arg(long, value_name = "KEY", value_parser = SigningKey::parse)]
    secret: Option<SigningKey>,
    /// How webhooks are signed [default: hmac-sha256]
    #[arg(long = "scheme", value_name = "SCHEME",
        value_parser = record::one_of::<SignatureScheme>(SCHEMES))]
    signature_scheme: Option<SignatureScheme>,
    /// Most webhooks in flight at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: Option<u32>,
    /// Seconds before each retry, such as 10,60,300; `none` for a single attempt [default: the
    /// tenant's]
    #[arg(long = "retry-delays", value_name = "SECONDS", value_parser = delays)]
    retry_policy: Option<RetryPolicy>,
}

/// The signature schemes.
const SCHEMES: [(&str, &str); 2] = [
    ("hmac-sha256", "A secret that both sides share"),
    ("ed25519", "A key pair, of which the receiver has the public half"),
];

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
    #[arg(long = "type", value_name = "PATTERN", value_parser = EventTypePattern::parse)]
    event_types: Vec<EventTypePattern>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Most webhooks in flight at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: Option<u32>,
    /// Seconds before each retry, such as 10,60,300; `none` for a single attempt
    #[arg(long, value_name = "SECONDS", value_parser = delays, conflicts_with = "default_retries")]
    retry_delays: Option<RetryPolicy>,
    /// Retry as the tenant's other subscriptions do
    #[arg(long)]
    default_retries: bool,
}

impl From<CreateSubscriptionArguments> for NewSubscription {
    fn from(arguments: CreateSubscriptionArguments) -> Self {
        Self {
            target_url: Some(arguments.target_url),
            event_types: given(&arguments.event_types),
            description: arguments.description,
            secret: arguments.secret,
            signature_scheme: arguments.signature_scheme,
            retry_policy: arguments.retry_policy,
            max_in_flight: arguments.max_in_flight,
            ..Self::default()
        }
    }
}

impl UpdateArguments {
    /// Makes the request.
    ///
    /// # Errors
    /// `CommandError::Usage` if it changes nothing.
    pub(super) fn patch(&self) -> Result<SubscriptionPatch, CommandError> {
        let retry_policy =
            if self.default_retries { Some(None) } else { self.retry_delays.clone().map(Some) };
        let patch = SubscriptionPatch {
            target_url: self.target_url.clone(),
            event_types: given(&self.event_types).map(Some),
            description: self.description.clone().map(Some),
            max_in_flight: self.max_in_flight.map(Some),
            retry_policy,
            ..SubscriptionPatch::default()
        };
        if patch == SubscriptionPatch::default() {
            let text = "nothing to change: give at least one setting";
            return Err(CommandError::Usage(text.to_owned()));
        }
        Ok(patch)
    }
}

/// The patterns, or `None` if none was given.
fn given(patterns: &[EventTypePattern]) -> Option<Vec<EventTypePattern>> {
    Some(patterns.to_vec()).filter(|patterns| !patterns.is_empty())
}

/// Reads `10,60,300`, or `none`.
fn delays(text: &str) -> Result<RetryPolicy, Malformed> {
    let numbers =
        text.split(',').filter(|_| text != "none").map(|number| number.trim().parse::<u32>());
    let expected = "must be whole seconds separated by commas, such as 10,60,300, or none";
    let delays_seconds = numbers.collect::<Result<Vec<_>, _>>();
    let delays_seconds = delays_seconds.map_err(|_| Malformed(expected.to_owned()))?;
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
        serde_json::to_string(&arguments.patch().unwrap()).unwrap()
    }

    #[test]
    fn a_new_subscription_is_sent_as_the_api_names_it() {
        let arguments = CreateSubscriptionArguments {
            target_url: "https://h/".to_owned(),
            event_types: vec![EventTypePattern::parse("a.*").unwrap()],
            description: None,
            secret: None,
            signature_scheme: Some(SignatureScheme::Ed25519),
            max_in_flight: None,
            retry_policy: Some(delays("10, 60").unwrap()),
        };
        let expected = concat!(
            r#"{"target_url":"https://h/","event_types":["a.*"],"signature_scheme":"ed25519","#,
            r#""retry_policy":{"delays_seconds":[10,60]}}"#
        );
        let body = NewSubscription::from(arguments);
        assert_eq!(serde_json::to_string(&body).unwrap(), expected);
    }

    #[test]
    fn an_update_sends_only_what_was_given() {
        let described = UpdateArguments { description: Some(String::new()), ..update() };
        assert_eq!(text(&described), r#"{"description":""}"#);
        let delayed = UpdateArguments { retry_delays: Some(delays("5").unwrap()), ..update() };
        assert_eq!(text(&delayed), r#"{"retry_policy":{"delays_seconds":[5]}}"#);
        let default = UpdateArguments { default_retries: true, ..update() };
        assert_eq!(text(&default), r#"{"retry_policy":null}"#);
        assert!(matches!(update().patch(), Err(CommandError::Usage(_))));
    }

    #[test]
    fn delays_are_whole_seconds() {
        assert_eq!(delays("none").unwrap(), RetryPolicy::Delays { delays_seconds: Vec::new() });
        for bad in ["", "1,", "-1", "1.5", "1;2", "none,1", "4294967296"] {
            assert!(delays(bad).is_err(), "{bad}");
        }
    }
}
