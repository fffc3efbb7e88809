//! `triggers subscriptions …`: where a tenant's webhooks go, and how their delivery went.
//!
//! The key that a receiver checks signatures with is printed when the node shows it (created,
//! rotated), alone on stdout, so that a shell can put it into a variable. Everything else goes to
//! stderr. With `--json` the node's answer is printed unchanged. `triggers listen` receives
//! webhooks.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use triggers_client::api::{SecretRotation, Subscription, SubscriptionPatch, SubscriptionState};
use triggers_client::{Client, Reply};
use triggers_protocol::webhook::SigningKey;

use super::connection::{ConnectionArguments, Role};
use super::exit::CommandError;
use super::output;
use super::record::{self, Listing, Object};

mod attempts;
mod settings;

const COLUMNS: [&str; 8] = [
    "id",
    "target_url",
    "event_types",
    "status",
    "disabled_reason",
    "signature_scheme",
    "description",
    "created_at",
];

/// Arguments of `triggers subscriptions`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct SubscriptionsArguments {
    /// How to reach the node.
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// The command to run.
    #[command(subcommand)]
    pub command: SubscriptionsCommand,
}

/// The commands on subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Create a subscription; its secret is shown once
    Create(settings::CreateArguments),
    /// List the subscriptions, without their secrets
    List,
    /// Show one subscription
    Show {
        /// The subscription's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Change a subscription's settings
    Update(settings::UpdateArguments),
    /// Have webhooks sent again
    Enable {
        /// The subscription's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Have no more webhooks sent
    Disable {
        /// The subscription's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Delete a subscription for good
    Delete {
        /// The subscription's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Sign with a new key; for the grace period webhooks carry a signature of the old one, too
    Rotate(RotateArguments),
    /// Send one webhook now and show the outcome; exit code 1 if it did not arrive
    Test {
        /// The subscription's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List the attempts to send its webhooks
    Attempts(attempts::AttemptsArguments),
}

/// Arguments of `triggers subscriptions rotate`.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// The subscription's id
    #[arg(value_name = "ID")]
    id: String,
    /// How long the old key signs as well, in seconds [default: 86400]
    #[arg(long, value_name = "N")]
    grace_seconds: Option<u32>,
    /// The new key, whsec_… or whsk_… [default: made by the node]
    #[arg(long, value_name = "KEY", value_parser = SigningKey::parse)]
    secret: Option<SigningKey>,
}

/// Runs one command on subscriptions.
///
/// # Errors
/// The node's error, why it cannot be reached, or why a test did not arrive.
pub async fn run(arguments: SubscriptionsArguments) -> Result<(), CommandError> {
    let client = arguments.connection.client(Role::Tenant)?;
    let json = arguments.connection.json;
    match arguments.command {
        SubscriptionsCommand::Create(create) => {
            shown_once(&client.create_subscription(&create.into()).await?, json)
        }
        SubscriptionsCommand::List => list(&client, json).await,
        SubscriptionsCommand::Show { id } => shown(&client.get_subscription(id).await?, json),
        SubscriptionsCommand::Update(update) => {
            let patch = update.patch()?;
            shown(&client.update_subscription(&update.id, &patch).await?, json)
        }
        SubscriptionsCommand::Enable { id } => {
            set_state(&client, &id, SubscriptionState::Active, json).await
        }
        SubscriptionsCommand::Disable { id } => {
            set_state(&client, &id, SubscriptionState::Disabled, json).await
        }
        SubscriptionsCommand::Delete { id } => delete(&client, &id, json).await,
        SubscriptionsCommand::Rotate(rotate) => {
            let RotateArguments { id, grace_seconds, secret } = rotate;
            let rotation = SecretRotation { secret, grace_seconds };
            shown_once(&client.rotate_subscription_secret(id, &rotation).await?, json)
        }
        SubscriptionsCommand::Test { id } => attempts::test(&client, &id, json).await,
        SubscriptionsCommand::Attempts(arguments) => {
            attempts::list(&client, &arguments, json).await
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<(), CommandError> {
    let reply = client.list_subscriptions().await?;
    if json {
        return output::line(reply.text()?);
    }
    let rows = reply.decode_as::<Listing>()?.rows();
    if rows.is_empty() {
        output::note("no subscriptions");
        return Ok(());
    }
    output::line(&record::table(&rows, &COLUMNS).to_string())
}

async fn set_state(
    client: &Client,
    id: &str,
    state: SubscriptionState,
    json: bool,
) -> Result<(), CommandError> {
    let patch = SubscriptionPatch { status: Some(state), ..SubscriptionPatch::default() };
    shown(&client.update_subscription(id, &patch).await?, json)
}

fn shown(reply: &Reply<Subscription>, json: bool) -> Result<(), CommandError> {
    if json {
        return output::line(reply.text()?);
    }
    output::line(&record::lines(&reply.decode_as::<Object>()?))
}

fn shown_once(reply: &Reply<Subscription>, json: bool) -> Result<(), CommandError> {
    if json {
        return output::line(reply.text()?);
    }
    let mut object: Object = reply.decode_as()?;
    let key = take_key(&mut object);
    output::note(&record::lines(&object));
    match key {
        Some((name, key)) => {
            output::note(name);
            output::line(&output::printable(&key))
        }
        None => Ok(()),
    }
}

/// Removes the key that a receiver checks signatures with, and returns it with a caption.
fn take_key(subscription: &mut Object) -> Option<(&'static str, String)> {
    let names = [("secret", "the secret, shown this once:"), ("public_key", "the public key:")];
    names.into_iter().find_map(|(member, name)| match subscription.remove(member) {
        Some(Value::String(key)) => Some((name, key)),
        _ => None,
    })
}

async fn delete(client: &Client, id: &str, json: bool) -> Result<(), CommandError> {
    client.delete_subscription(id).await?;
    if json {
        output::json(&json!({ "id": id, "deleted": true }))
    } else {
        output::line(&format!("deleted {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<(&'static str, String)> {
        take_key(&mut serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_a_receiver_needs_is_found_in_both_schemes() {
        let secret = key(r#"{"id":"i","secret":"whsec_a","public_key":null}"#);
        assert_eq!(secret, Some(("the secret, shown this once:", "whsec_a".to_owned())));
        let public = key(r#"{"id":"i","public_key":"whpk_a"}"#);
        assert_eq!(public, Some(("the public key:", "whpk_a".to_owned())));
        assert_eq!(key(r#"{"id":"i"}"#), None);
    }
}
