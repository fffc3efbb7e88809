//! Checks of the workspace's sources and documents that the compiler and clippy do not make.
//!
//! `CHECKS` lists them; each failure is reported as `path:line: what (check)`.
//!
//! - STYLE-1: every check finds a planted example, and accepts its correction.
//! - STYLE-2: the invariants of the workspace have unique ids, and every cited id is defined.

mod invariants;
mod lines;
mod names;
mod sources;

use sources::{Source, workspace_sources};

/// A failure at a line of a source.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Failure {
    path: String,
    line: usize,
    what: String,
}

impl Failure {
    fn new(source: &Source, line: usize, what: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line, what: what.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

type Check = fn(&[Source]) -> Vec<Failure>;

/// The checks by name.
const CHECKS: [(&str, Check); 8] = [
    ("every Rust file starts with a header", lines::headers),
    ("lines have at most 100 columns", lines::long_lines),
    ("doc comments have more than two words", lines::short_docs),
    ("no tuple is a parameter", lines::tuple_parameters),
    ("no wildcard arm is an answer", lines::wildcard_arms),
    ("types have a name of their own in the crate", names::type_names),
    ("invariant ids are defined once", invariants::defined_twice),
    ("cited invariant ids are defined", invariants::undefined),
];

#[test]
fn the_workspace_follows_the_style() {
    let sources = workspace_sources();
    assert!(sources.len() > 100, "the workspace was found");
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let mut failures = check(&sources);
        failures.sort();
        failed.extend(failures.iter().map(|failure| format!("{failure} ({name})")));
    }
    assert!(failed.is_empty(), "{} failures\n{}", failed.len(), failed.join("\n"));
}

/// Runs a check over one file and returns the lines of its failures.
fn failing_lines(check: Check, path: &str, text: &str) -> Vec<usize> {
    let failures = check(&[Source::new(path, text)]);
    failures.into_iter().map(|failure| failure.line).collect()
}

#[test]
fn a_missing_header_is_found() {
    let lines = |text| failing_lines(lines::headers, "a/src/b.rs", text);
    assert_eq!(lines("use std::fmt;\n"), [1]);
    assert_eq!(lines("//! Formats.\n"), [0; 0]);
}

#[test]
fn long_lines_are_found_except_links_and_tables() {
    let long = "word ".repeat(25);
    let lines = |path, text: &str| failing_lines(lines::long_lines, path, text);
    assert_eq!(lines("a/src/b.rs", &format!("//! a\n// {long}\n")), [2]);
    assert_eq!(lines("docs/a.md", &format!("a\n{long}\n")), [2]);
    assert_eq!(lines("docs/a.md", &format!("| {long} |\n```\n{long}\n```\n")), [0; 0]);
    assert_eq!(
        lines("docs/a.md", &format!("[a](https://a.example/{})\n", "x/".repeat(50))),
        [0; 0]
    );
}

#[test]
fn short_doc_comments_are_found() {
    let lines = |text| failing_lines(lines::short_docs, "a/src/b.rs", text);
    assert_eq!(lines("/// Which.\nfn a() {}\n/// The id.\n/// It is unique.\nfn b() {}\n"), [1]);
    assert_eq!(lines("/// Event to delete.\nfn a() {}\n"), [0; 0]);
}

#[test]
fn wildcard_arms_with_an_answer_are_found() {
    let lines = |text| failing_lines(lines::wildcard_arms, "a/src/b.rs", text);
    assert_eq!(lines("_ => Vec::new(),\n        _ => Err(Error::NotFound),\n"), [1, 2]);
    assert_eq!(lines("_ => None,\n"), [0; 0]);
    assert_eq!(lines("#[cfg(test)]\nmod tests {\n    _ => Vec::new(),\n"), [0; 0]);
}

#[test]
fn tuple_parameters_are_found() {
    let lines = |text| failing_lines(lines::tuple_parameters, "a/src/b.rs", text);
    assert_eq!(lines("fn a((b, c): (u8, u8)) {\n    (b, c): (u8, u8),\n"), [1, 2]);
    assert_eq!(lines("fn a(b: (u8, u8)) {\n    let (b, c): (u8, u8) = d(),\n"), [0; 0]);
}

#[test]
fn repeated_type_names_are_found() {
    let source = |path| Source::new(path, "pub struct Options;\nstruct State;\n");
    let lines = |first, second| {
        let failures = names::type_names(&[source(first), source(second)]);
        failures.into_iter().map(|failure| failure.line).collect::<Vec<_>>()
    };
    assert_eq!(lines("a/src/b.rs", "a/src/c.rs"), [1]);
    assert_eq!(lines("a/src/b.rs", "b/src/b.rs"), [0; 0]);
    assert_eq!(failing_lines(names::type_names, "a/src/b.rs", "pub(crate) struct State {\n"), [1]);
}

#[test]
fn repeated_and_unknown_invariants_are_found() {
    let first =
        Source::new("a/src/a.rs", "//! - `QUEUE-1`: a.\n//! - `QUEUE-2`: b, by `QUEUE-1`.\n");
    let second = Source::new("b/src/b.rs", "//! Invariant `QUEUE-1`: c.\n// QUEUE-3, UTF-8\n");
    let sources = [first, second];
    let lines = |check: Check| {
        check(&sources).into_iter().map(|failure| (failure.path, failure.line)).collect::<Vec<_>>()
    };
    assert_eq!(lines(invariants::defined_twice), [("b/src/b.rs".to_owned(), 1)]);
    assert_eq!(lines(invariants::undefined), [("b/src/b.rs".to_owned(), 2)]);
}
