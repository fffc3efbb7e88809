//! Fuzz bodies of this crate: each takes arbitrary bytes and panics if an invariant is violated.
//!
//! The fuzz targets call them; on stable Rust the property tests below do.

use crate::codec::{decode, encode};
use crate::json::check_payload;
use crate::peer::{PeerReply, PeerRequest};
use crate::{ApiKey, EventId, EventType, EventTypePattern, TenantId, Timestamp};

/// Decodes a value from arbitrary bytes.
pub fn fuzz_codec(data: &[u8]) {
    type Sample = (u64, String, Option<Vec<u8>>);
    let version = data.first().copied().unwrap_or_default();
    if let Ok(value) = decode::<Sample>(version, data) {
        assert_eq!(decode(version, &encode(version, &value)), Ok(value), "CODEC-1");
    }
}

/// Decodes a message between nodes.
pub fn fuzz_peer(data: &[u8]) {
    if let Ok(request) = PeerRequest::decode(data) {
        assert_eq!(PeerRequest::decode(&request.encode()), Ok(request), "CODEC-1");
    }
    if let Ok(reply) = PeerReply::decode(data) {
        assert_eq!(PeerReply::decode(&reply.encode()), Ok(reply), "CODEC-1");
    }
}

/// Validates a payload.
pub fn fuzz_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if check_payload(text).is_ok() {
        let value: Result<serde_json::Value, _> = serde_json::from_str(text);
        assert!(value.is_ok_and(|value| value.is_object()), "JSON-2");
    }
}

/// Parses every text form that clients send.
pub fn fuzz_texts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = ApiKey::parse(text) {
        assert_eq!(key.reveal(), text, "PROTOCOL-2");
    }
    if let Ok(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Ok(time), "TIME-2");
    }
    if let Ok(id) = EventId::parse(text) {
        assert_eq!(EventId::parse(&id.to_string()), Ok(id), "PROTOCOL-2");
    }
    if let Ok(event_type) = EventType::parse(text) {
        assert_eq!(event_type.as_str(), text, "PROTOCOL-2");
    }
    if let Ok(pattern) = EventTypePattern::parse(text) {
        assert_eq!(pattern.to_string(), text, "PROTOCOL-2");
    }
    if let Ok(tenant) = TenantId::parse(text) {
        assert_eq!(tenant.as_str(), text, "PROTOCOL-2");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes(data: Vec<u8>) {
            for body in [fuzz_codec, fuzz_peer, fuzz_json, fuzz_texts] {
                body(&data);
            }
        }

        #[test]
        fn frames_with_a_valid_version(data: Vec<u8>, version in 0u8..3) {
            fuzz_peer(&[&[version][..], &data].concat());
        }

        #[test]
        fn texts_that_resemble_json(text in "\\{[\\{\\}\\[\\]\",:a01\\\\u ]{0,40}\\}") {
            fuzz_json(text.as_bytes());
        }

        #[test]
        fn texts_that_resemble_timestamps(
            text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.+Zz-]{0,30}",
        ) {
            fuzz_texts(text.as_bytes());
        }

        #[test]
        fn texts_that_resemble_names(
            text in "(trg_(live|test)_)?[A-Za-z0-9_.*-]{0,60}|\\PC{0,40}",
        ) {
            fuzz_texts(text.as_bytes());
        }
    }
}
