//! Declarations of fields: the one table from which structs, defaults, bounds, comments and checks come.
//!
//! A section file states its fields once with `section!`: doc lines, name, type, default, bounds. The macro makes the
//! struct (the doc lines become its rustdoc), its `Default`, and a table of `Field`. Loading finds names and types in the
//! table, validation its bounds, and the template writes it out as comments.
//!
//! Units are the last part of a name (`body_timeout_ms`, `group_bytes_max`), so the unit is read off the name.
//! Rules between fields, and rules that a range cannot say, are in `rule.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::Value;

/// How much of a refused text a fault shows.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// How a field is written in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Integer,
    Text,
    List,
}

impl Kind {
    /// The kind in words, for faults.
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

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Whatever the kind allows.
    Free,
    /// A whole number from the first to the second, both included, in the unit of the field.
    Whole(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// What a range cannot say, in words that follow "must be"; the type or a rule checks it.
    Described(&'static str),
}

/// The declaration of one field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Name in its section.
    pub(crate) name: &'static str,
    /// Dotted name: `section.name`.
    pub(crate) path: &'static str,
    /// Doc lines, as in the source.
    pub(crate) doc: &'static [&'static str],
    pub(crate) kind: Kind,
    /// May be left out; an empty string means the same.
    pub(crate) optional: bool,
    pub(crate) bounds: Bounds,
    /// Tells whether the type of the field takes a value.
    pub(crate) accepts: fn(&Value) -> bool,
}

impl Field {
    /// The environment variable that sets the field.
    pub(crate) fn variable(&self) -> String {
        format!("TRIGGERS__{}", self.path.replace('.', "__").to_uppercase())
    }

    /// The unit of a number in words, read off the end of the name.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        let quantity = self.name.strip_suffix("_max").unwrap_or(self.name);
        let units = [
            ("_ms", "milliseconds"),
            ("_seconds", "seconds"),
            ("_per_minute", "per minute"),
            ("_bytes", "bytes"),
        ];
        let number = self.kind == Kind::Integer;
        units
            .into_iter()
            .find_map(|(end, unit)| (number && quantity.ends_with(end)).then_some(unit))
    }

    /// What the field may hold, in words that follow "must be".
    pub(crate) fn allowed(&self) -> String {
        match self.bounds {
            Bounds::Free => self.kind.words().to_owned(),
            Bounds::Whole(min, max) => {
                let unit = self.unit().map(|unit| format!(" {unit}")).unwrap_or_default();
                format!("{} to {}{unit}", grouped(min), grouped(max))
            }
            Bounds::Choice([only]) => (*only).to_owned(),
            Bounds::Choice(words) => format!("one of {}", words.join(", ")),
            Bounds::Described(words) => words.to_owned(),
        }
    }

    /// What is wrong with a value, or nothing. Rules are not asked: they may need other fields.
    pub(crate) fn fault(&self, value: &Value) -> Option<String> {
        if !self.kind.holds(value) {
            return Some(format!("must be {}, but is {}", self.kind.words(), kind_found(value)));
        }
        let in_bounds = match (self.bounds, value) {
            (Bounds::Whole(min, max), Value::Integer(number)) => (min..=max).contains(number),
            (Bounds::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
            _ => true,
        };
        if in_bounds && (self.accepts)(value) {
            return None;
        }
        let shown = match value {
            Value::Integer(number) => grouped(*number),
            // Debug keeps a text with line breaks on the one line that a fault has.
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
        Value::Array(_) => "a list of something else",
        Value::Table(_) => "a table",
    }
}

/// A number with its digits in groups of three, which TOML reads as it is.
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
pub(crate) trait FieldType: DeserializeOwned {
    const KIND: Kind;
    const OPTIONAL: bool = false;

    /// The value as TOML; nothing for an absent optional. Numbers that TOML cannot hold become its largest.
    fn to_value(&self) -> Option<Value>;
}

/// Tells whether `T` can be made of a value.
pub(crate) fn accepts<T: FieldType>(value: &Value) -> bool {
    value.clone().try_into::<T>().is_ok()
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {
        $(impl FieldType for $type {
            const KIND: Kind = Kind::Integer;

            fn to_value(&self) -> Option<Value> {
                Some(Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        })+
    };
}

whole_numbers!(u16, u32, u64, usize);

impl FieldType for bool {
    const KIND: Kind = Kind::Boolean;

    fn to_value(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

impl FieldType for String {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

impl FieldType for SocketAddr {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl FieldType for PathBuf {
    const KIND: Kind = Kind::Text;

    fn to_value(&self) -> Option<Value> {
        Some(Value::String(self.to_string_lossy().into_owned()))
    }
}

impl<T: FieldType> FieldType for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;

    fn to_value(&self) -> Option<Value> {
        self.as_ref().and_then(FieldType::to_value)
    }
}

impl FieldType for Vec<String> {
    const KIND: Kind = Kind::List;

    fn to_value(&self) -> Option<Value> {
        Some(Value::Array(self.iter().cloned().map(Value::String).collect()))
    }
}

/// The declaration of one section.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    /// Doc lines, as in the source.
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
            /// The declaration of this section, its fields in the order of the struct.
            pub(crate) const SECTION: $crate::field::Section = $crate::field::Section {
                name: $section,
                doc: &[$($section_doc),+],
                fields: &[$($crate::field::Field {
                    name: stringify!($name),
                    path: concat!($section, ".", stringify!($name)),
                    doc: &[$($doc),+],
                    kind: <$type as $crate::field::FieldType>::KIND,
                    optional: <$type as $crate::field::FieldType>::OPTIONAL,
                    bounds: $bounds,
                    accepts: $crate::field::accepts::<$type>,
                }),+],
            };

            /// The values of the fields, in the order of the declaration.
            pub(crate) fn values(&self) -> Vec<Option<toml::Value>> {
                vec![$($crate::field::FieldType::to_value(&self.$name)),+]
            }
        }
    };
}
