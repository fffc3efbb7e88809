//! Which node a client command talks to, and with which key.
//!
//! `--url` and `--key` take precedence over `TRIGGERS_URL` and `TRIGGERS_API_KEY`. Without a key
//! the commands read `data/dev/dev.json`, which `triggers dev` writes, and say so on stderr. The
//! admin listener needs no key. Its address is `--admin-url`, `TRIGGERS_ADMIN_URL`, the one in that
//! file, or the default.
//!
//! - `TARGET-NODE-1`: a key from the file is sent only to the address in the file.
//! - `TARGET-NODE-2`: the key is never printed.

use super::arguments::DEV_DATA_DIR;
use super::exit::CommandError;
use super::output;
use clap::Args;
use serde::Deserialize;
use std::path::Path;
use triggers_client::{Client, ClientError};

const USER_AGENT: &str = concat!("triggers-cli/", env!("CARGO_PKG_VERSION"));

/// Default address of the API.
pub const URL_DEFAULT: &str = "http://127.0.0.1:8080";

/// Default address of the admin listener.
pub const ADMIN_URL_DEFAULT: &str = "http://127.0.0.1:9090";

/// How to reach a node's admin listener.
#[derive(Debug, Clone, Args)]
pub struct AdminArguments {
    /// Address of the node's admin listener [default: http://127.0.0.1:9090]
    #[arg(long, env = "TRIGGERS_ADMIN_URL", value_name = "URL", help_heading = "Connection")]
    pub admin_url: Option<String>,
}

impl AdminArguments {
    /// Makes a client of the admin listener.
    ///
    /// # Errors
    /// `CommandError::Usage` if the development file cannot be read, and `ClientError::Address`.
    pub fn client(&self) -> Result<Client, CommandError> {
        let url = self.url_beside(&Path::new(DEV_DATA_DIR).join("dev.json"))?;
        Ok(client_of(url, None)?)
    }

    fn url_beside(&self, file: &Path) -> Result<String, CommandError> {
        if let Some(url) = self.admin_url.as_deref().map(str::trim).filter(|url| !url.is_empty()) {
            return Ok(url.to_owned());
        }
        let Some(url) = read(file)?.and_then(|dev| dev.admin_url) else {
            return Ok(ADMIN_URL_DEFAULT.to_owned());
        };
        output::note(&format!("asking the development node at {url}, from {}", file.display()));
        Ok(url)
    }
}

fn client_of(url: String, key: Option<String>) -> Result<Client, ClientError> {
    let builder = Client::builder(url).user_agent(USER_AGENT);
    let builder = match key {
        Some(key) => builder.api_key(key),
        None => builder,
    };
    builder.build()
}

/// How to reach a node, for every client command.
#[derive(Debug, Clone, Args)]
pub struct ConnectionArguments {
    /// Address of the node [default: http://127.0.0.1:8080]
    #[arg(long, global = true, env = "TRIGGERS_URL", value_name = "URL")]
    #[arg(help_heading = "Connection")]
    pub url: Option<String>,
    /// API key; better given by the environment, where other users of the machine cannot see it
    #[arg(long, global = true, env = "TRIGGERS_API_KEY", value_name = "KEY")]
    #[arg(help_heading = "Connection", hide_env_values = true)]
    pub key: Option<String>,
    /// Print JSON for machines instead of tables
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// Which of a development node's two keys a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The development tenant's own key.
    Tenant,
    /// The key with the scope `admin`.
    Admin,
}

/// The address and the key of a client command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Base address of the node.
    pub url: String,
    /// API key, if there is one.
    pub key: Option<String>,
}

#[derive(Debug, Deserialize)]
struct DevFile {
    url: String,
    admin_url: Option<String>,
    api_key: String,
    admin_key: Option<String>,
}

impl ConnectionArguments {
    /// Makes a client of the node.
    ///
    /// # Errors
    /// As `target`, and `ClientError::Address` or `ClientError::Key`.
    pub fn client(&self, role: Role) -> Result<Client, CommandError> {
        let target = self.target(role)?;
        Ok(client_of(target.url, target.key)?)
    }

    /// Finds the address and the key.
    ///
    /// # Errors
    /// `CommandError::Usage` if there is no key.
    pub fn target(&self, role: Role) -> Result<Target, CommandError> {
        let file = Path::new(DEV_DATA_DIR).join("dev.json");
        self.target_beside(role, &file)
    }

