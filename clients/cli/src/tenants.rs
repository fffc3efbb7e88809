//! `triggers tenants …`: creates, lists and changes tenants, with an admin key.
//!
//! Only what the command line gives is sent, so an update leaves other settings unchanged.

use super::connection::{ConnectionArguments, Role};
use super::exit::{CommandError, CommandResult};
use super::record;
use clap::{Args, Subcommand};
use triggers_client::PageQuery;
use triggers_client::api::{NewTenant, TenantPatch, Tier};
use triggers_protocol::TenantId;

const COLUMNS: &str = "id tenant_id name tier status retention_days max_inbox_events created_at";

/// Arguments of `triggers tenants`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct TenantsArguments {
    #[command(flatten)]
    pub connection: ConnectionArguments,
    #[command(subcommand)]
    pub command: TenantsCommand,
}

/// The commands on tenants.
#[derive(Debug, Subcommand)]
pub enum TenantsCommand {
    /// Create a tenant
    #[command(
        after_help = "Example:\n  triggers tenants create --name 'Acme Ltd' --id acme --tier beta \
         --retention-days 90"
    )]
    Create {
        /// Name for people
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Id [default: made by the node]
        #[arg(long, value_name = "ID", value_parser = TenantId::parse)]
        id: Option<TenantId>,
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
        #[command(flatten)]
        settings: SettingArguments,
    },
}

/// A tenant's settings.
#[derive(Debug, Clone, Args)]
pub struct SettingArguments {
    /// Rate limit tier, such as standard or beta
    #[arg(long, value_name = "TIER", value_parser = record::named::<Tier>)]
    tier: Option<Tier>,
    /// How long events are kept, in days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=365))]
    retention_days: Option<u16>,
    /// How many undelivered events the tenant may have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_inbox_events: Option<u64>,
}

/// The change that an update asks for.
///
/// # Errors
/// `CommandError::Usage` if it changes nothing.
fn change(name: Option<String>, settings: SettingArguments) -> Result<TenantPatch, CommandError> {
    let patch = TenantPatch {
        name,
        tier: settings.tier.map(Some),
        retention_days: settings.retention_days.map(Some),
        max_inbox_events: settings.max_inbox_events.map(Some),
        ..TenantPatch::default()
    };
    if patch == TenantPatch::default() {
        return Err(CommandError::Usage("nothing to change: give at least one setting".to_owned()));
    }
    Ok(patch)
}

/// Runs one command on tenants.
pub async fn run(arguments: TenantsArguments) -> CommandResult {
    let json = arguments.connection.json;
    let client = || arguments.connection.client(Role::Admin);
    match arguments.command {
        TenantsCommand::List => {
            let reply = client()?.list_tenants(&PageQuery::default()).await?;
            record::print_list(&reply, json, "tenants", COLUMNS)
        }
        TenantsCommand::Create { name, id, settings } => {
            let SettingArguments { tier, retention_days, max_inbox_events } = settings;
            let tenant = NewTenant {
                id,
                name,
                tier,
                retention_days,
                max_inbox_events,
                retry_policy: None,
                flags: None,
            };
            record::print(&client()?.create_tenant(&tenant).await?, json)
        }
        TenantsCommand::Update { id, name, settings } => {
            let patch = change(name, settings)?;
            record::print(&client()?.update_tenant(id, &patch).await?, json)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        let settings =
            SettingArguments { tier: None, retention_days: Some(90), max_inbox_events: None };
        let patch = change(None, settings.clone()).unwrap();
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"retention_days":90}"#);
        let nothing = SettingArguments { retention_days: None, ..settings };
        assert!(matches!(change(None, nothing), Err(CommandError::Usage(_))));
    }
}
