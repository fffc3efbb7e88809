//! Environment variables as a source.
//!
//! `TRIGGERS__SECTION__NAME` sets `section.name`, in capitals and with two underscores between the parts. Variables with
//! another prefix are somebody else's (`TRIGGERS_ADMIN_KEY` is the node's) and ignored; one with this prefix that names no
//! field is a fault.
//!
//! Variables are taken in the order of their names, so that faults come out the same at every start.

use super::layers::Layers;
use super::nearest;
use crate::fault::FaultSource;
use crate::options::fields;

/// What the name of every variable of ours begins with.
const PREFIX: &str = "TRIGGERS__";

/// The variables of this process that set a field. Unlike `std::env::vars` it does not panic if some variable is not
/// UTF-8; such a value has replacement characters.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        Some((name, value.to_string_lossy().into_owned()))
    })
}

/// Offers what the variables hold.
pub(super) fn offer(environment: impl IntoIterator<Item = (String, String)>, layers: &mut Layers) {
    let ours = environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX));
    let mut variables: Vec<(String, String)> = ours.collect();
    variables.sort_by(|(left, _), (right, _)| left.cmp(right));
    for (name, text) in variables {
        let source = FaultSource::Environment(name.clone());
        match fields().find(|field| field.variable() == name) {
            Some(field) => layers.offer_text(field, &text, source),
            None => {
                let path = name[PREFIX.len()..].replace("__", ".").to_lowercase();
                layers.refuse(source, &path, nearest::unknown_variable(&path));
            }
        }
    }
}
