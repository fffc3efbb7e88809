//! Check of the names of types.

use super::Failure;
use super::sources::Source;
use std::collections::BTreeMap;

/// Names that say nothing, which only a type that is private to its file may have.
const EMPTY_NAMES: [&str; 3] = ["Inner", "Shared", "State"];

/// Types that other files can use have a name of their own in the crate.
pub(super) fn type_names(sources: &[Source]) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut known: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (number, line) in source.numbered().take(source.product_lines) {
            let Some(name) = shared_type(line) else { continue };
            let place = format!("{}:{number}", source.path);
            if EMPTY_NAMES.contains(&name) {
                let what = format!("type name {name} says nothing");
                failures.push(Failure::new(source, number, what));
            }
            if let Some(other) = known.insert((source.crate_folder(), name), place) {
                let what = format!("type name {name} is also at {other}");
                failures.push(Failure::new(source, number, what));
            }
        }
    }
    failures
}

/// The name of the type that a line declares for other files.
fn shared_type(line: &str) -> Option<&str> {
    let declaration = line.trim_start().strip_prefix("pub")?;
    let declaration = match declaration.strip_prefix('(') {
        Some(restricted) => restricted.split_once(") ")?.1,
        None => declaration.strip_prefix(' ')?,
    };
    let kinds = ["struct ", "enum ", "trait ", "type ", "union "];
    let name = kinds.iter().find_map(|kind| declaration.strip_prefix(kind))?;
    let name =
        name.split(|character: char| !character.is_alphanumeric() && character != '_').next();
    // A macro that declares types has a variable in this place.
    name.filter(|name| !name.is_empty())
}
