//! The arguments of the commands that start a node or check its configuration.
//!
//! Parsing checks what can be checked without a file. The validation of the configuration checks
//! the rest. Each flag of `dev` and `serve` sets an option that the configuration file can set as
//! well.

use super::exit::CommandResult;
use super::output;
use super::record;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use triggers_cluster_config::{
    ConfigError, Fault, FaultSource, NodeOptions, Override, OverrideError, Sources, default_toml,
    process_environment,
};

/// Default data directory of `triggers dev`. The client commands look for its keys there.
pub const DEV_DATA_DIR: &str = "data/dev";

/// Options of `dev` that the environment can override: a first receiver usually runs on the same
/// machine.
const DEV_DELIVERY: [(&str, &str, &str); 2] = [
    ("delivery.is_https_required", "TRIGGERS__DELIVERY__IS_HTTPS_REQUIRED", "false"),
    ("delivery.allowed_targets", "TRIGGERS__DELIVERY__ALLOWED_TARGETS", "127.0.0.0/8, ::1/128"),
];

/// How log lines are written.
const LOG_FORMATS: [(&str, &str); 2] =
    [("human", "Text for people"), ("json", "One JSON object a line")];

/// Arguments of `triggers dev`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  triggers dev
  triggers dev --listen 127.0.0.1:9000 --data-dir /tmp/try

The first start makes a tenant and keys and writes them, with the addresses, to dev.json in the \
data directory. The client commands use data/dev/dev.json when no key is given. Ctrl-C stops the \
node; what it acknowledged is still there at the next start.")]
pub struct DevArguments {
    /// Where the node keeps its data
    #[arg(long, value_name = "DIR", default_value = DEV_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of the admin listener: metrics, cluster view, drain [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", default_value = "human",
        value_parser = record::one_of::<String>(LOG_FORMATS))]
    pub log_format: String,
}

/// Arguments of `triggers serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  triggers serve --config /etc/triggers/triggers.toml
  triggers serve --config single.toml --set listen.address=0.0.0.0:8080
  TRIGGERS__LISTEN__ADDRESS=0.0.0.0:8080 triggers serve

Later wins: defaults, file, TRIGGERS__… environment, --set. `triggers config check` lists all \
faults without starting. The first start needs an admin key, in TRIGGERS_ADMIN_KEY or in the file \
that admin.key_file names. SIGTERM and Ctrl-C let requests in flight finish and exit 0.")]
pub struct ServeArguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "TRIGGERS_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one option, over file and environment; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    pub set: Vec<String>,
}

/// The commands on configurations.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Load a configuration exactly as `serve` would, and list every fault
    #[command(
        after_help = "Example:\n  triggers config check --config /etc/triggers/triggers.toml"
    )]
    Check(ServeArguments),
    /// Print every option with its default and its explanation, as TOML
    #[command(after_help = "Example:\n  triggers config default > triggers.toml")]
    Default,
}

impl ConfigCommand {
    /// Lists every fault of a configuration, or prints the defaults. What only a start can tell,
    /// such as whether an address is free, is not checked.
    pub fn run(self) -> CommandResult {
        match self {
            Self::Default => output::line(default_toml().trim_end()),
            Self::Check(arguments) => {
                arguments.options()?;
                output::line("configuration is valid")
            }
        }
    }
}

impl DevArguments {
    /// Loads the configuration of a development node: defaults, environment of the process, these
    /// arguments.
    pub fn options(&self) -> Result<NodeOptions, ConfigError> {
        let mut flags =
            vec![Override::new("store.data_directory", self.data_dir.to_string_lossy())];
        let environment: Vec<(String, String)> = process_environment().collect();
        for (field, variable, value) in DEV_DELIVERY {
            if environment.iter().all(|(name, _)| name != variable) {
                flags.push(Override::new(field, value));
            }
        }
        let mut address = |field, address: Option<SocketAddr>| {
            flags.extend(address.map(|address| Override::new(field, address.to_string())));
        };
        address("listen.address", self.listen);
        address("admin.address", self.admin_listen);
        flags.push(Override::new("log.format", self.log_format.as_str()));
        NodeOptions::load(Sources { file: None, environment, flags })
    }
}

impl ServeArguments {
    /// Loads the configuration of these arguments: defaults, file, environment of the process,
    /// `--set`.
    pub fn options(&self) -> Result<NodeOptions, ConfigError> {
        self.options_with(process_environment())
    }

    fn options_with(
        &self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<NodeOptions, ConfigError> {
        let flags: Result<Vec<Override>, OverrideError> =
            self.set.iter().map(|text| text.parse()).collect();
        let flags = flags.map_err(|error| ConfigError {
            faults: vec![Fault {
                source: FaultSource::Flag("set".to_owned()),
                field: String::new(),
                message: error.to_string(),
            }],
        })?;
        NodeOptions::load(Sources { file: self.config.as_deref(), environment, flags })
    }
}

fn setting(text: &str) -> Result<String, OverrideError> {
    text.parse::<Override>().map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_wins_over_the_environment() {
        let arguments =
            ServeArguments { config: None, set: vec!["listen.address=127.0.0.1:7000".to_owned()] };
        let environment = [("TRIGGERS__LISTEN__ADDRESS".to_owned(), "127.0.0.1:6000".to_owned())];
        let options = arguments.options_with(environment).unwrap();
        assert_eq!(options.listen.address.port(), 7000);
    }

    #[test]
    fn all_faults_are_listed() {
        let arguments = ServeArguments {
            config: None,
            set: vec!["listen.address=nowhere".to_owned(), "listen.adress=1".to_owned()],
        };
        let error = arguments.options_with(Vec::new()).unwrap_err();
        assert_eq!(error.faults.len(), 2, "{error}");
    }
}
