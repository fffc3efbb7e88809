//! `triggers keys …`: the API keys of a tenant.
//!
//! A plain key is printed only when the node shows it (created, rotated), alone on stdout, so that
//! a shell can put it into a variable. Everything else goes to stderr. `generate` asks no node,
//! because a new installation has no admin key to ask with. The command stores no key.

use super::connection::{ConnectionArguments, Role};
use super::exit::CommandResult;
use super::output;
use super::record;
use clap::{Args, Subcommand};
use serde_json::json;
use triggers_client::api::{KeyRotation, NewKey};
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, Environment, Scope, TenantId, Timestamp};

const COLUMNS: &str = "id key_id name tenant_id prefix scopes rate_limit_per_minute created_at \
                       expires_at";

/// Arguments of `triggers keys`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct KeysArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The commands on keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a key; it is shown once
    Create(CreateKeyArguments),
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
        grace_seconds: Option<u32>,
    },
    /// Revoke a key; every node rejects it within a second
    Revoke {
        /// The key's id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Arguments of `triggers keys create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  triggers keys create --name shop --scope events:write
  CONSUMER_KEY=$(triggers keys create --name consumer --scope inbox:read --scope inbox:ack)
  triggers keys create --name partner --tenant acme --rate-limit-per-minute 60000

Scopes: events:write, inbox:read, inbox:ack, subscriptions:manage, keys:manage, admin. Without \
any, \
the key may do everything within its tenant. A scope or a rate that the asking key does not have, \
and another tenant, need an admin key.")]
pub struct CreateKeyArguments {
    /// What the key is for
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The tenant it belongs to; another than one's own needs an admin key
    #[arg(long = "tenant", value_name = "TENANT", value_parser = TenantId::parse)]
    tenant_id: Option<TenantId>,
    /// What it may do; repeatable
    #[arg(long = "scope", value_name = "SCOPE", value_parser = record::named::<Scope>)]
    scopes: Vec<Scope>,
    /// Requests a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit_per_minute: Option<u32>,
    /// When it stops working, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    expires_at: Option<Timestamp>,
}

impl From<CreateKeyArguments> for NewKey {
    fn from(arguments: CreateKeyArguments) -> Self {
        let CreateKeyArguments { name, tenant_id, scopes, rate_limit_per_minute, expires_at } =
            arguments;
        let scopes = Some(scopes).filter(|scopes| !scopes.is_empty());
        Self { name, tenant_id, scopes, rate_limit_per_minute, expires_at }
    }
}

/// Runs one command on keys.
pub async fn run(arguments: KeysArguments) -> CommandResult {
    let json = arguments.connection.json;
    let client = |role| arguments.connection.client(role);
    match arguments.command {
        KeysCommand::Create(create) => {
            let foreign = create.tenant_id.is_some();
            let client = client(if foreign { Role::Admin } else { Role::Tenant })?;
            record::print_key(&client.create_key(&create.into()).await?, json)
        }
        KeysCommand::Generate { test } => generate(test, json),
        KeysCommand::List => {
            let reply = client(Role::Tenant)?.list_keys(None).await?;
            record::print_list(&reply, json, "keys", COLUMNS)
        }
        KeysCommand::Rotate { id, grace_seconds } => {
            let rotation = KeyRotation { grace_seconds };
            record::print_key(&client(Role::Tenant)?.rotate_key(id, &rotation).await?, json)
        }
        KeysCommand::Revoke { id } => {
            client(Role::Tenant)?.revoke_key(&id).await?;
            output::result(json, &json!({ "id": id, "revoked": true }), &format!("revoked {id}"))
        }
    }
}

fn generate(test: bool, json: bool) -> CommandResult {
    let kind = if test { KeyKind::Test } else { KeyKind::Live };
    let key = ApiKey::generate(kind, &Environment::system());
    output::result(json, &json!({ "key": key.reveal() }), key.reveal())
}
