//! Layers: the value of each field that some source set, and the faults so far.
//!
//! A stronger source replaces what a weaker one offered. A value that its field refuses is recorded as a fault and dropped, so that
//! the rest can still be checked: one run shows everything there is to correct.
//!
//! Invariant LAYERS-1: the kept values all pass `Field::fault`, so that building the options of them cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::fault::{ConfigError, Fault, FaultSource};
use crate::field::{Field, Kind};
use crate::options::{NodeOptions, SECTIONS, fields};
use crate::rule::{self, Rule};

/// The field of a dotted name.
pub(super) fn find(path: &str) -> Option<&'static Field> {
    fields().find(|field| field.path == path)
}

#[derive(Default)]
pub(super) struct Layers {
    values: BTreeMap<&'static str, (Value, FaultSource)>,
    refused: BTreeSet<&'static str>,
    faults: Vec<Fault>,
}

impl Layers {
    /// Records a fault that belongs to no known field, or to a whole source (an empty `field`).
    pub(super) fn refuse(&mut self, source: FaultSource, field: &str, message: String) {
        self.faults.push(Fault { source, field: field.to_owned(), message });
    }

    /// Takes a value over what weaker sources set, or records what is wrong with it.
    pub(super) fn offer(&mut self, field: &'static Field, value: Value, source: FaultSource) {
        match field.fault(&value) {
            None => {
                self.values.insert(field.path, (value, source));
            }
            Some(message) => {
                self.refused.insert(field.path);
                self.refuse(source, field.path, message);
            }
        }
    }

    /// Like `offer`, with the text typed as the field is.
    pub(super) fn offer_text(&mut self, field: &'static Field, text: &str, source: FaultSource) {
        self.offer(field, typed(field.kind, text), source);
    }

    /// The options, if there was no fault and no rule is broken.
    pub(super) fn finish(mut self) -> Result<NodeOptions, ConfigError> {
        match self.table().try_into::<NodeOptions>() {
            Ok(options) => {
                for (rule, message) in rule::broken(&options, &self.refused) {
                    let source = self.source(rule);
                    self.refuse(source, rule.fields[0], message);
                }
                if self.faults.is_empty() {
                    Ok(options)
                } else {
                    Err(ConfigError { faults: self.faults })
                }
            }
            Err(error) => {
                self.refuse(FaultSource::Default, "", error.message().to_owned());
                Err(ConfigError { faults: self.faults })
            }
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        for section in SECTIONS {
            let mut values = Table::new();
            for field in section.fields {
                match self.values.get(field.path) {
                    Some((Value::String(text), _)) if field.optional && text.is_empty() => {}
                    Some((value, _)) => {
                        values.insert(field.name.to_owned(), value.clone());
                    }
                    None => {}
                }
            }
            table.insert(section.name.to_owned(), Value::Table(values));
        }
        table
    }

    fn source(&self, rule: &Rule) -> FaultSource {
        let set = rule.fields.iter().find_map(|field| self.values.get(field));
        set.map_or(FaultSource::Default, |(_, source)| source.clone())
    }
}

/// A text as a value of a kind; a text that is none stays text, which the field then refuses.
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