    fn target_beside(&self, role: Role, file: &Path) -> Result<Target, CommandError> {
        let url = self.url.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let key = self.key.as_deref().map(str::trim).filter(|key| !key.is_empty());
        if let Some(key) = key {
            let url = url.unwrap_or(URL_DEFAULT).to_owned();
            return Ok(Target { url, key: Some(key.to_owned()) });
        }
        let Some(dev) = read(file)? else {
            return Err(CommandError::Usage(format!(
                "no API key: give --key or set TRIGGERS_API_KEY (or start `triggers dev` in this \
                 directory, which writes {})",
                file.display()
            )));
        };
        if let Some(url) = url
            && url.trim_end_matches('/') != dev.url.trim_end_matches('/')
        {
            return Err(CommandError::Usage(format!(
                "no API key for {url}: the key in {} belongs to {}; give --key or set \
                 TRIGGERS_API_KEY",
                file.display(),
                dev.url
            )));
        }
        let key = match role {
            Role::Tenant => dev.api_key,
            Role::Admin => dev.admin_key.unwrap_or(dev.api_key),
        };
        output::note(&format!("using the development node's key from {}", file.display()));
        Ok(Target { url: dev.url, key: Some(key) })
    }
}

fn read(file: &Path) -> Result<Option<DevFile>, CommandError> {
    let name = file.display();
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CommandError::Usage(format!("cannot read {name}: {error}"))),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let text = format!("{name} is damaged ({error}); delete it, or give --key or --admin-url");
        CommandError::Usage(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = r#"{"url":"http://127.0.0.1:9999","admin_url":"http://127.0.0.1:9998",
        "tenant_id":"t",
        "api_key":"trg_test_tenant","admin_key":"trg_test_admin"}"#;

    fn arguments(url: Option<&str>, key: Option<&str>) -> ConnectionArguments {
        ConnectionArguments {
            url: url.map(str::to_owned),
            key: key.map(str::to_owned),
            json: false,
        }
    }

    #[test]
    fn without_a_key_the_development_file_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dev.json");
        std::fs::write(&file, DEV).unwrap();
        let tenant = arguments(None, None).target_beside(Role::Tenant, &file).unwrap();
        assert_eq!(tenant.url, "http://127.0.0.1:9999");
        assert_eq!(tenant.key.as_deref(), Some("trg_test_tenant"));
        let admin = arguments(Some("http://127.0.0.1:9999/"), Some(""))
            .target_beside(Role::Admin, &file)
            .unwrap();
        assert_eq!(admin.key.as_deref(), Some("trg_test_admin"));
    }

    #[test]
    fn the_development_key_goes_to_no_other_address() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dev.json");
        std::fs::write(&file, DEV).unwrap();
        let error = arguments(Some("https://example.com"), None)
            .target_beside(Role::Tenant, &file)
            .unwrap_err();
        assert_eq!(error.exit_code(), super::super::exit::USAGE);
        assert!(!error.to_string().contains("trg_test"), "{error}");
    }

    #[test]
    fn the_admin_listener_is_the_given_one_or_that_of_the_development_node_or_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dev.json");
        let url = |given: Option<&str>| {
            AdminArguments { admin_url: given.map(str::to_owned) }
                .url_beside(&file)
                .map_err(|error| error.to_string())
        };
        assert_eq!(url(None).as_deref(), Ok(ADMIN_URL_DEFAULT));
        std::fs::write(&file, DEV).unwrap();
        assert_eq!(url(None).as_deref(), Ok("http://127.0.0.1:9998"));
        assert_eq!(url(Some("")).as_deref(), Ok("http://127.0.0.1:9998"));
        assert_eq!(url(Some("http://h:1")).as_deref(), Ok("http://h:1"));
    }

    #[test]
    fn a_key_that_is_given_wins_and_no_key_is_said_clearly() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dev.json");
        let given = arguments(None, Some("trg_live_x")).target_beside(Role::Tenant, &file).unwrap();
        assert_eq!(
            given,
            Target { url: URL_DEFAULT.to_owned(), key: Some("trg_live_x".to_owned()) }
        );
        let error = arguments(None, None).target_beside(Role::Tenant, &file).unwrap_err();
        assert!(error.to_string().contains("TRIGGERS_API_KEY"), "{error}");
    }
}
