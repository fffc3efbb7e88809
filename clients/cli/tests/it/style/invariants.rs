//! Checks of the ids of invariants, such as `INBOX-1`.
//!
//! A file header, or a doc comment that starts with "Invariant", defines an id before a colon, at
//! the start of a line or list item, or after "Invariant(s)" or a semicolon. Every other id in a
//! source or document is a citation.

use super::Failure;
use super::sources::Source;
use std::collections::{BTreeMap, BTreeSet};

/// Families that look like ids of invariants and are none.
const OTHER_FAMILIES: [&str; 9] =
    ["UTF", "SHA", "RFC", "ISO", "HMAC-SHA", "AES", "SCRAM-SHA", "CRC", "SSH"];

/// An id in a line of a source.
struct Mention<'a> {
    source: &'a Source,
    line: usize,
    id: &'a str,
    is_definition: bool,
}

/// Every id is defined in one place.
pub(super) fn defined_twice(sources: &[Source]) -> Vec<Failure> {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let mut failures = Vec::new();
    for Mention { source, line, id, .. } in
        mentions(sources).into_iter().filter(|mention| mention.is_definition)
    {
        if let Some(other) = known.insert(id, format!("{}:{line}", source.path)) {
            failures.push(Failure::new(source, line, format!("{id} is also defined at {other}")));
        }
    }
    failures
}

/// Every cited id is defined somewhere.
pub(super) fn undefined(sources: &[Source]) -> Vec<Failure> {
    let (definitions, citations): (Vec<_>, Vec<_>) =
        mentions(sources).into_iter().partition(|mention| mention.is_definition);
    let known: BTreeSet<&str> = definitions.iter().map(|mention| mention.id).collect();
    let unknown = citations.into_iter().filter(|mention| !known.contains(mention.id));
    let failure = |mention: Mention<'_>| {
        Failure::new(mention.source, mention.line, format!("{} is not defined", mention.id))
    };
    unknown.map(failure).collect()
}

fn mentions(sources: &[Source]) -> Vec<Mention<'_>> {
    let mut mentions = Vec::new();
    // The changelog cites ids of the past, and the tests of this check cite examples.
    let is_skipped = |path: &str| path == "CHANGELOG.md" || path.ends_with("/style.rs");
    for source in sources.iter().filter(|source| !is_skipped(&source.path)) {
        for (line, text) in source.numbered() {
            let doc = || {
                text.trim_start().strip_prefix("///").filter(|doc| doc.starts_with(" Invariant"))
            };
            let header = text.trim_start().strip_prefix("//!").or_else(doc);
            for (start, id) in ids(header.unwrap_or(text)) {
                let is_definition = header.is_some_and(|header| {
                    let after = header[start + id.len()..].trim_start_matches('`');
                    after.starts_with(':') || introduces(header[..start].trim_end_matches('`'))
                });
                mentions.push(Mention { source, line, id, is_definition });
            }
        }
    }
    mentions
}

/// Tests whether the text before an id makes it a definition.
fn introduces(before: &str) -> bool {
    let text = before.trim();
    let is_numbered = text.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
    text.is_empty()
        || is_numbered
        || text == "-"
        || [";", "Invariant", "Invariants", "Invariant:", "Invariants:"]
            .iter()
            .any(|end| text.ends_with(end))
}

/// The ids in a text, with their positions: capital letters and digits, then a number.
fn ids(text: &str) -> Vec<(usize, &str)> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '-';
    let mut ids = Vec::new();
    let mut start = 0;
    for token in text.split(|character: char| !is_part(character)) {
        if is_id(token) {
            ids.push((start, token));
        }
        start = match text[start + token.len()..].chars().next() {
            Some(separator) => start + token.len() + separator.len_utf8(),
            None => text.len(),
        };
    }
    ids
}

fn is_id(token: &str) -> bool {
    let Some((family, number)) = token.rsplit_once('-') else { return false };
    let digits = number.trim_start_matches(|character: char| character.is_ascii_uppercase());
    let is_numbered = number.len() - digits.len() <= 1
        && (1..=2).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_family = family.len() >= 2
        && family.starts_with(|character: char| character.is_ascii_uppercase())
        && !family.bytes().any(|byte| byte.is_ascii_lowercase());
    is_numbered && is_family && !OTHER_FAMILIES.contains(&family)
}
