//! `triggers subscriptions …`: where a tenant's webhooks go, and what became of them.
//!
//! Invariants: what signatures are checked with is printed when the node shows it (created, rotated), alone on stdout, so
//! that it can be put into a variable; what surrounds it goes to stderr; with `--json` the node's answer is printed as it
//! came.
//!
//! It receives no webhooks; see `cli::listen`.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use triggers_client::{Call, Client, Reply};

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

/// `triggers subscriptions …`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct SubscriptionsArguments {
    /// How to reach the node.
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// What to do.
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
    /// Send one webhook now and say what became of it; exit code 1 if it did not arrive
    Test {
        /// The subscription's id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// List the attempts to send its webhooks
    Attempts(attempts::AttemptsArguments),
}

/// Arguments of `triggers subscriptions rotate`, and the request body.
#[derive(Debug, Args, Serialize)]
pub struct RotateArguments {
    /// The subscription's id
    #[arg(value_name = "ID")]
    #[serde(skip)]
    id: String,
    /// How long the old key signs as well, in seconds [default: 86400]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u64>,
    /// The new key, whsec_… or whsk_… [default: made by the node]
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Runs one command on subscriptions.
///
/// # Errors
/// What the node refused, why it could not be reached, or why a test did not arrive.
pub async fn run(arguments: SubscriptionsArguments) -> Result<(), CommandError> {
    let client = arguments.connection.client(Role::Tenant)?;
    let json = arguments.connection.json;
    match arguments.command {
        SubscriptionsCommand::Create(create) => {
            let call = Call::post(&["subscriptions"]).json(&create)?;
            shown_once(&client.execute(call).await?, json)
        }
        SubscriptionsCommand::List => list(&client, json).await,
        SubscriptionsCommand::Show { id } => {
            shown(&client, Call::get(&["subscriptions", &id]), json).await
        }
        SubscriptionsCommand::Update(update) => {
            let call = Call::patch(&["subscriptions", &update.id]).json(&update.body()?)?;
            shown(&client, call, json).await
        }
        SubscriptionsCommand::Enable { id } => set_status(&client, &id, "active", json).await,
        SubscriptionsCommand::Disable { id } => set_status(&client, &id, "disabled", json).await,
        SubscriptionsCommand::Delete { id } => delete(&client, &id, json).await,
        SubscriptionsCommand::Rotate(rotate) => {
            let call = Call::post(&["subscriptions", &rotate.id, "rotate"]).json(&rotate)?;
            shown_once(&client.execute(call).await?, json)
        }
        SubscriptionsCommand::Test { id } => attempts::test(&client, &id, json).await,
        SubscriptionsCommand::Attempts(arguments) => {
            attempts::list(&client, &arguments, json).await
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(Call::get(&["subscriptions"])).await?;
    if json {
        return output::line(reply.text()?);
    }
    let rows = reply.decode::<Listing>()?.rows();
    if rows.is_empty() {
        output::note("no subscriptions");
        return Ok(());
    }
    output::line(&record::table(&rows, &COLUMNS).to_string())
}

async fn set_status(
    client: &Client,
    id: &str,
    status: &str,
    json: bool,
) -> Result<(), CommandError> {
    let call = Call::patch(&["subscriptions", id]).json(&json!({ "status": status }))?;
    shown(client, call, json).await
}

async fn shown(client: &Client, call: Call, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(call).await?;
    if json {
        return output::line(reply.text()?);
    }
    output::line(&record::lines(&reply.decode::<Object>()?))
}

fn shown_once(reply: &Reply, json: bool) -> Result<(), CommandError> {
    if json {
        return output::line(reply.text()?);
    }
    let mut object: Object = reply.decode()?;
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

/// Takes what a receiver checks signatures with out of a subscription, and says what it is.
fn take_key(subscription: &mut Object) -> Option<(&'static str, String)> {
    let names = [("secret", "the secret, shown this once:"), ("public_key", "the public key:")];
    names.into_iter().find_map(|(member, name)| match subscription.remove(member) {
        Some(Value::String(key)) => Some((name, key)),
        _ => None,
    })
}

async fn delete(client: &Client, id: &str, json: bool) -> Result<(), CommandError> {
    client.execute(Call::delete(&["subscriptions", id])).await?;
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
