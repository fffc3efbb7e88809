//! Exit codes, and the error type that carries them.
//!
//! | code | constant | when |
//! |---|---|---|
//! | 0 | | success, also when the reader of stdout closed the pipe |
//! | 1 | `FAILED` | the API answered with an error, or the node could not be reached |
//! | 2 | `USAGE` | the command line is wrong; `clap` uses the same code |
//! | 3 | `CONFIGURATION` | the configuration is wrong |
//! | 4 | `START` | the node could not start |
//! | 5 | `FATAL` | a fatal fault stopped the node |
//!
//! The help documents the codes. Scripts and service managers rely on them.

use super::output;
use std::io;
use std::process::ExitCode;
use triggers_bench::BenchError;
use triggers_client::ClientError;
use triggers_cluster_config::ConfigError;
use triggers_node::run::StartError;

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const CONFIGURATION: u8 = 3;
pub const START: u8 = 4;
pub const FATAL: u8 = 5;

/// The result of a command.
pub type CommandResult = Result<(), CommandError>;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A call to a node failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The arguments are wrong, which only the command itself can tell.
    #[error("{0}")]
    Usage(String),
    /// All faults of the configuration.
    #[error("the configuration is not valid:\n{0}")]
    Configuration(#[from] ConfigError),
    /// A part of the operation failed after its results were printed.
    #[error("{0}")]
    Failed(String),
    /// A node did not start or was stopped.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The load could not be run.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// Writing to stdout failed.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// The exit code of this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(
                ClientError::Address { .. }
                | ClientError::Key
                | ClientError::Header { .. }
                | ClientError::Path { .. },
            )
            | Self::Usage(_) => USAGE,
            Self::Client(_) | Self::Failed(_) | Self::Bench(_) => FAILED,
            Self::Configuration(_) => CONFIGURATION,
            Self::Start(error) => start_code(error),
            // A reader that stops early, such as `head`, is not a failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => FAILED,
        }
    }
}

fn start_code(error: &StartError) -> u8 {
    match error {
        StartError::Option { .. }
        | StartError::Tls(_)
        | StartError::Sender(_)
        | StartError::NoAdminKey => CONFIGURATION,
        StartError::Fatal(_) => FATAL,
        StartError::Listen { .. }
        | StartError::DataDirectory(_)
        | StartError::Database(_)
        | StartError::Node(_)
        | StartError::FirstKeys(_)
        | StartError::File { .. }
        | StartError::Telemetry(_) => START,
    }
}

/// Writes the error to stderr and returns the exit code.
pub fn report(error: &CommandError) -> ExitCode {
    let code = error.exit_code();
    if code != 0 {
        output::note(&format!("error: {error}"));
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = CommandError::Output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit_code(), 0);
        let full = CommandError::Output(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit_code(), FAILED);
    }

    #[test]
    fn a_bad_address_is_a_usage_error_and_an_unreachable_one_a_failure() {
        let bad = ClientError::Address { url: "x".to_owned(), reason: "y".to_owned() };
        assert_eq!(CommandError::from(bad).exit_code(), USAGE);
        let away = ClientError::Unreachable { url: "x".to_owned(), reason: "y".to_owned() };
        assert_eq!(CommandError::from(away).exit_code(), FAILED);
    }
}
