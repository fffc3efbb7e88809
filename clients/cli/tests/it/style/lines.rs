//! Checks that look at the lines of one file.

use super::Failure;
use super::sources::Source;

const COLUMNS_MAX: usize = 100;
const DOC_WORDS_MIN: usize = 3;
/// Results that a wildcard arm must not return: they turn a wiring mistake into a valid answer.
const ANSWERS: [&str; 4] = ["NotFound", "TooMany", "Vec::new()", "Gone"];

/// Every Rust file starts with a `//!` header.
pub(super) fn headers(sources: &[Source]) -> Vec<Failure> {
    let without = sources.iter().filter(|source| {
        let first = source.lines.iter().find(|line| !line.trim().is_empty());
        source.is_rust() && !first.is_some_and(|line| line.starts_with("//!"))
    });
    without.map(|source| Failure::new(source, 1, "no //! header")).collect()
}

/// Lines have at most 100 columns, except tables, code and links of documents.
pub(super) fn long_lines(sources: &[Source]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for source in sources {
        let mut is_code = false;
        for (number, line) in source.numbered() {
            is_code ^= !source.is_rust() && line.trim_start().starts_with("```");
            let columns = line.chars().count();
            let is_exempt = !source.is_rust()
                && (is_code || line.trim_start().starts_with('|') || has_link(line));
            if columns > COLUMNS_MAX && !is_exempt {
                failures.push(Failure::new(source, number, format!("{columns} columns")));
            }
        }
    }
    failures
}

/// Tests for a link or another part that cannot be wrapped.
fn has_link(line: &str) -> bool {
    line.contains("](") || line.contains("://") || !line.trim().contains(' ')
}

/// Doc comments have at least three words.
pub(super) fn short_docs(sources: &[Source]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let mut words = 0;
        let mut first = 0;
        let end = (source.lines.len() + 1, "");
        for (number, line) in source.numbered().chain([end]) {
            if let Some(text) = line.trim_start().strip_prefix("///") {
                first = if words == 0 { number } else { first };
                words += text.split_whitespace().count();
                continue;
            }
            if (1..DOC_WORDS_MIN).contains(&words) {
                failures.push(Failure::new(source, first, "doc comment of one or two words"));
            }
            words = 0;
        }
    }
    failures
}

/// Wildcard arms of product code do not return an answer such as `NotFound`.
pub(super) fn wildcard_arms(sources: &[Source]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (number, line) in source.numbered().take(source.product_lines) {
            let Some(arm) = line.trim_start().strip_prefix("_ => ") else { continue };
            if ANSWERS.iter().any(|answer| arm.contains(answer)) {
                failures.push(Failure::new(source, number, format!("wildcard arm: {arm}")));
            }
        }
    }
    failures
}

/// Functions have no tuples as parameters; a named struct says what the values are.
pub(super) fn tuple_parameters(sources: &[Source]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (number, line) in source.numbered().take(source.product_lines) {
            if is_tuple_parameter(line.trim()) {
                failures.push(Failure::new(source, number, "tuple as a parameter"));
            }
        }
    }
    failures
}

/// Tests for a line such as `(first, second): (First, Second),` of a function's signature.
fn is_tuple_parameter(line: &str) -> bool {
    let parameter = match line.split_once("fn ") {
        Some((_, signature)) => signature.split_once("((").map(|(_, parameter)| parameter),
        None => line.strip_prefix('(').filter(|_| line.ends_with("),")),
    };
    let names =
        parameter.and_then(|parameter| parameter.split_once("): (")).map(|(names, _)| names);
    let is_name = |character: char| character.is_ascii_lowercase() || "_, ".contains(character);
    names.is_some_and(|names| names.contains(", ") && names.chars().all(is_name))
}
