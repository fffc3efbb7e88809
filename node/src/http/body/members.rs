//! Finds named members of a JSON object without decoding their values.
//!
//! One pass finds the members and checks the syntax of the others. Handlers decode the values;
//! `null` means absent unless a handler tests for it.
//!
//! - `MEMBERS-1`: text that is not JSON and JSON of the wrong shape are different errors.
//! - `MEMBERS-2`: a repeated known member is a fault, because readers differ in which one counts.
//! - `MEMBERS-3`: no nesting overflows the stack; unknown values are skipped without recursion.

use crate::http::error::{ApiError, Faults};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::RangeInclusive;
use triggers_protocol::api::Patch;
use triggers_protocol::{ErrorCode, Malformed, RetryPolicy};

/// Characters of a display name, at most.
const NAME_CHARACTERS_MAX: usize = 200;

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    /// Name of the member.
    pub(crate) name: &'static str,
    /// Text of the value; `None` if the member is absent.
    pub(crate) raw: Option<&'a RawValue>,
}

/// Finds the named members of the object in `text`. A repeated member is a fault.
///
/// # Errors
/// 400 if the text is not JSON or not an object.
pub(crate) fn members<'a, const N: usize>(
    text: &'a str,
    names: [&'static str; N],
    faults: &mut Faults,
) -> Result<[Member<'a>; N], ApiError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let object = Object { found: names.map(|name| Member { name, raw: None }), faults };
    let parsed = object.deserialize(&mut parser).and_then(|found| parser.end().map(|()| found));
    parsed.map_err(|error| shape_error(text, &error, "must be a JSON object"))
}

/// The first `items_max` items of the array in `text`, and the number of all its items.
///
/// # Errors
/// 400 if the text is not JSON or not an array.
pub(crate) fn items(text: &str, items_max: usize) -> Result<(Vec<&RawValue>, usize), ApiError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let parsed =
        Array { items_max }.deserialize(&mut parser).and_then(|found| parser.end().map(|()| found));
    parsed.map_err(|error| shape_error(text, &error, "must be a JSON array"))
}

/// Classifies a parser error. The parser stops at the first wrong type, so the remaining text is
/// checked here: `[1,` is not JSON.
fn shape_error(text: &str, error: &serde_json::Error, shape: &str) -> ApiError {
    let not_json =
        if error.is_data() { serde_json::from_str::<IgnoredAny>(text).err() } else { None };
    match not_json.as_ref().or((!error.is_data()).then_some(error)) {
        Some(error) => ApiError::new(ErrorCode::InvalidJson, format!("not valid JSON: {error}")),
        None => ApiError::validation("body", shape),
    }
}

impl<'a> Member<'a> {
    /// Text of the value; `None` if absent or `null`.
    pub(crate) fn given(self) -> Option<&'a str> {
        self.raw.map(RawValue::get).filter(|raw| *raw != "null")
    }

    /// Whether the member is present and `null`.
    pub(crate) fn is_null(self) -> bool {
        self.raw.is_some_and(|raw| raw.get() == "null")
    }

    /// Text of the value; a fault if absent or `null`.
    pub(crate) fn required(self, faults: &mut Faults) -> Option<&'a str> {
        let given = self.given();
        if given.is_none() {
            faults.add(self.name, "is required");
        }
        given
    }

    /// The value as a string; another type is a fault.
    pub(crate) fn text(self, faults: &mut Faults) -> Option<Cow<'a, str>> {
        let raw = self.given()?;
        let text = string(raw);
        if text.is_none() {
            faults.add(self.name, "must be a string");
        }
        text
    }

    /// The value as an owned string; another type is a fault.
    pub(crate) fn owned_text(self, faults: &mut Faults) -> Option<String> {
        self.text(faults).map(Cow::into_owned)
    }

    /// The value in a change: `None` keeps the current value, `Some(None)` resets it.
    pub(crate) fn patch<T>(self, value: Option<T>) -> Patch<T> {
        if self.is_null() { Some(None) } else { value.map(Some) }
    }

    /// The value as a retry policy; an invalid one is a fault.
    pub(crate) fn retry_policy(self, faults: &mut Faults, is_admin: bool) -> Option<RetryPolicy> {
        let message = "must have delays_seconds, or initial, factor, max and max_attempts";
        let policy: RetryPolicy = self.decoded(faults, message)?;
        policy
            .validate(is_admin)
            .map_err(|reason| faults.add(self.name, reason.0))
            .ok()
            .map(|()| policy)
    }

    /// The value as a display name; a fault if absent, too long or not visible.
    pub(crate) fn required_name(self, faults: &mut Faults) -> Option<String> {
        self.required(faults)?;
        let name = self.text(faults)?;
        let count = name.chars().count();
        if name.trim().is_empty()
            || count > NAME_CHARACTERS_MAX
            || name.chars().any(char::is_control)
        {
            faults
                .add(self.name, format!("must have 1 to {NAME_CHARACTERS_MAX} visible characters"));
            return None;
        }
        Some(name.into_owned())
    }

    /// The value as a parsed string; another type or form is a fault.
    pub(crate) fn parsed<T>(
        self,
        faults: &mut Faults,
        parse: impl FnOnce(&str) -> Result<T, Malformed>,
    ) -> Option<T> {
        match parse(&self.text(faults)?) {
            Ok(value) => Some(value),
            Err(reason) => {
                faults.add(self.name, reason.0);
                None
            }
        }
    }

    /// The value as a whole number within bounds; anything else is a fault.
    pub(crate) fn whole_number<T: TryFrom<u64>>(
        self,
        faults: &mut Faults,
        bounds: RangeInclusive<u64>,
    ) -> Option<T> {
        let number = serde_json::from_str::<u64>(self.given()?)
            .ok()
            .filter(|number| bounds.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            faults.add(
                self.name,
                format!("must be a whole number from {} to {}", bounds.start(), bounds.end()),
            );
        }
        number
    }

    /// The value decoded from JSON; a failure is a fault with this message.
    pub(crate) fn decoded<T: Deserialize<'a>>(
        self,
        faults: &mut Faults,
        message: &str,
    ) -> Option<T> {
        let value = serde_json::from_str(self.given()?).ok();
        if value.is_none() {
            faults.add(self.name, message);
        }
        value
    }
}

