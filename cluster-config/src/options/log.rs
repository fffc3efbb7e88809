//! Options of section `log`: the log of the node.
//!
//! The filter has the syntax of `tracing` directives (`info`, `info,triggers_store=debug`). Only
//! its length is checked here; the node parses it at start.
//!
//! The audit log of a tenant is something else: it is kept in the store.

use crate::field::Bounds;
use serde::{Deserialize, Serialize};

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable lines for a terminal.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// The name of the format in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

section! {
    /// Log of the node, written to standard error.
    "log" => LogOptions {
        /// human: readable lines for a terminal; json: one JSON object per line.
        format: LogFormat = LogFormat::Human,
            Bounds::Choice(&["human", "json"]);
        /// Logged levels: a level (error, warn, info, debug, trace), or levels by module, such as
        /// "info,triggers_store=debug".
        filter: String = "info".to_owned(), Bounds::Described("1 to 1_024 characters");
    }
}

rules! {
    ["log.filter"]
        |options| options.log.filter.trim().is_empty() || options.log.filter.len() > 1_024
        => "must be 1 to 1_024 characters";
}
