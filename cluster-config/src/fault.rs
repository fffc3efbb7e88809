//! Faults: what is wrong with a configuration, and where it was written.
//!
//! A fault names its source (a file, an environment variable, a flag or the defaults), the dotted field and what the
//! field has to be. Whoever starts a node prints a `ConfigError` as it is: one fault a line, ready to be corrected.
//!
//! Values are quoted only where they are needed to understand the fault; the value of an unknown name is never quoted,
//! because somebody may have written a secret under it. Names are escaped, so that a fault stays on its line.
//!
//! It is not a log record, and it carries no exit code: the command line chooses that.

use std::fmt;
use std::path::PathBuf;

/// Where a value, or a name that no field has, was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultSource {
    /// The TOML file at this path.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// The flag that sets this dotted field.
    Flag(String),
    /// The defaults, or options that were built in code.
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

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it was written.
    pub source: FaultSource,
    /// The dotted field, such as `listen.address`; empty if the whole source is at fault (a file that does not parse).
    pub field: String,
    /// What is wrong and what would be right, in one line.
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

/// A configuration that was refused. `Display` prints one fault a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.faults))]
pub struct ConfigError {
    /// Every fault that was found, at least one: first those of the file, then of the environment, then of the flags,
    /// then those that come from values which do not fit each other.
    pub faults: Vec<Fault>,
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}
