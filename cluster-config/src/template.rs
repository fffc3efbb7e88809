//! Generates the commented default file from the declarations of the fields.
//!
//! Each field is written with its doc lines, its accepted values, its environment variable and its
//! default. An absent optional field is written as an empty string. A test compares the result
//! with `default.toml` in this crate's folder.

use crate::field::{Field, grouped};
use crate::options::{NodeOptions, SECTIONS};
use toml::Value;

/// Columns of a comment in the file.
const COLUMNS_MAX: usize = 100;

const HEAD: &str = "\
# Options of a Triggers node, with their defaults.
#
# An option that is left out has its default. An environment variable overrides this file, and a
# command-line flag overrides the environment. Unknown names are rejected.
# `triggers config check --config FILE` lists every fault of a file.
";

/// Returns the default file: valid TOML with every field at its default, each with a comment.
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
    let (allowed, variable) = (field.allowed(), field.variable());
    let is_one_line = allowed.len() + variable.len() <= COLUMNS_MAX - "# Must be . ".len();
    let separator = if is_one_line { " " } else { "\n# " };
    text.push_str(&format!("# Must be {allowed}.{separator}{variable}\n"));
    text.push_str(&format!("{} = {shown}\n", field.name));
}

fn push_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        text.push_str(&format!("# {}\n", line.trim()));
    }
}
