//! The fuzz body of loading: arbitrary bytes as a file and as environment variables.
//!
//! The fuzz target calls it; on stable Rust the property tests below do.

use super::layers::Layers;
use super::{Override, environment, file};
use crate::fault::FaultSource;
use std::path::PathBuf;

/// Loads arbitrary bytes; panics if accepted options are invalid (`CONFIG-1`).
pub fn fuzz_configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mut from_file, mut from_environment) = (Layers::default(), Layers::default());
    file::set_fields_of_text(text, FaultSource::File(PathBuf::new()), &mut from_file);
    let assignments = text.lines().filter_map(|line| line.parse::<Override>().ok());
    let variables = assignments.map(|Override { field, value }| (field, value));
    environment::set_fields(variables, &mut from_environment);
    for layers in [from_file, from_environment] {
        if let Ok(options) = layers.finish() {
            assert_eq!(options.validate(), Vec::new(), "CONFIG-1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fuzz_configuration;
    use crate::options::fields;
    use proptest::prelude::*;

    /// Lines that set real fields to arbitrary values, as TOML or as environment variables.
    fn assignments() -> impl Strategy<Value = String> {
        let names: Vec<_> =
            fields().flat_map(|field| [field.path.to_owned(), field.variable()]).collect();
        let line = (proptest::sample::select(names), "-?[0-9]{0,20}|\"\\PC{0,10}\"|true|\\[\\]");
        proptest::collection::vec(line.prop_map(|(name, value)| format!("{name}={value}")), 0..5)
            .prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn arbitrary_text(text in "\\PC{0,80}") {
            fuzz_configuration(text.as_bytes());
        }

        #[test]
        fn assignments_of_arbitrary_values(text in assignments()) {
            fuzz_configuration(text.as_bytes());
        }
    }
}
