//! Validates that a payload is an I-JSON object (RFC 7493) with at most 127 levels of nesting.
//!
//! I-JSON forbids lone surrogates, duplicate member names and numbers beyond a double. JSON
//! libraries differ in how they treat these, and payloads are passed unchanged to consumers that
//! use any library. A single such payload could make a consumer reject a complete inbox page.
//!
//! Invariants:
//! - `JSON-1`: no input causes a panic or a stack overflow.
//! - `JSON-2`: every accepted payload parses in every I-JSON parser.

use crate::Malformed;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;

/// Up to this number of members, duplicates are found by comparison, beyond it with a hash set.
const COMPARED_MEMBERS_MAX: usize = 16;

/// Validates one payload.
///
/// # Errors
/// [`Malformed`] with the reason and, if known, the line and column in the payload.
pub fn check_payload(text: &str) -> Result<(), Malformed> {
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(Malformed("must be a JSON object".into()));
    }
    match serde_json::from_str::<Checked>(text) {
        Ok(Checked) => Ok(()),
        Err(error) => Err(Malformed(format!("must be I-JSON (RFC 7493): {error}"))),
    }
}

/// A valid value, whose content is discarded.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

/// Implements the methods that visit a scalar.
macro_rules! discard {
    ($($visit:ident: $scalar:ty),+) => {
        $(fn $visit<E>(self, _: $scalar) -> Result<Checked, E> {
            Ok(Checked)
        })+
    };
}

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    discard! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Checked, A::Error> {
        let mut names = Names::default();
        while let Some(Name(name)) = members.next_key::<Name<'de>>()? {
            if names.insert(name) {
                return Err(A::Error::custom("duplicate member name"));
            }
            members.next_value::<Checked>()?;
        }
        Ok(Checked)
    }
}

/// A member name; it is borrowed from the input if it has no escape sequences.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The member names of one object seen so far.
#[derive(Default)]
struct Names<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    /// Adds a name and returns whether it is a duplicate.
    fn insert(&mut self, name: Cow<'de, str>) -> bool {
        if !self.many.is_empty() {
            return !self.many.insert(name);
        }
        if self.few.contains(&name) {
            return true;
        }
        self.few.push(name);
        if self.few.len() > COMPARED_MEMBERS_MAX {
            self.many.extend(self.few.drain(..));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn i_json_objects_are_accepted() {
        for good in [
            "{}",
            " {\"a\" : [1, 2.5e3, null, true, \"\\u0000 \\ud83d\\ude00 ü\"] }\n",
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#,
        ] {
            assert_eq!(check_payload(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn json_outside_i_json_is_rejected() {
        for bad in [
            "",
            "[]",
            "1",
            "null",
            "{",
            "{}{}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            r#"{"a":"\ud800"}"#,
            r#"{"\udc00":1}"#,
            "{\"a\":\"\0\"}",
            "{\"a\":1e999}",
            "{\"a\":NaN}",
            "{'a':1}",
            "{\"a\":1,}",
        ] {
            assert!(check_payload(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn duplicates_are_found_among_many_members() {
        let members =
            |n: usize| (0..n).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(",");
        for n in [15, 16, 17, 18, 100] {
            assert!(check_payload(&format!("{{{}}}", members(n))).is_ok());
            assert!(check_payload(&format!("{{{},\"k3\":0}}", members(n))).is_err());
        }
    }

    #[test]
    fn deep_nesting_is_rejected_without_overflow() {
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(check_payload(&nested(127)).is_ok());
        assert!(check_payload(&nested(128)).is_err());
        assert!(check_payload(&nested(100_000)).is_err());
        assert!(check_payload(&format!("{{\"a\":{}", "[".repeat(1_000_000))).is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_accepts_only_json(text in "[\\{\\}\\[\\]\",:a01\\\\u ]{0,40}") {
            if check_payload(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_object());
            }
        }
    }
}
