//! Faults: descriptions of what is wrong with a configuration, and in which source.
//!
//! A fault names its source (a file, an environment variable, a flag or the defaults), the dotted
//! name of the field and the accepted values. `ConfigError` prints one fault per line.
//!
//! A message quotes a value only where that helps. The value of an unknown name is never quoted: it
//! may be a secret. Names are escaped, so that each fault stays on one line.

use std::fmt;
use std::path::PathBuf;

/// The source of a value or of an unknown name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultSource {
    /// The TOML file with this path.
    File(PathBuf),
    /// The environment variable with this name.
    Environment(String),
    /// The flag that sets this dotted field.
    Flag(String),
    /// The defaults, or options that were constructed in code.
    Default,
}

impl fmt::Display for FaultSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Environment(name) => write!(formatter, "environment {}", name.escape_debug()),
            Self::Flag(field) => write!(formatter, "flag {}", field.escape_debug()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Source of the rejected value.
    pub source: FaultSource,
    /// Dotted name, such as `listen.address`; empty for a file that cannot be read or parsed.
    pub field: String,
    /// What is wrong and which values are accepted, in one line.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(formatter, "{}: {}", self.source, self.message)
        } else {
            write!(formatter, "{}: {}: {}", self.source, self.field.escape_debug(), self.message)
        }
    }
}

/// The faults of a rejected configuration. `Display` prints one fault per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.faults))]
pub struct ConfigError {
    /// At least one fault: those of the file, the environment, the flags, then of broken rules.
    pub faults: Vec<Fault>,
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}
