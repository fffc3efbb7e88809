//! `triggers tenants …`: create, list and change tenants, with an admin key.
//!
//! Invariant: only what was given on the command line is sent, so an update leaves the rest as it is.
//!
//! It neither erases nor exports a tenant: the one cannot be undone, the other is a stream.

use clap::{Args, Subcommand};
use serde::Serialize;

use triggers_client::{Call, Client, Reply};

use super::connection::{ConnectionArguments, Role};
use super::exit::CommandError;
use super::output;
use super::record::{self, Listing, Object};

const COLUMNS: [&str; 8] = [
    "id",
    "tenant_id",
    "name",
    "tier",
    "status",
    "retention_days",
    "max_inbox_events",
    "created_at",
];

/// `triggers tenants …`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct TenantsArguments {
    /// How to reach the node.
    #[command(flatten)]
    pub connection: ConnectionArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: TenantsCommand,
}

/// The commands on tenants.
#[derive(Debug, Subcommand)]
pub enum TenantsCommand {
    /// Create a tenant
    #[command(
        after_help = "Example:\n  triggers tenants create --name 'Acme Ltd' --id acme --tier beta --retention-days 90"
    )]
    Create {
        /// Name for people
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Id [default: made by the node]
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// The rest.
        #[command(flatten)]
        settings: SettingArguments,
    },
    /// List all tenants
    List,
    /// Change a tenant's settings
    #[command(after_help = "Example:\n  triggers tenants update acme --max-inbox-events 5000000")]
    Update {
        /// The tenant's id
        #[arg(value_name = "ID")]
        id: String,
        /// A new name
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The rest.
        #[command(flatten)]
        settings: SettingArguments,
    },
}

/// A tenant's settings, as arguments and as part of the request body.
#[derive(Debug, Clone, Args, Serialize)]
pub struct SettingArguments {
    /// Rate limit tier, such as standard or beta
    #[arg(long, value_name = "TIER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    /// How long events are kept, in days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=365))]
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_days: Option<u16>,
    /// How many undelivered events the tenant may have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_inbox_events: Option<u64>,
}

#[derive(Debug, Serialize)]
struct TenantBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(flatten)]
    settings: &'a SettingArguments,
}

impl TenantBody<'_> {
    fn is_empty(&self) -> bool {
        let SettingArguments { tier, retention_days, max_inbox_events } = self.settings;
        self.name.is_none()
            && tier.is_none()
            && retention_days.is_none()
            && max_inbox_events.is_none()
    }
}

/// Runs one command on tenants.
///
/// # Errors
/// What the node refused, or why it could not be reached.
pub async fn run(arguments: TenantsArguments) -> Result<(), CommandError> {
    let json = arguments.connection.json;
    let call = match &arguments.command {
        TenantsCommand::List => {
            return list(&arguments.connection.client(Role::Admin)?, json).await;
        }
        TenantsCommand::Create { name, id, settings } => {
            let body = TenantBody { id: id.as_deref(), name: Some(name), settings };
            Call::post(&["tenants"]).json(&body)?
        }
        TenantsCommand::Update { id, name, settings } => {
            let body = TenantBody { id: None, name: name.as_deref(), settings };
            if body.is_empty() {
                return Err(CommandError::Usage(
                    "nothing to change: give at least one setting".to_owned(),
                ));
            }
            Call::patch(&["tenants", id]).json(&body)?
        }
    };
    shown(&arguments.connection.client(Role::Admin)?.execute(call).await?, json)
}

fn shown(reply: &Reply, json: bool) -> Result<(), CommandError> {
    if json {
        return output::line(reply.text()?);
    }
    output::line(&record::lines(&reply.decode::<Object>()?))
}

async fn list(client: &Client, json: bool) -> Result<(), CommandError> {
    let reply = client.execute(Call::get(&["tenants"])).await?;
    if json {
        return output::line(reply.text()?);
    }
    let rows = reply.decode::<Listing>()?.rows();
    if rows.is_empty() {
        output::note("no tenants");
        return Ok(());
    }
    output::line(&record::table(&rows, &COLUMNS).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        let settings =
            SettingArguments { tier: None, retention_days: Some(90), max_inbox_events: None };
        let body = TenantBody { id: None, name: None, settings: &settings };
        assert_eq!(serde_json::to_string(&body).unwrap(), r#"{"retention_days":90}"#);
        assert!(!body.is_empty());
    }
}
