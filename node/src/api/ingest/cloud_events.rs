//! CloudEvents 1.0 over HTTP: `type` is the event type, `time` the timestamp, `data` the payload.
//!
//! In the binary mode the attributes are `ce-` headers, percent-encoded as the HTTP binding says,
//! and the body is the data.
//!
//! - `CE-1`: an event without its four required attributes is rejected; each missing one is named.
//! - `CE-2`: `source` and `id` together are the idempotency key, as they identify the event in the
//!   producer's world. The same event has the same identity in every mode.
//!
//! Extension attributes are ignored.

use super::cloud_event_data::{self, Data};
use super::envelope::{CloudEventIdentity, Draft, event_of, required_type};
use crate::http::body::members::{Member, members};
use crate::http::body::query::percent_decoded;
use crate::http::error::{ApiError, Faults};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use std::borrow::Cow;
use triggers_protocol::{EventType, Timestamp};

/// The header that marks a CloudEvent in binary mode.
pub(super) const SPECVERSION_HEADER: &str = "ce-specversion";
/// Maximum bytes of `source` and of `id`, which are stored with the event.
const IDENTITY_BYTES_MAX: usize = 1_024;

/// Reads one event in JSON.
///
/// # Errors
/// 400 that names every fault; 413 if the data is too large.
pub(in crate::api) fn structured(
    text: &str,
    payload_bytes_max: usize,
) -> Result<Draft<'_>, ApiError> {
    let mut faults = Faults::default();
    let names =
        ["specversion", "id", "source", "type", "time", "datacontenttype", "data", "data_base64"];
    let [specversion, id, source, event_type, time, content_type, data, base64] =
        members(text, names, &mut faults)?;
    let specversion = required_text(specversion, &mut faults);
    check_version("specversion", specversion.as_deref(), &mut faults);
    let id = required_text(id, &mut faults);
    let source = required_text(source, &mut faults);
    let identity = identity(["source", "id"], [source, id], &mut faults);
    let event_type = required_type(event_type, &mut faults);
    let timestamp = time.parsed(&mut faults, Timestamp::parse);
    let content_type = content_type.text(&mut faults);
    let of = |member: Member<'_>| Data {
        name: member.name,
        content_type: content_type.as_deref(),
        bytes_max: payload_bytes_max,
    };
    let payload = match (data.raw.filter(|_| !data.is_null()), base64.text(&mut faults)) {
        (None, None) => Some(cloud_event_data::none()),
        (Some(raw), None) => of(data).json(raw, &mut faults)?,
        (None, Some(text)) => of(base64).base64(&text, &mut faults)?,
        (Some(_), Some(_)) => {
            faults.add(base64.name, "must not be sent beside data");
            None
        }
    };
    let event = event_of(event_type, payload, timestamp, faults)?;
    Ok(Draft { event, identity })
}

/// Reads one event whose attributes are headers.
///
/// # Errors
/// 400 that names every fault; 413 if the body is too large.
pub(super) fn binary<'a>(
    headers: &HeaderMap,
    body: &'a [u8],
    payload_bytes_max: usize,
) -> Result<Draft<'a>, ApiError> {
    let mut faults = Faults::default();
    let specversion = required_attribute(headers, SPECVERSION_HEADER, &mut faults);
    check_version(SPECVERSION_HEADER, specversion.as_deref(), &mut faults);
    let id = required_attribute(headers, "ce-id", &mut faults);
    let source = required_attribute(headers, "ce-source", &mut faults);
    let type_text = required_attribute(headers, "ce-type", &mut faults);
    let event_type = type_text.and_then(|text| {
        EventType::parse(&text).map_err(|reason| faults.add("ce-type", reason.0)).ok()
    });
    let timestamp = attribute(headers, "ce-time", &mut faults).and_then(|text| {
        Timestamp::parse(&text).map_err(|reason| faults.add("ce-time", reason.0)).ok()
    });
    // A body that is not JSON is a fault of the data: the attributes are in the headers.
    let content_type = headers.get(CONTENT_TYPE).map(|it| String::from_utf8_lossy(it.as_bytes()));
    let content_type = content_type.as_deref();
    let data = Data { name: "data", content_type, bytes_max: payload_bytes_max };
    let payload = data.bytes(body, &mut faults)?;
    let parts = [source, id].map(|part| part.map(Cow::Owned));
    let identity = identity(["ce-source", "ce-id"], parts, &mut faults);
    let event = event_of(event_type, payload, timestamp, faults)?;
    Ok(Draft { event, identity })
}

fn required_text<'a>(member: Member<'a>, faults: &mut Faults) -> Option<Cow<'a, str>> {
    member.required(faults)?;
    let text = member.text(faults)?;
    if text.is_empty() {
        faults.add(member.name, "must not be empty");
        return None;
    }
    Some(text)
}

fn check_version(name: &str, version: Option<&str>, faults: &mut Faults) {
    if version.is_some_and(|version| version != "1.0") {
        faults.add(name, "must be 1.0");
    }
}

