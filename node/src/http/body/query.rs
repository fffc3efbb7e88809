//! Parses query parameters, ids in paths, and percent-encoding.
//!
//! - `QUERY-1`: a known parameter occurs at most once, unless it may repeat.
//! - `QUERY-2`: a known parameter that is not UTF-8 after decoding is invalid, not absent.
//! - `QUERY-3`: unknown parameters are ignored, however malformed.
//! - `PATH-1`: a path whose id cannot be decoded is answered with 404, as an unknown id is.

use crate::http::error::{ApiError, Faults};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

/// The decoded value of a parameter; an error if it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value(Result<String, ()>);

impl Value {
    /// The text. If not UTF-8, a replacement character, which no parameter allows.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("\u{fffd}")
    }
}

/// The percent-decoded id in a path, such as `{id}` in `/v1/events/{id}`. Handlers parse it.
pub(crate) struct PathId(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| ApiError::not_found("resource"))
    }
}

/// Values of the named parameters, each in the order of the query.
pub(crate) fn parameters<const N: usize>(query: Option<&str>, names: [&str; N]) -> [Vec<Value>; N] {
    let mut found = [const { Vec::new() }; N];
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = form_decoded(name);
        if let Some(index) = names.iter().position(|known| known.as_bytes() == name) {
            found[index].push(Value(String::from_utf8(form_decoded(value)).map_err(drop)));
        }
    }
    found
}

/// The value of a parameter that must not repeat; a repetition is a fault.
pub(crate) fn once<'a>(name: &str, values: &'a [Value], faults: &mut Faults) -> Option<&'a str> {
    if values.len() > 1 {
        faults.add(name, "must not be repeated");
    }
    values.first().map(Value::as_str)
}

/// Parses a whole number from 1 to `max`, written in digits only.
pub(crate) fn whole_number(text: &str, max: usize) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && (1..=max).contains(number))
}

fn form_decoded(text: &str) -> Vec<u8> {
    // In forms a plain plus sign means a space.
    if text.contains('+') {
        percent_decoded(text.replace('+', " ").as_bytes())
    } else {
        percent_decoded(text.as_bytes())
    }
}

/// Decodes `%xx`. A percent sign without two hexadecimal digits after it is kept.
pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let decoded = match (first, after) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = decoded {
            bytes.push(high << 4 | low);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_parameters_are_found() {
        let [a, b] = parameters(Some("a=1&b=x%20y+z%2B&%F0=1&&c&a=%FF&%61=3"), ["a", "b"]);
        assert_eq!(a.iter().map(Value::as_str).collect::<Vec<_>>(), ["1", "\u{fffd}", "3"]);
        assert_eq!(b[0].as_str(), "x y z+");
        assert_eq!(parameters(None, ["a"]), [vec![]]);
    }

    #[test]
    fn numbers_are_digits() {
        for bad in ["", "0", "-1", "+1", "11", "1.5", "1e1", " 1", "99999999999999999999999"] {
            assert_eq!(whole_number(bad, 10), None, "{bad:?}");
        }
        assert_eq!((whole_number("1", 10), whole_number("010", 10)), (Some(1), Some(10)));
    }

    proptest! {
        #[test]
        fn encoded_bytes_are_decoded(bytes: Vec<u8>) {
            let encoded: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(percent_decoded(encoded.as_bytes()), bytes);
        }

        #[test]
        fn other_text_is_kept(text in "[^%]{0,40}%?[^0-9a-fA-F%]?") {
            prop_assert_eq!(percent_decoded(text.as_bytes()), text.as_bytes());
        }
    }
}
