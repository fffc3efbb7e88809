//! Event types (`order.created`) and the patterns that match them (`order.*`).
//!
//! Invariants:
//! - `TYPE-1`: an event type has 1 to 128 characters: segments of `[A-Za-z0-9_-]+` separated by
//!   dots.
//! - `TYPE-2`: a pattern is an event type, or an event type followed by `.*` (matches every type
//!   that has further segments), or `*` (matches every type).

use crate::Malformed;
use bincode::{Decode, Encode};
use std::sync::Arc;

const LENGTH_MAX: usize = 128;

/// The type of an event. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EventType(Arc<str>);

impl EventType {
    /// Parses an event type.
    ///
    /// # Errors
    /// [`Malformed`] if the text violates `TYPE-1`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if is_event_type(text) {
            return Ok(Self(text.into()));
        }
        Err(Malformed(
            "must be 1 to 128 characters: \
             segments of A-Z, a-z, 0-9, '_' and '-', separated by single dots"
                .into(),
        ))
    }

    /// The text of the event type.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_event_type(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    text.len() <= LENGTH_MAX
        && text.split('.').all(|segment| !segment.is_empty() && segment.bytes().all(fits))
}

crate::text_form::text_form!(EventType, |event_type| &event_type.0);

/// A pattern that matches one event type, all types with a prefix, or all types.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum EventTypePattern {
    /// `*`, which matches every type.
    Any,
    /// An event type, such as `order.created`.
    Exact(String),
    /// A prefix with its last dot: `order.*` is stored as `order.`.
    Prefix(String),
}

impl EventTypePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`Malformed`] if the text violates `TYPE-2`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_suffix(".*") {
            Some(prefix) if is_event_type(prefix) => Ok(Self::Prefix(format!("{prefix}."))),
            None if is_event_type(text) => Ok(Self::Exact(text.to_owned())),
            _ => Err(Malformed(
                "must be an event type such as order.created, a prefix such as order.*, or *"
                    .into(),
            )),
        }
    }

    /// Tests whether a list of patterns selects an event type; an empty list selects every type.
    pub fn selects(patterns: &[Self], event_type: &str) -> bool {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(event_type))
    }

    /// Tests whether the pattern matches an event type.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => event_type == exact,
            Self::Prefix(prefix) => event_type.starts_with(prefix),
        }
    }
}

crate::text_form::text_form!(EventTypePattern, |pattern| &match pattern {
    Self::Any => "*".to_owned(),
    Self::Exact(exact) => exact.clone(),
    Self::Prefix(prefix) => format!("{prefix}*"),
});

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_consist_of_segments() {
        for good in ["a", "order.created", "A-1_b.c.d", &"x".repeat(128)] {
            assert!(EventType::parse(good).is_ok(), "{good} was rejected");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\0", "ä", "order.*", &"x".repeat(129)] {
            assert!(EventType::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_prefix_matches_only_types_with_further_segments() {
        let pattern = EventTypePattern::parse("order.*").unwrap();
        assert!(pattern.matches("order.created") && pattern.matches("order.line.added"));
        assert!(!pattern.matches("order") && !pattern.matches("orders.created"));
        for bad in ["", "*.a", "a*", ".*", "a.*.b", "**"] {
            assert!(EventTypePattern::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn printed_patterns_parse_to_themselves(text in "([a-z]{1,5}\\.){0,3}([a-z]{1,5}|\\*)") {
            if let Ok(pattern) = EventTypePattern::parse(&text) {
                prop_assert_eq!(EventTypePattern::parse(&pattern.to_string()).unwrap(), pattern);
            }
        }
    }
}