/// The identity, if both of its parts are there; adds a fault for each part that is too long.
fn identity(
    names: [&str; 2],
    parts: [Option<Cow<'_, str>>; 2],
    faults: &mut Faults,
) -> Option<CloudEventIdentity> {
    for (name, part) in names.into_iter().zip(&parts) {
        if part.as_ref().is_some_and(|part| part.len() > IDENTITY_BYTES_MAX) {
            faults.add(name, format!("must have at most {IDENTITY_BYTES_MAX} bytes"));
        }
    }
    let [source, id] = parts;
    Some(CloudEventIdentity { source: source?.into_owned(), id: id?.into_owned() })
}

fn required_attribute(headers: &HeaderMap, name: &str, faults: &mut Faults) -> Option<String> {
    if !headers.contains_key(name) {
        faults.add(name, "is required");
    }
    attribute(headers, name, faults)
}

/// The attribute in a header; adds a fault if it is empty, repeated, or not UTF-8 when decoded.
fn attribute(headers: &HeaderMap, name: &str, faults: &mut Faults) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        faults.add(name, "must not be repeated");
    }
    let decoded = String::from_utf8(percent_decoded(&unquoted(value.as_bytes()))).ok();
    let decoded = decoded.filter(|text| !text.is_empty());
    if decoded.is_none() {
        faults.add(name, "must be percent-encoded UTF-8, and not empty");
    }
    decoded
}

/// The content of a quoted string; other values are returned as they are.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = value else { return Cow::Borrowed(value) };
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        text.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use triggers_protocol::ErrorCode;

    const COMPLETE: &str =
        r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","data":{ "n":1}}"#;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn identity_of(source: &str, id: &str) -> Option<CloudEventIdentity> {
        Some(CloudEventIdentity { source: source.into(), id: id.into() })
    }

    fn fields(error: ApiError) -> Vec<String> {
        error.details.into_iter().map(|detail| detail.field).collect()
    }

    #[test]
    fn a_structured_event_needs_its_attributes() {
        let draft = structured(COMPLETE, 100).unwrap();
        let event = &draft.event;
        assert_eq!(
            (event.event_type.as_str(), event.payload.get()),
            ("order.created", "{ \"n\":1}")
        );
        assert_eq!(draft.identity, identity_of("/shop", "1"));
        let missing = fields(structured("{}", 100).unwrap_err());
        assert_eq!(missing, ["specversion", "id", "source", "type"]);
        assert_eq!(
            fields(structured(&COMPLETE.replace("1.0", "0.3"), 100).unwrap_err()),
            ["specversion"]
        );
        assert_eq!(
            fields(structured(&COMPLETE.replace("/shop", ""), 100).unwrap_err()),
            ["source"]
        );
        for wrong in ["\"e30=\"", "5"] {
            let both = format!("\"data_base64\":{wrong},\"data\"");
            let both = COMPLETE.replace("\"data\"", &both);
            assert_eq!(fields(structured(&both, 100).unwrap_err()), ["data_base64"]);
        }
        assert_eq!(structured(COMPLETE, 5).unwrap_err().code, ErrorCode::PayloadTooLarge);
    }

    #[test]
    fn a_binary_event_is_decoded() {
        let complete = [
            ("ce-specversion", "1.0"),
            ("ce-id", "\"a%20\\\"b\""),
            ("ce-source", "/caf%C3%A9"),
            ("ce-type", "a.b"),
        ];
        let draft = binary(&headers(&complete), b" { \"n\" : 1 }\n", 100).unwrap();
        assert_eq!(draft.event.payload.get(), "{ \"n\" : 1 }");
        assert_eq!(draft.identity, identity_of("/café", "a \"b"), "CE-2");
        let bad = [
            ("ce-specversion", "2"),
            ("ce-id", "%FF"),
            ("ce-type", "a..b"),
            ("ce-time", "never"),
            ("content-type", "application/json"),
        ];
        let faults = fields(binary(&headers(&bad), b"[", 100).unwrap_err());
        assert_eq!(faults, ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "data"]);
    }

    #[test]
    fn a_binary_event_over_the_limit_is_too_large_even_if_it_is_not_json() {
        let headers = headers(&[("ce-specversion", "1.0"), ("content-type", "application/json")]);
        for large in ["{\"n\":1234567}", "not JSON at all"] {
            let error = binary(&headers, large.as_bytes(), 10).unwrap_err();
            assert_eq!(error.code, ErrorCode::PayloadTooLarge, "ENVELOPE-2: {large}");
        }
        assert_eq!(fields(binary(&headers, b"no JSON", 10).unwrap_err()).last().unwrap(), "data");
    }

    proptest! {
        #[test]
        fn encoded_attributes_come_back(text in "\\PC{1,30}", quoted: bool) {
            let encode = |c: char| {
                let plain = c.is_ascii_graphic() && !matches!(c, '"' | '%' | '\\');
                let mut buffer = [0; 4];
                let bytes = c.encode_utf8(&mut buffer).bytes();
                if plain {
                    return c.to_string();
                }
                bytes.map(|byte| format!("%{byte:02x}")).collect()
            };
            let encoded: String = text.chars().map(encode).collect();
            let value = if quoted { format!("\"{encoded}\"") } else { encoded };
            let mut faults = Faults::default();
            let headers = headers(&[("ce-id", &value)]);
            prop_assert_eq!(attribute(&headers, "ce-id", &mut faults), Some(text));
            prop_assert!(faults.is_empty());
        }
    }
}
