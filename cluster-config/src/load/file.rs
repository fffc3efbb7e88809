//! Loads options from a TOML file.
//!
//! Sections are tables and fields are their keys. A file that cannot be read or parsed is one
//! fault. Otherwise each unknown section, unknown field and rejected value is a fault of its own.
//!
//! At most 1 MiB is read, so that a wrong path (a disk image, a device) cannot exhaust memory.

use super::layers::{Layers, find};
use super::nearest;
use crate::fault::FaultSource;
use crate::options::SECTIONS;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use toml::{Table, Value};

const FILE_BYTES_MAX: u64 = 1 << 20;

/// Sets the fields that the file contains.
pub(super) fn set_fields(path: &Path, layers: &mut Layers) {
    let source = FaultSource::File(path.to_owned());
    match read_text(path) {
        Ok(text) => set_fields_of_text(&text, source, layers),
        Err(error) => layers.reject(source, "", format!("cannot be read: {error}")),
    }
}

/// Sets the fields that a TOML text contains.
pub(super) fn set_fields_of_text(text: &str, source: FaultSource, layers: &mut Layers) {
    let table = match parse(text) {
        Ok(table) => table,
        Err(message) => return layers.reject(source, "", message),
    };
    for (name, value) in table {
        let known = SECTIONS.iter().any(|section| section.name == name);
        match value {
            Value::Table(values) if known => set_section(&name, values, &source, layers),
            _ if known => layers.reject(
                source.clone(),
                &name,
                format!("must be a section, written as [{name}]"),
            ),
            Value::Table(_) => {
                layers.reject(source.clone(), &name, nearest::unknown_section(&name))
            }
            _ => layers.reject(source.clone(), &name, nearest::unknown_field(&name)),
        }
    }
}

fn set_section(section: &str, values: Table, source: &FaultSource, layers: &mut Layers) {
    for (name, value) in values {
        let path = format!("{section}.{name}");
        match find(&path) {
            Some(field) => layers.set(field, value, source.clone()),
            None => layers.reject(source.clone(), &path, nearest::unknown_field(&path)),
        }
    }
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map(|span| {
            text.as_bytes()[..span.start.min(text.len())].split(|&byte| byte == b'\n').count()
        });
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        format!("{place}{}", error.message().replace('\n', ", "))
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
