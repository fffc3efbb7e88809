//! Idempotency keys: reads them from headers and computes what the store remembers of them.
//!
//! - `KEYED-1`: a key is 1 to 255 printable ASCII characters, the same whether it is sent bare or
//!   quoted (a Structured Field string, RFC 9651).
//! - `KEYED-2`: under a key sent in a header, two requests are the same only if type and payload
//!   are equal byte for byte. The `timestamp` is not compared: clients stamp each try anew.
//! - `KEYED-3`: the key of a batch's item, the key of a single event and the identity of a
//!   CloudEvent are never the same key, whatever their text.
//! - `KEYED-4`: CloudEvents with the same `source` and `id` are one event, in whatever mode and
//!   white space they are sent. Nothing else is compared: producers guarantee it.
//!
//! The store knows which keys were used; this module does not.

use super::envelope::{CloudEventIdentity, Draft};
use crate::http::IDEMPOTENCY_HEADERS;
use crate::http::error::ApiError;
use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use triggers_actors::model::operations::IdempotencyKey;

const LENGTH_MAX: usize = 255;

/// The key that a request was sent with.
///
/// # Errors
/// 400 if it is malformed, or if there are two that differ.
pub(super) fn header_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut found: Option<String> = None;
    for name in &IDEMPOTENCY_HEADERS {
        for value in headers.get_all(name) {
            let key = parse(value).map_err(|reason| ApiError::validation(name.as_str(), reason))?;
            if found.as_ref().is_some_and(|other| *other != key) {
                return Err(ApiError::validation(
                    name.as_str(),
                    "must not be repeated with different keys",
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
    /// The key of a single event's header.
    Sent(String),
    /// The identity of a CloudEvent that was sent without a key in a header.
    CloudEvent(CloudEventIdentity),
    /// The key of a batch's header, and the index of the event in the batch.
    Item(String, usize),
}

impl Key {
    /// The text form that is kept with the event and shown in its metadata.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Sent(key) => key.clone(),
            Self::CloudEvent(CloudEventIdentity { source, id }) => format!("{source}\n{id}"),
            Self::Item(key, index) => format!("{key}/{index}"),
        }
    }

    /// The hash under which the store keeps the key: `KEYED-3`.
    fn hash(&self) -> [u8; 16] {
        let index_bytes;
        let (kind, first, second) = match self {
            Self::Sent(key) => (0, key, &[][..]),
            Self::CloudEvent(identity) => (1, &identity.source, identity.id.as_bytes()),
            Self::Item(key, index) => {
                index_bytes = (*index as u64).to_be_bytes();
                (2, key, &index_bytes[..])
            }
        };
        let mut digest = Sha256::new();
        digest.update([kind]);
        digest.update((first.len() as u64).to_be_bytes());
        digest.update(first.as_bytes());
        digest.update(second);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest.finalize()[..16]);
        hash
    }
}

/// The hashes that the store keeps of a key and of the event that was sent with it.
pub(super) fn request(key: &Key, draft: &Draft<'_>) -> IdempotencyKey {
    let request_digest = match key {
        // `KEYED-4`: all requests with this identity have the same digest.
        Key::CloudEvent(_) => [0; 32],
        Key::Sent(_) | Key::Item(..) => content_digest(draft),
    };
    IdempotencyKey { hash: key.hash(), request_digest }
}

/// A digest of type and payload: `KEYED-2`. The length in front of the type keeps them apart.
fn content_digest(draft: &Draft<'_>) -> [u8; 32] {
    let event_type = draft.event.event_type.as_str();
    let mut digest = Sha256::new();
    digest.update((event_type.len() as u64).to_be_bytes());
    digest.update(event_type.as_bytes());
    digest.update(draft.event.payload.get().as_bytes());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::borrow::Cow;
    use triggers_protocol::api::NewEvent;
    use triggers_protocol::{EventType, Timestamp};

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
    fn what_is_no_key_is_rejected() {
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

    fn digest(
        key: &Key,
        event_type: &str,
        timestamp: Option<Timestamp>,
        payload: &str,
    ) -> [u8; 32] {
        let event_type = EventType::parse(event_type).unwrap();
        let payload = RawValue::from_string(format!("{{\"p\":\"{payload}\"}}")).unwrap();
        let event = NewEvent { event_type, timestamp, payload: Cow::Owned(payload) };
        let draft = Draft { event, identity: None };
        request(key, &draft).request_digest
    }

    fn cloud_event(source: &str, id: &str) -> Key {
        Key::CloudEvent(CloudEventIdentity { source: source.into(), id: id.into() })
    }

    #[test]
    fn keys_of_different_kinds_are_different_keys() {
        let item = |key: &str, index| Key::Item(key.into(), index);
        let keys = [
            Key::Sent("a".into()),
            Key::Sent("a/1".into()),
            cloud_event("a", ""),
            cloud_event("a", "1"),
            cloud_event("a/1", ""),
            cloud_event("a\nb", "c"),
            cloud_event("a", "b\nc"),
            cloud_event("a", "\0\0\0\0\0\0\0\u{1}"),
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
        fn type_and_payload_are_compared_and_the_timestamp_is_not(
            a in "[a-c]{1,3}", b in "[a-c]{1,3}", p in "[a-c]{0,2}", q in "[a-c]{0,2}",
            t in 0i64..3, u in 0i64..3,
        ) {
            let (t, u) = (Some(Timestamp::from_millis(t)), Some(Timestamp::from_millis(u)));
            for key in [Key::Sent("k".into()), Key::Item("k".into(), 0)] {
                let first = digest(&key, &a, t, &p);
                prop_assert_eq!(first == digest(&key, &b, u, &q), (&a, &p) == (&b, &q), "KEYED-2");
                prop_assert_eq!(first, digest(&key, &a, None, &p), "KEYED-2");
            }
            let key = cloud_event("s", "1");
            prop_assert_eq!(digest(&key, &a, t, &p), digest(&key, &b, u, &q), "KEYED-4");
        }
    }
}
