//! Suggests the most similar known name in the fault message of an unknown one.
//!
//! The same name in another section is preferred, then the name with the smallest edit distance,
//! if that is small. A name that resembles nothing gets no suggestion.

use crate::field::Field;
use crate::options::{SECTIONS, fields};

/// Longer names get no suggestion, which bounds the work for a hostile file.
const NAME_BYTES_MAX: usize = 128;

/// The fault message for an unknown field of a file or a flag.
pub(super) fn unknown_field(path: &str) -> String {
    match nearest_field(path) {
        Some(field) => format!("unknown field; did you mean {}?", field.path),
        None => "unknown field".to_owned(),
    }
}

/// The fault message for an unknown variable; `path` is the dotted name it would set.
pub(super) fn unknown_variable(path: &str) -> String {
    match nearest_field(path) {
        Some(field) => format!("unknown field; did you mean {}?", field.variable()),
        None => "unknown field".to_owned(),
    }
}

/// The fault message for an unknown section of a file.
pub(super) fn unknown_section(name: &str) -> String {
    match nearest(name, SECTIONS.iter().map(|section| (section.name, section))) {
        Some(section) => format!("unknown section; did you mean [{}]?", section.name),
        None => {
            let known: Vec<String> =
                SECTIONS.iter().map(|section| format!("[{}]", section.name)).collect();
            format!("unknown section; known are {}", known.join(", "))
        }
    }
}

fn nearest_field(path: &str) -> Option<&'static Field> {
    let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
    let mut same_name = fields().filter(|field| field.name == name);
    match (same_name.next(), same_name.next()) {
        (Some(field), None) => Some(field),
        _ => nearest(path, fields().map(|field| (field.path, field)))
            .or_else(|| nearest(name, fields().map(|field| (field.name, field)))),
    }
}

fn nearest<T>(name: &str, known: impl Iterator<Item = (&'static str, T)>) -> Option<T> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let distance_max = (name.len() / 4).max(2);
    known
        .map(|(known, item)| (distance(name, known), item))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, item)| item)
}

/// The Levenshtein distance of two texts.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, left) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, right) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest_field};

    #[test]
    fn distance_counts_changed_characters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("address", "address"), 0);
    }

    #[test]
    fn suggestions_prefer_the_right_name_in_the_wrong_section() {
        let path = |name: &str| nearest_field(name).map(|field| field.path);
        assert_eq!(path("listen.adress"), Some("listen.address"));
        assert_eq!(path("store.commits_in_flight_max"), Some("broker.commits_in_flight_max"));
        assert_eq!(path("limits.body_timeout"), Some("listen.body_timeout_ms"));
        assert_eq!(path("log.something_else_entirely"), None);
        assert_eq!(path(&"a".repeat(1_000)), None);
    }
}
