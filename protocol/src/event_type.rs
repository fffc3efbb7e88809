//! Event types (`order.created`) and the patterns that select them (`order.*`).
//!
//! Invariants: `TYPE-1` 1 to 128 characters, dot-separated segments of `[A-Za-z0-9_-]+`; `TYPE-2` a pattern is an event
//! type, or one with `.*` behind it (everything below that prefix, however deep), or `*` (everything).

use crate::Malformed;
use bincode::{Decode, Encode};
use std::sync::Arc;

const LENGTH_MAX: usize = 128;

/// The type of an event; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct EventType(Arc<str>);

impl EventType {
    /// Checks and takes an event type.
    ///
    /// # Errors
    /// [`Malformed`] if `TYPE-1` does not hold.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if is_event_type(text) {
            return Ok(Self(text.into()));
        }
        Err(Malformed(
            "must be 1 to 128 characters: segments of A-Z, a-z, 0-9, '_' and '-', separated by single dots".into(),
        ))
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_event_type(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    text.len() <= LENGTH_MAX
        && text.split('.').all(|segment| !segment.is_empty() && segment.bytes().all(fits))
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Selects event types: exact, by prefix, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum EventTypePattern {
    /// `*`
    Any,
    /// `order.created`
    Exact(String),
    /// `order.*`, kept as `order.`
    Prefix(String),
}

impl EventTypePattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`Malformed`] if `TYPE-2` does not hold.
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

    /// Whether the pattern selects this event type.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => event_type == exact,
            Self::Prefix(prefix) => event_type.starts_with(prefix),
        }
    }
}

impl std::fmt::Display for EventTypePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_have_segments() {
        for good in ["a", "order.created", "A-1_b.c.d", &"x".repeat(128)] {
            assert!(EventType::parse(good).is_ok(), "{good} was refused");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a\0", "ä", "order.*", &"x".repeat(129)] {
            assert!(EventType::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_prefix_selects_what_is_below_it_only() {
        let pattern = EventTypePattern::parse("order.*").unwrap();
        assert!(pattern.matches("order.created") && pattern.matches("order.line.added"));
        assert!(!pattern.matches("order") && !pattern.matches("orders.created"));
        for bad in ["", "*.a", "a*", ".*", "a.*.b", "**"] {
            assert!(EventTypePattern::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn patterns_print_and_parse_back(text in "([a-z]{1,5}\\.){0,3}([a-z]{1,5}|\\*)") {
            if let Ok(pattern) = EventTypePattern::parse(&text) {
                prop_assert_eq!(EventTypePattern::parse(&pattern.to_string()).unwrap(), pattern);
            }
        }
    }
}
