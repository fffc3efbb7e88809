//! `Layers` collects the values that the sources set, and the faults found so far.
//!
//! A later source replaces the value of an earlier one. A rejected value is recorded as a fault and
//! dropped, so that loading continues and one run reports every fault.
//!
//! Invariant `LOAD-3`: every kept value passes `Field::fault`, so that constructing the options
//! from them cannot fail.

use crate::fault::{ConfigError, Fault, FaultSource};
use crate::field::{Field, Kind};
use crate::options::{NodeOptions, SECTIONS, fields};
use crate::rule::{self, Rule};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Finds a field by its dotted name.
pub(super) fn find(path: &str) -> Option<&'static Field> {
    fields().find(|field| field.path == path)
}

/// The values and faults of the sources merged so far.
#[derive(Default)]
pub(super) struct Layers {
    values: BTreeMap<&'static str, (Value, FaultSource)>,
    rejected: BTreeSet<&'static str>,
    faults: Vec<Fault>,
}

impl Layers {
    /// Records a fault of an unknown field, or of a complete source (`field` is empty).
    pub(super) fn reject(&mut self, source: FaultSource, field: &str, message: String) {
        self.faults.push(Fault { source, field: field.to_owned(), message });
    }

    /// Sets a field, overriding earlier sources, or records why the value is rejected.
    pub(super) fn set(&mut self, field: &'static Field, value: Value, source: FaultSource) {
        match field.fault(&value) {
            None => {
                self.values.insert(field.path, (value, source));
            }
            Some(message) => {
                self.rejected.insert(field.path);
                self.reject(source, field.path, message);
            }
        }
    }

    /// Converts the text to the kind of the field, then sets the field.
    pub(super) fn set_text(&mut self, field: &'static Field, text: &str, source: FaultSource) {
        self.set(field, typed(field.kind, text), source);
    }

    /// Checks the rules and returns the options, or all faults.
    pub(super) fn finish(mut self) -> Result<NodeOptions, ConfigError> {
        let options = self.table().try_into::<NodeOptions>();
        match &options {
            Ok(options) => {
                for (rule, message) in rule::broken(options, &self.rejected) {
                    self.reject(self.source(rule), rule.fields[0], message);
                }
            }
            Err(error) => self.reject(FaultSource::Default, "", error.message().to_owned()),
        }
        let faults = self.faults;
        options.ok().filter(|_| faults.is_empty()).ok_or(ConfigError { faults })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        for section in SECTIONS {
            let mut values = Table::new();
            for field in section.fields {
                let Some((value, _)) = self.values.get(field.path) else { continue };
                if !field.is_optional || value.as_str() != Some("") {
                    values.insert(field.name.to_owned(), value.clone());
                }
            }
            table.insert(section.name.to_owned(), Value::Table(values));
        }
        table
    }

    fn source(&self, rule: &Rule) -> FaultSource {
        let found = rule.fields.iter().find_map(|field| self.values.get(field));
        found.map_or(FaultSource::Default, |(_, source)| source.clone())
    }
}

/// Converts a text to a kind. A text that does not convert stays text, so the field rejects it.
fn typed(kind: Kind, text: &str) -> Value {
    let plain = || Value::String(text.to_owned());
    match kind {
        Kind::Boolean => text.trim().parse().map_or_else(|_| plain(), Value::Boolean),
        Kind::Integer => {
            text.trim().replace('_', "").parse().map_or_else(|_| plain(), Value::Integer)
        }
        Kind::Text => plain(),
        Kind::List if text.trim().is_empty() => Value::Array(Vec::new()),
        Kind::List => Value::Array(
            text.split(',').map(|item| Value::String(item.trim().to_owned())).collect(),
        ),
    }
}
