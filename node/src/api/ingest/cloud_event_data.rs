//! Turns the data of a CloudEvent into a payload.
//!
//! - `CE-3`: data that is an I-JSON object is the payload as it was sent. No data, empty data and
//!   `null` are `{}`.
//! - `CE-4`: other data is the member `data` of the payload if it is JSON or text, otherwise
//!   `data_base64`. The member `datacontenttype` has the content type.
//! - `CE-5`: data has the same payload in every mode.
//!
//! Data that is declared as JSON must be JSON.

use super::envelope::{check_size, checked_payload};
use crate::http::body::is_json;
use crate::http::error::{ApiError, Faults};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use std::borrow::Cow;
use triggers_protocol::json::check_payload;

/// The payload; `None` if there was a fault.
type Payload<'a> = Option<Cow<'a, RawValue>>;

/// What is known about the data of one event.
pub(super) struct Data<'d> {
    /// Name of the member that faults are reported for.
    pub(super) name: &'static str,
    /// Content type with its parameters; JSON is assumed if it is absent.
    pub(super) content_type: Option<&'d str>,
    /// Maximum bytes of the payload.
    pub(super) bytes_max: usize,
}

impl Data<'_> {
    /// Reads data in JSON.
    ///
    /// # Errors
    /// 413 if it is over the limit.
    pub(super) fn json<'a>(
        &self,
        raw: &'a RawValue,
        faults: &mut Faults,
    ) -> Result<Payload<'a>, ApiError> {
        match raw.get() {
            "null" => Ok(Some(none())),
            object if object.starts_with('{') => {
                checked_payload(self.name, raw, self.bytes_max, faults)
                    .map(|payload| Some(Cow::Borrowed(payload)))
            }
            other => self.member("data", other, "application/json", faults),
        }
    }

    /// Reads data in base64.
    ///
    /// # Errors
    /// 413 if it is over the limit.
    pub(super) fn base64(
        &self,
        text: &str,
        faults: &mut Faults,
    ) -> Result<Payload<'static>, ApiError> {
        let Ok(bytes) = STANDARD.decode(text) else {
            faults.add(self.name, "must be base64 (RFC 4648, section 4)");
            return Ok(None);
        };
        Ok(self.bytes(&bytes, faults)?.map(|payload| Cow::Owned(payload.into_owned())))
    }

    /// Reads data in bytes.
    ///
    /// # Errors
    /// 413 if it is over the limit.
    pub(super) fn bytes<'a>(
        &self,
        bytes: &'a [u8],
        faults: &mut Faults,
    ) -> Result<Payload<'a>, ApiError> {
        if bytes.is_empty() {
            return Ok(Some(none()));
        }
        check_size(self.name, bytes.trim_ascii(), self.bytes_max)?;
        let is_declared = self.content_type.map(|it| it.split(';').next().unwrap_or_default());
        let is_declared = is_declared.map(|media_type| is_json(media_type.trim()));
        let reason = match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(raw) if is_declared.unwrap_or(true) || check_payload(raw.get()).is_ok() => {
                return self.json(raw, faults);
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let (Some(true), Some(reason)) = (is_declared, reason) {
            faults.add(self.name, format!("must be I-JSON (RFC 7493): {reason}"));
            return Ok(None);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.member("data", &string(text)?, "text/plain", faults),
            Err(_) => {
                let text = string(&STANDARD.encode(bytes))?;
                self.member("data_base64", &text, "application/octet-stream", faults)
            }
        }
    }

    /// The payload that has the data as a member: `CE-4`.
    fn member(
        &self,
        name: &str,
        value: &str,
        default_type: &str,
        faults: &mut Faults,
    ) -> Result<Payload<'static>, ApiError> {
        let content_type = string(self.content_type.unwrap_or(default_type))?;
        let text = format!("{{\"{name}\":{value},\"datacontenttype\":{content_type}}}");
        let payload = RawValue::from_string(text).map_err(ApiError::internal)?;
        checked_payload(self.name, &payload, self.bytes_max, faults)?;
        Ok(Some(Cow::Owned(payload)))
    }
}

