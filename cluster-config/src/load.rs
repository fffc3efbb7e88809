//! Loading: merges the file, the environment and the flags, and collects every fault.
//!
//! Each source sets values in `Layers`; a later source overrides an earlier one. `Layers` checks
//! each value by itself when it is set, and the rules over several fields once, at the end.
//!
//! Invariants:
//! - `LOAD-1`: a fault in an early source is reported even if a later source sets the field.
//! - `LOAD-2`: the fault of a broken rule names the source that set the field, not the default.
//!
//! Loading reads one file. It does not check that the files which options name exist.

mod environment;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod layers;
mod nearest;

use crate::fault::{ConfigError, FaultSource};
use crate::options::NodeOptions;
use std::path::Path;
use std::str::FromStr;

pub use environment::process_environment;
use layers::Layers;

/// The sources of options. `Sources::default()` leaves every option at its default.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a, E = Vec<(String, String)>> {
    /// Path of a TOML file of at most 1 MiB.
    pub file: Option<&'a Path>,
    /// Environment variables as (name, value); names without the prefix `TRIGGERS__` are ignored.
    pub environment: E,
    /// Flags in the order of the command line; a later flag overrides an earlier one.
    pub flags: Vec<Override>,
}

/// A field and the value that a flag sets; parses from `section.name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Dotted name, such as `listen.address`.
    pub field: String,
    /// The value as text: lists are comma-separated; an empty text unsets an optional field.
    pub value: String,
}

impl Override {
    /// Creates an override that sets `field` to `value`.
    pub fn new(field: impl Into<String>, value: impl ToString) -> Self {
        Self { field: field.into(), value: value.to_string() }
    }
}

/// The error for a text that is not an override.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} must be written as section.name=value")]
pub struct OverrideError {
    /// The rejected text.
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

/// The implementation of `NodeOptions::load`.
pub(crate) fn load<E>(sources: Sources<'_, E>) -> Result<NodeOptions, ConfigError>
where
    E: IntoIterator<Item = (String, String)>,
{
    let mut layers = Layers::default();
    if let Some(path) = sources.file {
        file::set_fields(path, &mut layers);
    }
    environment::set_fields(sources.environment, &mut layers);
    for flag in sources.flags {
        let source = FaultSource::Flag(flag.field.clone());
        match layers::find(&flag.field) {
            Some(field) => layers.set_text(field, &flag.value, source),
            None => layers.reject(source, &flag.field, nearest::unknown_field(&flag.field)),
        }
    }
    layers.finish()
}

#[cfg(test)]
mod tests;
