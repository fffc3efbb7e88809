//! The commented default file, written from the declarations of the fields.
//!
//! Each field comes with its doc lines, with what it may hold in its unit, and with the environment variable that sets it.
//! Numbers are grouped as people read them. An optional field without a value is written as an empty string, which loading
//! takes for "none". `default.toml` beside this crate is this text; a test compares.
//!
//! It is not a serializer of arbitrary options: serde does that, without comments.

use toml::Value;

use crate::field::{Field, grouped};
use crate::options::{NodeOptions, SECTIONS};

const HEAD: &str = "\
# Options of a Triggers node, with their defaults.
#
# What is left out keeps its default. An environment variable beats this file, a flag beats the environment.
# Unknown names are refused. `triggers config check --config FILE` lists everything that is wrong with a file.
";

/// The commented default file: valid TOML, a comment a field, every value the default.
pub fn default_toml() -> String {
    let mut text = HEAD.to_owned();
    let mut values = NodeOptions::default().values().into_iter();
    for section in SECTIONS {
        text.push('\n');
        push_comment(&mut text, section.doc);
        text.push_str(&format!("[{}]\n", section.name));
        for (field, value) in section.fields.iter().zip(values.by_ref()) {
            push_field(&mut text, field, value);
        }
    }
    text
}

fn push_field(text: &mut String, field: &Field, value: Option<Value>) {
    let shown = match value {
        Some(Value::Integer(number)) => grouped(number),
        Some(value) => value.to_string(),
        None => "\"\"".to_owned(),
    };
    text.push('\n');
    push_comment(text, field.doc);
    text.push_str(&format!("# Must be {}. {}\n", field.allowed(), field.variable()));
    text.push_str(&format!("{} = {shown}\n", field.name));
}

fn push_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("# {}\n", line.trim()));
    }
}
