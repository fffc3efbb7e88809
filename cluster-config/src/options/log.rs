//! Options of section `log`: the lines a node writes about itself.
//!
//! The filter has the syntax of the tracing directives (`info`, `info,triggers_store=debug`). It is checked here for
//! being present and short; the node parses it when it starts and refuses it there.
//!
//! It is not the audit: that is data of a tenant and kept in the store.

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::field::{Bounds, FieldType, Kind};
use crate::rule::Rule;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line, for machines.
    Json,
}

impl LogFormat {
    /// The name that a configuration gives the format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

impl FieldType for LogFormat {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::String(self.name().to_owned()))
    }
}

section! {
    /// Log lines. They go to the standard error stream.
    "log" => LogOptions {
        /// human: lines for people; json: one object a line.
        format: LogFormat = LogFormat::Human, Bounds::Choice(&[LogFormat::Human.name(), LogFormat::Json.name()]);
        /// What is logged: a level (error, warn, info, debug, trace), or levels by module: "info,triggers_store=debug".
        filter: String = "info".to_owned(), Bounds::Described("1 to 1_024 characters");
    }
}

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[Rule {
    fields: &["log.filter"],
    broken: |options| {
        let filter = &options.log.filter;
        (filter.trim().is_empty() || filter.len() > 1_024)
            .then(|| "must be 1 to 1_024 characters".to_owned())
    },
}];
