//! `triggers keys …`: the API keys of a tenant.
//!
//! Invariants: the plaintext of a key is printed exactly when the node shows it (created, rotated), alone on stdout, so
//! that it can be put into a variable; what surrounds it goes to stderr. The key that asks decides what may be done.
//!
//! Keys are kept by the node; this stores nothing. `generate` asks no node, because before the first admin key exists
//! there is none to ask.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, Environment};

use triggers_client::{Call, Client, Reply};

use super::connection::{ConnectionArguments, Role};
use super::exit::CommandError;
use super::output;
use super::record::{self, Listing, Object};

const COLUMNS: [&str; 9] = [
    "id",
    "key_id",
    "name",
    "tenant_id",
    "prefix",
    "scopes",
    "rate_limit_per_minute",
    "created_at",
    "expires_at",
];

/// `triggers keys …`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct KeysArguments {
    /// How to reach the node.
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The commands on keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key; it is shown once
    Create(CreateArguments),
    /// Make a key without asking a node, as the first admin key of a new installation
    #[command(after_help = "\
Example:
  (umask 077; triggers keys generate > admin.key)
  TRIGGERS_ADMIN_KEY=$(cat admin.key) triggers serve --config triggers.toml

No node knows this key until one is started with it (TRIGGERS_ADMIN_KEY or admin.key_file).")]
    Generate {
        /// Make a key of the environment `test` instead of `live`
        #[arg(long)]
        test: bool,
    },
    /// List the keys, without their secrets
    List,
    /// Replace a key by a new one; the old one works on for the grace period
    Rotate {
        /// The key's id
        #[arg(value_name = "ID")]
        id: String,
        /// How long the old key still works, in seconds
        #[arg(long, value_name = "N")]
        grace_seconds: Option<u64>,
    },
    /// Revoke a key; every node refuses it within a second
    Revoke {
        /// The key's id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Arguments of `triggers keys create`, and the request body.
#[derive(Debug, Args, Serialize)]
#[command(after_help = "\
Examples:
  triggers keys create --name shop --scope events:write
  CONSUMER_KEY=$(triggers keys create --name consumer --scope inbox:read --scope inbox:ack)
  triggers keys create --name partner --tenant acme --rate-limit-per-minute 60000

Scopes: events:write, inbox:read, inbox:ack, subscriptions:manage, keys:manage, admin. Without any, \
the key may do everything within its tenant. A scope or a rate that the asking key does not have, \
and another tenant, need an admin key.")]
pub struct CreateArguments {
    /// What the key is for
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The tenant it belongs to; another than one's own needs an admin key
    #[arg(long = "tenant", value_name = "TENANT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// What it may do; repeatable
    #[arg(long = "scope", value_name = "SCOPE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    /// Requests a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_per_minute: Option<u64>,
    /// When it stops working, RFC 3339
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// Runs one command on keys.
///
/// # Errors
/// What the node refused, or why it could not be reached.
pub async fn run(arguments: KeysArguments) -> Result<(), CommandError> {
    let json = arguments.connection.json;
    let client = |role| arguments.connection.client(role);
    match arguments.command {
        KeysCommand::Create(create) => {
            let foreign = create.tenant_id.is_some();
            let client = client(if foreign { Role::Admin } else { Role::Tenant })?;
            let call = Call::post(&["keys"]).json(&create)?;
            shown_once(&client.execute(call).await?, json)
        }
        KeysCommand::Generate { test } => generate(test, json),
        KeysCommand::List => list(&client(Role::Tenant)?, json).await,
        KeysCommand::Rotate { id, grace_seconds } => {
            let body = grace_seconds
                .map_or_else(|| json!({}), |seconds| json!({ "grace_seconds": seconds }));
            let call = Call::post(&["keys", &id, "rotate"]).json(&body)?;
            shown_once(&client(Role::Tenant)?.execute(call).await?, json)
        }
        KeysCommand::Revoke { id } => {
            let call = Call::delete(&["keys", &id]);
            client(Role::Tenant)?.execute(call).await?;
            if json {
                output::json(&json!({ "id": id, "revoked": true }))
            } else {
                output::line(&format!("revoked {id}"))
            }
        }
    }
}

fn generate(test: bool, json: bool) -> Result<(), CommandError> {
    let kind = if test { KeyKind::Test } else { KeyKind::Live };
    let key = ApiKey::generate(kind, &Environment::system());
    if json { output::json(&json!({ "key": key.reveal() })) } else { output::line(key.reveal()) }
}

fn shown_once(reply: &Reply, json: bool) -> Result<(), CommandError> {
    if json {
        return output::line(reply.text()?);
    }
    let mut object: Object = reply.decode()?;
    let key = object.remove("key");
    output::note(&record::lines(&object));
    match key {
        Some(Value::String(key)) => {
            output::note("the key, shown this once:");
            output::line(&output::printable(&key))
        }
        _ => Ok(()),
    }
}

async fn list(client: &Client, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(Call::get(&["keys"])).await?;
    if json {
        return output::line(reply.text()?);
    }
    let rows = reply.decode::<Listing>()?.rows();
    if rows.is_empty() {
        output::note("no keys");
        return Ok(());
    }
    output::line(&record::table(&rows, &COLUMNS).to_string())
}
