//! The form of a body, as its headers declare it.

use super::cloud_events;
use crate::http::body;
use crate::http::error::ApiError;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};

/// A form in which events can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The API's own JSON.
    Json,
    /// One event a line.
    Lines,
    /// A CloudEvent in JSON.
    CloudEvent,
    /// A CloudEvent whose attributes are headers and whose data is the body.
    BinaryCloudEvent,
    /// An array of CloudEvents.
    CloudEvents,
}

impl Form {
    /// The form of a body that may be the data of a CloudEvent.
    ///
    /// # Errors
    /// As [`Form::of_batch`].
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        const STRUCTURED: &[u8] = b"application/cloudevents";
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let start = content_type.get(..STRUCTURED.len()).unwrap_or_default();
        if headers.contains_key(cloud_events::SPECVERSION_HEADER)
            && !start.eq_ignore_ascii_case(STRUCTURED)
        {
            return Ok(Self::BinaryCloudEvent);
        }
        Self::of_batch(headers)
    }

    /// The form that the content type declares.
    ///
    /// # Errors
    /// 415 if it declares none.
    pub(super) fn of_batch(headers: &HeaderMap) -> Result<Self, ApiError> {
        let media_type = body::media_type(headers)?;
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/cloudevents+json") {
            Ok(Self::CloudEvent)
        } else if is("application/cloudevents-batch+json") {
            Ok(Self::CloudEvents)
        } else if is("application/x-ndjson") {
            Ok(Self::Lines)
        } else if is("application/json") {
            Ok(Self::Json)
        } else {
            Err(body::unsupported(
                "Content-Type must be application/json, application/cloudevents+json, \
                 application/cloudevents-batch+json or, for a batch, application/x-ndjson",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use triggers_protocol::ErrorCode;

    #[test]
    fn headers_tell_the_form() {
        let form = |media_type: &'static str, binary: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            if binary {
                headers.insert(cloud_events::SPECVERSION_HEADER, HeaderValue::from_static("1.0"));
            }
            Form::of(&headers).map_err(|error| error.code)
        };
        assert_eq!(form("application/json; charset=utf-8", false), Ok(Form::Json));
        assert_eq!(form("application/json", true), Ok(Form::BinaryCloudEvent));
        assert_eq!(form("application/vnd.shop+json", true), Ok(Form::BinaryCloudEvent));
        assert_eq!(form("application/vnd.shop+json", false), Err(ErrorCode::UnsupportedMediaType));
        assert_eq!(form("application/CloudEvents+json", true), Ok(Form::CloudEvent));
        assert_eq!(form("application/cloudevents-batch+json", false), Ok(Form::CloudEvents));
        assert_eq!(form("application/x-ndjson", false), Ok(Form::Lines));
        for media_type in ["text/plain; charset=latin1", "application/x-ndjson", "image/png", ""] {
            assert_eq!(form(media_type, true), Ok(Form::BinaryCloudEvent), "{media_type}");
        }
        assert_eq!(form("text/plain", false), Err(ErrorCode::UnsupportedMediaType));
        assert_eq!(
            form("application/cloudevents+avro", true),
            Err(ErrorCode::UnsupportedMediaType)
        );
    }
}
