//! Tests how a key is found in the headers. The API's tests cover authentication over HTTP.

use super::*;
use axum::http::HeaderValue;
use triggers_protocol::api_key::KeyKind;
use triggers_protocol::{ApiKey, Environment};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn the_key_is_found_in_either_header() {
    assert_eq!(key_text(&headers(&[("x-api-key", "a")])), Some("a"));
    for value in ["Bearer a", "bearer a", "BEARER  a "] {
        assert_eq!(key_text(&headers(&[("authorization", value)])), Some("a"), "{value}");
    }
    assert_eq!(key_text(&headers(&[("authorization", "Bearer a"), ("x-api-key", "b")])), Some("b"));
}

#[test]
fn other_schemes_contain_no_key() {
    for value in ["Basic a", "Bearer", "Bearera", "", "a"] {
        assert_eq!(key_text(&headers(&[("authorization", value)])), None, "{value}");
    }
    assert_eq!(key_text(&headers(&[])), None);
}

#[test]
fn only_a_well_formed_key_has_a_hash() {
    let key = ApiKey::generate(KeyKind::Test, &Environment::system());
    assert_eq!(key_hash(&headers(&[("x-api-key", key.reveal())])), Some(key.hash()));
    for value in
        ["", "nonsense", &key.reveal()[1..], "trg_test_0000000000000000000000000000000000000000000"]
    {
        assert_eq!(key_hash(&headers(&[("x-api-key", value)])), None, "{value}");
    }
}
