//! `triggers subscriptions …`: where a tenant's webhooks go, and how their delivery went.
//!
//! The key that a receiver checks signatures with is printed when the node shows it (created,
//! rotated), alone on stdout, so that a shell can put it into a variable. Everything else goes to
//! stderr. With `--json` the node's answer is printed unchanged. `triggers listen` receives
//! webhooks.

use super::connection::{ConnectionArguments, Role};
use super::exit::CommandResult;
use super::output;
use super::record;
use clap::{Args, Subcommand};
use serde_json::json;
use triggers_client::Client;
use triggers_client::api::{SecretRotation, SubscriptionPatch, SubscriptionState};
use triggers_protocol::webhook::SigningKey;

mod attempts;
mod recover;
mod settings;

const COLUMNS: &str = "id target_url event_types status disabled_reason signature_scheme \
                       description created_at";

/// Arguments of `triggers subscriptions`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct SubscriptionsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    #[command(subcommand)]
    pub command: SubscriptionsCommand,
}

/// The commands on subscriptions.
#[derive(Debug, Subcommand)]
pub enum SubscriptionsCommand {
    /// Create a subscription; its secret is shown once
    Create(settings::CreateSubscriptionArguments),
    /// List the subscriptions, without their secrets
    List,
    /// Show one subscription
    Show(SubscriptionArgument),
    /// Change a subscription's settings
    Update(settings::UpdateArguments),
    /// Have webhooks sent again
    Enable(SubscriptionArgument),
    /// Have no more webhooks sent
    Disable(SubscriptionArgument),
    /// Delete a subscription for good
    Delete(SubscriptionArgument),
    /// Sign with a new key; for the grace period webhooks carry a signature of the old one, too
    Rotate(RotateArguments),
    /// Send one webhook now and show the outcome; exit code 1 if it did not arrive
    Test(SubscriptionArgument),
    /// Send what it has missed, for example while it was disabled
    Recover(recover::RecoverArguments),
    /// List the attempts to send its webhooks
    Attempts(attempts::AttemptsArguments),
}

/// Argument of the commands on one subscription.
#[derive(Debug, Args)]
pub struct SubscriptionArgument {
    /// The subscription's id
    #[arg(value_name = "ID")]
    id: String,
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
pub async fn run(arguments: SubscriptionsArguments) -> CommandResult {
    let client = arguments.connection.client(Role::Tenant)?;
    let json = arguments.connection.json;
    match arguments.command {
        SubscriptionsCommand::Create(create) => {
            record::print_key(&client.create_subscription(&create.into()).await?, json)
        }
        SubscriptionsCommand::List => {
            let reply = client.list_subscriptions().await?;
            record::print_list(&reply, json, "subscriptions", COLUMNS)
        }
        SubscriptionsCommand::Show(SubscriptionArgument { id }) => {
            record::print(&client.get_subscription(id).await?, json)
        }
        SubscriptionsCommand::Update(update) => {
            let patch = update.patch()?;
            record::print(&client.update_subscription(&update.id, &patch).await?, json)
        }
        SubscriptionsCommand::Enable(SubscriptionArgument { id }) => {
            set_state(&client, &id, SubscriptionState::Active, json).await
        }
        SubscriptionsCommand::Disable(SubscriptionArgument { id }) => {
            set_state(&client, &id, SubscriptionState::Disabled, json).await
        }
        SubscriptionsCommand::Delete(SubscriptionArgument { id }) => {
            client.delete_subscription(&id).await?;
            output::result(json, &json!({ "id": id, "deleted": true }), &format!("deleted {id}"))
        }
        SubscriptionsCommand::Rotate(rotate) => {
            let RotateArguments { id, grace_seconds, secret } = rotate;
            let rotation = SecretRotation { secret, grace_seconds };
            record::print_key(&client.rotate_subscription_secret(id, &rotation).await?, json)
        }
        SubscriptionsCommand::Test(SubscriptionArgument { id }) => {
            attempts::test(&client, &id, json).await
        }
        SubscriptionsCommand::Recover(arguments) => recover::run(&client, &arguments, json).await,
        SubscriptionsCommand::Attempts(arguments) => {
            attempts::list(&client, &arguments, json).await
        }
    }
}

async fn set_state(
    client: &Client,
    id: &str,
    state: SubscriptionState,
    json: bool,
) -> CommandResult {
    let patch = SubscriptionPatch { status: Some(state), ..SubscriptionPatch::default() };
    record::print(&client.update_subscription(id, &patch).await?, json)
}
