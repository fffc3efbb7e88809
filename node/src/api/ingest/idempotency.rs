//! Idempotency keys: reading them from headers, and what the store remembers of a key and of its request.
//!
//! Invariants: `KEYED-1` a key is 1 to 255 printable ASCII characters, the same whether sent bare or quoted (a Structured
//! Field string, RFC 9651); `KEYED-2` two requests have the same digest only if type, timestamp as sent, and payload are
//! the same byte for byte: every part has its length in front; `KEYED-3` the key of a batch's item, the key of a single
//! event and the identity of a CloudEvent are never the same key, whatever their text. It does not know which keys were
//! used: the store does.

use super::Draft;
use crate::http::error::ApiError;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use triggers_actors::IdempotencyRequest;

pub(crate) static HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];
const LENGTH_MAX: usize = 255;

/// The key that a request was sent with.
///
/// # Errors
/// 400 if it is malformed, or if there are two that differ.
pub(super) fn header_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut found: Option<String> = None;
    for name in &HEADERS {
        for value in headers.get_all(name) {
            let key = parse(value).map_err(|reason| ApiError::validation(name.as_str(), reason))?;
            if found.as_ref().is_some_and(|other| *other != key) {
                return Err(ApiError::validation(
                    name.as_str(),
                    "must not be there twice with different keys",
                ));
            }
            found = Some(key);
        }
    }
    Ok(found)
}

fn parse(value: &HeaderValue) -> Result<String, &'static str> {
    let text = value.to_str().map_err(|_| "must be printable ASCII")?.trim_matches([' ', '\t']);
    if text.contains('\t') {
        return Err("must be printable ASCII");
    }
    let key = if text.starts_with('"') { unquoted(text)? } else { text.to_owned() };
    if key.is_empty() || key.len() > LENGTH_MAX {
        return Err("must have 1 to 255 characters");
    }
    Ok(key)
}

/// The content of a Structured Field string.
fn unquoted(text: &str) -> Result<String, &'static str> {
    const MALFORMED: &str =
        "must be a quoted string that ends with its closing quote, or have no quote in front";
    let mut key = String::with_capacity(text.len());
    let mut characters = text.chars().skip(1);
    while let Some(character) = characters.next() {
        match character {
            '"' if characters.next().is_none() => return Ok(key),
            '"' => return Err(MALFORMED),
            '\\' => match characters.next() {
                Some(escaped @ ('"' | '\\')) => key.push(escaped),
                _ => return Err(MALFORMED),
            },
            other => key.push(other),
        }
    }
    Err(MALFORMED)
}

/// The key of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// As it was sent with the event.
    Sent(String),
    /// Source and id of a CloudEvent, a line feed between them.
    CloudEvent(String),
    /// As it was sent with a batch, and the position of the event in it.
    Item(String, usize),
}

impl Key {
    /// The key for people, as it is kept with the event.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Sent(key) | Self::CloudEvent(key) => key.clone(),
            Self::Item(key, index) => format!("{key}/{index}"),
        }
    }

    /// What the store knows the key by: `KEYED-3`.
    fn hash(&self) -> [u8; 16] {
        let (kind, key, index) = match self {
            Self::Sent(key) => (0, key, 0),
            Self::CloudEvent(key) => (1, key, 0),
            Self::Item(key, index) => (2, key, *index),
        };
        let mut digest = Sha256::new();
        digest.update([kind]);
        digest.update((key.len() as u64).to_be_bytes());
        digest.update(key.as_bytes());
        digest.update((index as u64).to_be_bytes());
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest.finalize()[..16]);
        hash
    }
}

/// What the store remembers of a key and of the event that was sent with it.
pub(super) fn request(key: &Key, draft: &Draft<'_>) -> IdempotencyRequest {
    let mut digest = Sha256::new();
    let timestamp = draft.timestamp_text.as_deref();
    digest.update([u8::from(timestamp.is_some())]);
    for part in [draft.event_type.as_str(), timestamp.unwrap_or_default(), draft.payload] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    IdempotencyRequest { hash: key.hash(), request_digest: digest.finalize().into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;
    use proptest::prelude::*;
    use triggers_protocol::EventType;

    fn key_of(pairs: &[(&'static str, &str)]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        header_key(&headers).map_err(drop)
    }

    #[test]
    fn both_spellings_and_both_headers_give_the_key() {
        assert_eq!(key_of(&[]), Ok(None));
        for value in ["order-1", "\"order-1\"", " order-1 "] {
            assert_eq!(key_of(&[("idempotency-key", value)]), Ok(Some("order-1".into())));
            assert_eq!(key_of(&[("x-idempotency-key", value)]), Ok(Some("order-1".into())));
        }
        assert_eq!(
            key_of(&[("idempotency-key", "\"a\""), ("x-idempotency-key", "a")]),
            Ok(Some("a".into()))
        );
        assert_eq!(key_of(&[("idempotency-key", "a\"b")]), Ok(Some("a\"b".into())));
        let long = "k".repeat(255);
        assert_eq!(key_of(&[("idempotency-key", &format!("\"{long}\""))]), Ok(Some(long)));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for value in [
            "",
            "\"\"",
            "\"",
            "\"a",
            "\"a\"b",
            "\"a\\b\"",
            "a\tb",
            "ü",
            "\"a\";x=1",
            &"k".repeat(256),
        ] {
            assert_eq!(key_of(&[("idempotency-key", value)]), Err(()), "{value}");
        }
        assert_eq!(key_of(&[("idempotency-key", "a"), ("x-idempotency-key", "b")]), Err(()));
        assert_eq!(key_of(&[("idempotency-key", "a"), ("idempotency-key", "b")]), Err(()));
    }

    fn digest(event_type: &str, timestamp: Option<&str>, payload: &str) -> [u8; 32] {
        let event_type = EventType::parse(event_type).unwrap();
        let timestamp_text = timestamp.map(Into::into);
        request(
            &Key::Sent("k".into()),
            &Draft { event_type, timestamp: None, timestamp_text, payload, key: None },
        )
        .request_digest
    }

    #[test]
    fn keys_of_different_kinds_are_different_keys() {
        let item = |key: &str, index| Key::Item(key.into(), index);
        let keys = [
            Key::Sent("a".into()),
            Key::Sent("a/1".into()),
            Key::CloudEvent("a".into()),
            Key::CloudEvent("a/1".into()),
            item("a", 0),
            item("a", 1),
            item("a", 11),
            item("a/1", 1),
        ];
        let hashes: std::collections::BTreeSet<_> = keys.iter().map(Key::hash).collect();
        assert_eq!(hashes.len(), keys.len(), "KEYED-3");
        assert_eq!(item("a", 1).text(), "a/1");
        assert_eq!(item("a", 1).hash(), item("a", 1).hash());
    }

    proptest! {
        #[test]
        fn quoted_keys_come_back(key in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(key_of(&[("idempotency-key", &quoted)]), Ok(Some(key)));
        }

        #[test]
        fn requests_differ_in_every_part(a in "[a-c]{1,3}", b in "[a-c]{1,3}", t in "[a-c]{0,2}", u in "[a-c]{0,2}", p in "[a-c]{0,2}", q in "[a-c]{0,2}") {
            let same = (&a, &t, &p) == (&b, &u, &q);
            prop_assert_eq!(digest(&a, Some(&t), &p) == digest(&b, Some(&u), &q), same);
            prop_assert!(digest(&a, None, &p) != digest(&a, Some(""), &p));
        }
    }
}
