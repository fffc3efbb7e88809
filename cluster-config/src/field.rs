//! The `section!` macro, which declares the options of one section, and the table it generates.
//!
//! Each section file declares its fields once: doc lines, name, type, default, bounds. The macro
//! generates the struct (the doc lines become its rustdoc), its `Default`, and a table of `Field`.
//! Loading, validation and the default file all read that table.
//!
//! The unit of a number is derived from its name (`body_timeout_ms`, `group_bytes_max`).
//! `rule.rs` holds the checks that involve several fields or that a range cannot express.

use crate::options::{LogFormat, StoreEngine};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Value;

/// Characters of a rejected text that a fault message quotes at most.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// The TOML type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Integer,
    Text,
    List,
}

impl Kind {
    /// The kind in words, for fault messages.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Integer => "a whole number",
            Self::Text => "a string",
            Self::List => "a list of strings",
        }
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Boolean => value.is_bool(),
            Self::Integer => value.is_integer(),
            Self::Text => value.is_str(),
            Self::List => value.as_array().is_some_and(|items| items.iter().all(Value::is_str)),
        }
    }
}

/// The values that a field accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Every value of the field's kind.
    Free,
    /// Whole numbers from the first to the second bound, both included, in the unit of the field.
    Range(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A condition in words that follow "must be"; the field's type or a rule checks it.
    Described(&'static str),
}

impl Bounds {
    /// The bounds of an optional path.
    pub(crate) const OPTIONAL_PATH: Self = Self::Described("a path; empty: none");
}

/// The declaration of one field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Name within the section.
    pub(crate) name: &'static str,
    /// Dotted name: `section.name`.
    pub(crate) path: &'static str,
    /// Doc lines of the declaration.
    pub(crate) doc: &'static [&'static str],
    pub(crate) kind: Kind,
    /// The value may be absent; an empty string means absent.
    pub(crate) is_optional: bool,
    pub(crate) bounds: Bounds,
    /// Tests whether a value converts to the type of the field.
    pub(crate) accepts: fn(&Value) -> bool,
}

impl Field {
    /// The environment variable that sets the field.
    pub(crate) fn variable(&self) -> String {
        format!("TRIGGERS__{}", self.path.replace('.', "__").to_uppercase())
    }

    /// The unit of a number in words, derived from the end of the name.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        let quantity = self.name.strip_suffix("_max").unwrap_or(self.name);
        let units = [
            ("_ms", "milliseconds"),
            ("_seconds", "seconds"),
            ("_per_minute", "per minute"),
            ("_bytes", "bytes"),
        ];
        let unit = units.into_iter().find(|(end, _)| quantity.ends_with(end));
        unit.filter(|_| self.kind == Kind::Integer).map(|(_, unit)| unit)
    }

    /// The accepted values, in words that follow "must be".
    pub(crate) fn allowed(&self) -> String {
        match self.bounds {
            Bounds::Free => self.kind.words().to_owned(),
            Bounds::Range(min, max) => {
                let unit = self.unit().map(|unit| format!(" {unit}")).unwrap_or_default();
                format!("{} to {}{unit}", grouped(min), grouped(max))
            }
            Bounds::Choice([only]) => (*only).to_owned(),
            Bounds::Choice(words) => format!("one of {}", words.join(", ")),
            Bounds::Described(words) => words.to_owned(),
        }
    }

    /// Describes what is wrong with a value, checked without the other fields.
    pub(crate) fn fault(&self, value: &Value) -> Option<String> {
        if !self.kind.holds(value) {
            return Some(format!("must be {}, but is {}", self.kind.words(), kind_found(value)));
        }
        let in_bounds = match (self.bounds, value) {
            (Bounds::Range(min, max), Value::Integer(number)) => (min..=max).contains(number),
            (Bounds::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
            _ => true,
        };
        if in_bounds && (self.accepts)(value) {
            return None;
        }
        let shown = match value {
            Value::Integer(number) => grouped(*number),
            // Debug formatting escapes line breaks: a fault is one line.
            Value::String(text) => {
                format!("{:?}", text.chars().take(SHOWN_CHARACTERS_MAX).collect::<String>())
            }
            other => other.to_string(),
        };
        Some(format!("must be {}, but is {shown}", self.allowed()))
    }
}

fn kind_found(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a decimal number",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list with items that are not strings",
        Value::Table(_) => "a table",
    }
}

/// Formats a number with its digits in groups of three (`10_000`), as TOML accepts it.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// A type that a field can have.
pub(crate) trait FieldType: DeserializeOwned + Serialize {
    const KIND: Kind;
    const IS_OPTIONAL: bool = false;

    /// The value as TOML, `None` if absent.
    fn to_value(&self) -> Option<Value> {
        let value = Value::try_from(self).ok();
        // Only a number above `i64::MAX` does not convert. No field accepts `i64::MAX` either.
        let too_large = Self::KIND == Kind::Integer && !Self::IS_OPTIONAL;
        value.or(too_large.then_some(Value::Integer(i64::MAX)))
    }
}

/// Tests whether a value converts to `T`.
pub(crate) fn accepts<T: FieldType>(value: &Value) -> bool {
    value.clone().try_into::<T>().is_ok()
}

macro_rules! field_types {
    ($($kind:ident: $($type:ty),+;)+) => {
        $($(impl FieldType for $type {
            const KIND: Kind = Kind::$kind;
        })+)+
    };
}

field_types! {
    Boolean: bool;
    Integer: u16, u32, u64, usize;
    Text: String, SocketAddr, PathBuf, LogFormat, StoreEngine;
    List: Vec<String>;
}

impl<T: FieldType> FieldType for Option<T> {
    const KIND: Kind = T::KIND;
    const IS_OPTIONAL: bool = true;
}

/// The declaration of one section.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    /// Doc lines of the declaration.
    pub(crate) doc: &'static [&'static str],
    pub(crate) fields: &'static [Field],
}

/// Declares a section: `"name" => Struct { /// doc, field: Type = default, bounds; … }`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $section:literal => $options:ident {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty = $default:expr, $bounds:expr;
            )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $options {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for $options {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl $options {
            /// The declaration of this section; the fields are in the order of the struct.
            pub(crate) const SECTION: $crate::field::Section = $crate::field::Section {
                name: $section,
                doc: &[$($section_doc),+],
                fields: &[$($crate::field::Field {
                    name: stringify!($name),
                    path: concat!($section, ".", stringify!($name)),
                    doc: &[$($doc),+],
                    kind: <$type as $crate::field::FieldType>::KIND,
                    is_optional: <$type as $crate::field::FieldType>::IS_OPTIONAL,
                    bounds: $bounds,
                    accepts: $crate::field::accepts::<$type>,
                }),+],
            };

            /// The values of the fields, in the order of declaration.
            pub(crate) fn values(&self) -> Vec<Option<toml::Value>> {
                vec![$($crate::field::FieldType::to_value(&self.$name)),+]
            }
        }
    };
}