/// Decodes a JSON string, which is borrowed if it has no escapes.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

struct Object<'a, 'f, const N: usize> {
    found: [Member<'a>; N],
    faults: &'f mut Faults,
}

impl<'a, const N: usize> DeserializeSeed<'a> for Object<'a, '_, N> {
    type Value = [Member<'a>; N];

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Object<'a, '_, N> {
    type Value = [Member<'a>; N];

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'a>>()? {
            let Some(member) = self.found.iter_mut().find(|member| member.name == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if member.raw.replace(map.next_value::<&'a RawValue>()?).is_some() {
                self.faults.add(member.name, "must not be repeated");
            }
        }
        Ok(self.found)
    }
}

/// A member name, borrowed from the input if it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor).map(Name)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

struct Array {
    items_max: usize,
}

impl<'a> DeserializeSeed<'a> for Array {
    type Value = (Vec<&'a RawValue>, usize);

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Array {
    type Value = (Vec<&'a RawValue>, usize);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut items, mut count) = (Vec::new(), 0);
        while count < self.items_max {
            let Some(item) = seq.next_element::<&'a RawValue>()? else { return Ok((items, count)) };
            items.push(item);
            count += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Result<Vec<Option<String>>, ErrorCode> {
        let mut faults = Faults::default();
        let found =
            members(text, ["a", "b"], &mut faults).and_then(|found| faults.check().map(|()| found));
        found
            .map(|found| found.map(|member| member.given().map(str::to_owned)).to_vec())
            .map_err(|error| error.code)
    }

    #[test]
    fn members_keep_their_text() {
        let found = find(r#" {"x":[{}],"a" : { "k" : 1.0 } , "b":"t"} "#).unwrap();
        assert_eq!(found, [Some(r#"{ "k" : 1.0 }"#.to_owned()), Some(r#""t""#.to_owned())]);
        assert_eq!(find(r#"{"a":null}"#).unwrap(), [None, None]);
        assert_eq!(find("{\"\\u0061\":1}").unwrap(), [Some("1".to_owned()), None]);
    }

    #[test]
    fn invalid_json_and_the_wrong_shape_are_different_errors() {
        for text in [
            "",
            "x",
            "{",
            "[1,",
            "{\"a\":1}}",
            "{\"a\":1} x",
            "{\"a\":01}",
            "\u{feff}{}",
            "{\"x\":tru}",
        ] {
            assert_eq!(find(text), Err(ErrorCode::InvalidJson), "{text}");
        }
        for text in ["[]", "1", "null", "\"{}\"", "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}"] {
            assert_eq!(find(text), Err(ErrorCode::ValidationError), "{text}");
        }
        for deep in [
            "[".repeat(100_000),
            "{\"a\":".repeat(100_000),
            format!("{{\"x\":{}}}", "[".repeat(100_000)),
        ] {
            assert!(find(&deep).is_err());
        }
    }

    #[test]
    fn strings_and_numbers_are_decoded() {
        let mut faults = Faults::default();
        let [a, b] = members(r#"{"a":"x\u0041","b":7}"#, ["a", "b"], &mut faults).unwrap();
        assert_eq!(a.text(&mut faults).as_deref(), Some("xA"));
        assert_eq!(b.whole_number(&mut faults, 1..=7), Some(7_u64));
        assert!(faults.is_empty());
        assert_eq!(b.text(&mut faults), None);
        assert_eq!(b.whole_number::<u64>(&mut faults, 1..=6), None);
        assert_eq!(a.whole_number::<u64>(&mut faults, 1..=6), None);
        assert_eq!(faults.into_error().details.len(), 3);
    }

    #[test]
    fn items_over_the_maximum_are_counted() {
        let (kept, count) = items("[1, {} ,3,4]", 2).unwrap();
        assert_eq!(
            (kept.iter().map(|raw| raw.get()).collect::<Vec<_>>(), count),
            (vec!["1", "{}"], 4)
        );
        assert_eq!(items("[]", 2).unwrap().1, 0);
        assert_eq!(items("{}", 2).unwrap_err().code, ErrorCode::ValidationError);
        assert_eq!(items("[1", 2).unwrap_err().code, ErrorCode::InvalidJson);
    }
}
