//! Loading: lays the sources over each other and collects every fault on the way.
//!
//! Each source offers values to `Layers`, weakest source first: the file, the environment, the flags; what nobody set keeps its
//! default. A value is checked alone when it is offered; rules between fields are asked once, on the result.
//!
//! Invariants:
//! - LOAD-1: a fault in a weak source is reported even if a stronger source sets the field.
//! - LOAD-2: a rule between fields is blamed on the source that set the field, not on the defaults it clashes with.
//!
//! It reads one file and nothing else: whether other files that options name exist is found by who opens them.

mod environment;
mod file;
mod layers;
mod nearest;

use std::path::Path;
use std::str::FromStr;

use crate::fault::{ConfigError, FaultSource};
use crate::options::NodeOptions;

pub use environment::process_environment;
use layers::Layers;

/// Where options come from. `Sources::default()` is the defaults alone.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a, E = Vec<(String, String)>> {
    /// A TOML file of at most 1 MiB.
    pub file: Option<&'a Path>,
    /// Environment variables as (name, value); those that do not begin with `TRIGGERS__` are ignored.
    pub environment: E,
    /// Flags, weakest first.
    pub flags: Vec<Override>,
}

/// A field that a flag sets. Parses from `section.name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Dotted field, such as `listen.address`.
    pub field: String,
    /// The value as text: lists comma-separated, empty for an optional field that shall have none.
    pub value: String,
}

impl Override {
    /// Sets `field` to `value`.
    pub fn new(field: impl Into<String>, value: impl ToString) -> Self {
        Self { field: field.into(), value: value.to_string() }
    }
}

/// A text that is no override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} must be written as section.name=value")]
pub struct OverrideError {
    /// What was given.
    pub text: String,
}

impl FromStr for Override {
    type Err = OverrideError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((field, value)) if !field.trim().is_empty() => Ok(Self::new(field.trim(), value)),
            _ => Err(OverrideError { text: text.to_owned() }),
        }
    }
}

/// See `NodeOptions::load`.
pub(crate) fn load<E>(sources: Sources<'_, E>) -> Result<NodeOptions, ConfigError>
where
    E: IntoIterator<Item = (String, String)>,
{
    let mut layers = Layers::default();
    if let Some(path) = sources.file {
        file::offer(path, &mut layers);
    }
    environment::offer(sources.environment, &mut layers);
    for flag in sources.flags {
        let source = FaultSource::Flag(flag.field.clone());
        match layers::find(&flag.field) {
            Some(field) => layers.offer_text(field, &flag.value, source),
            None => layers.refuse(source, &flag.field, nearest::unknown_field(&flag.field)),
        }
    }
    layers.finish()
}

#[cfg(test)]
mod property;
