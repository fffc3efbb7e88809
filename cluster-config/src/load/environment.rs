//! Loads options from environment variables.
//!
//! `TRIGGERS__SECTION__NAME` sets `section.name`: capital letters, two underscores between the
//! parts. A variable with this prefix that names no field is a fault. Other variables, such as
//! `TRIGGERS_ADMIN_KEY`, are ignored.
//!
//! Variables are processed in the order of their names, so that faults have a stable order.

use super::layers::Layers;
use super::nearest;
use crate::fault::FaultSource;
use crate::options::fields;

/// Prefix of the names of all variables that set a field.
const PREFIX: &str = "TRIGGERS__";

/// The environment variables of this process that have the prefix `TRIGGERS__`.
///
/// Unlike `std::env::vars` it does not panic on invalid UTF-8: values get replacement characters.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// Sets the fields that the variables name.
pub(super) fn set_fields(
    environment: impl IntoIterator<Item = (String, String)>,
    layers: &mut Layers,
) {
    let ours = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
    let mut variables: Vec<(String, String)> = ours.collect();
    variables.sort_by(|(left, _), (right, _)| left.cmp(right));
    for (name, text) in variables {
        let source = FaultSource::Environment(name.clone());
        match fields().find(|field| field.variable() == name) {
            Some(field) => layers.set_text(field, &text, source),
            None => {
                let path = name[PREFIX.len()..].replace("__", ".").to_lowercase();
                layers.reject(source, &path, nearest::unknown_variable(&path));
            }
        }
    }
}