/// The payload of an event without data.
pub(super) fn none() -> Cow<'static, RawValue> {
    Cow::Owned(RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"))
}

fn string(text: &str) -> Result<String, ApiError> {
    serde_json::to_string(text).map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use triggers_protocol::ErrorCode;

    fn data(content_type: Option<&str>) -> Data<'_> {
        Data { name: "data", content_type, bytes_max: 200 }
    }

    /// The payload of bytes: `CE-5`, the same as that of their base64.
    fn of(content_type: Option<&str>, bytes: &[u8]) -> Option<String> {
        let mut faults = Faults::default();
        let data = data(content_type);
        let payload = data.bytes(bytes, &mut faults).unwrap();
        let decoded = data.base64(&STANDARD.encode(bytes), &mut Faults::default()).unwrap();
        let text = |payload: &Payload<'_>| payload.as_ref().map(|payload| payload.get().to_owned());
        assert_eq!(text(&decoded), text(&payload), "CE-5");
        text(&payload).filter(|_| faults.is_empty())
    }

    #[test]
    fn every_data_has_a_payload() {
        let json = Some("application/json; charset=utf-8");
        let wrapped =
            |data: &str, kind: &str| Some(format!("{{{data},\"datacontenttype\":\"{kind}\"}}"));
        for (kind, bytes, payload) in [
            (json, &b""[..], Some("{}".to_owned())),
            (json, b"null", Some("{}".to_owned())),
            (None, b" { \"n\" : 1.0 }\n", Some("{ \"n\" : 1.0 }".to_owned())),
            (Some("application/octet-stream"), b"{\"n\":1}", Some("{\"n\":1}".to_owned())),
            (json, b"[1.0]", wrapped("\"data\":[1.0]", "application/json; charset=utf-8")),
            (None, b"5", wrapped("\"data\":5", "application/json")),
            (Some("text/plain"), b"[1]", wrapped("\"data\":\"[1]\"", "text/plain")),
            (
                Some("text/xml"),
                b"<a b=\"c\"/>",
                wrapped("\"data\":\"<a b=\\\"c\\\"/>\"", "text/xml"),
            ),
            (None, b"{no", wrapped("\"data\":\"{no\"", "text/plain")),
            (Some("image/png"), b"\x89PNG", wrapped("\"data_base64\":\"iVBORw==\"", "image/png")),
            (None, b"\xff", wrapped("\"data_base64\":\"/w==\"", "application/octet-stream")),
            (json, b"{no", None),
            (json, b"\xff", None),
            (json, b"{\"a\":1,\"a\":2}", None),
            (None, b"[{\"a\":1,\"a\":2}]", None),
        ] {
            assert_eq!(of(kind, bytes), payload, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn base64_and_size_are_checked() {
        let mut faults = Faults::default();
        assert!(data(None).base64("e30", &mut faults).unwrap().is_none());
        assert!(data(None).base64("e3-_", &mut faults).unwrap().is_none());
        assert!(!faults.is_empty());
        for bytes in [[b'x'; 201], [0xff; 201]] {
            let error = data(None).bytes(&bytes, &mut faults).unwrap_err();
            assert_eq!(error.code, ErrorCode::PayloadTooLarge);
        }
        let error = data(None).bytes(&[0xff; 190], &mut faults).unwrap_err();
        assert_eq!(error.code, ErrorCode::PayloadTooLarge, "as a payload it is too large");
    }

    proptest! {
        #[test]
        fn every_payload_is_an_object(
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
            text in "[\\[{\"}0-9:a,\\]]{0,20}",
            kind in proptest::option::of("\\PC{0,20}"),
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let payload = of(kind.as_deref(), bytes);
                prop_assert!(payload.is_none_or(|text| check_payload(&text).is_ok()));
            }
        }
    }
}
