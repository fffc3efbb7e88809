//! The form of a body, as its headers declare it.

use super::cloud_events;
use crate::http::body;
use crate::http::error::ApiError;
use axum::http::HeaderMap;

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
    /// The form that the headers declare.
    ///
    /// # Errors
    /// 415 if they declare none of them.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let media_type = body::media_type(headers)?;
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/cloudevents+json") {
            Ok(Self::CloudEvent)
        } else if is("application/cloudevents-batch+json") {
            Ok(Self::CloudEvents)
        } else if is("application/x-ndjson") {
            Ok(Self::Lines)
        } else if body::is_json(media_type)
            && headers.contains_key(cloud_events::SPECVERSION_HEADER)
        {
            Ok(Self::BinaryCloudEvent)
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
    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_TYPE;
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
        assert_eq!(form("text/plain", true), Err(ErrorCode::UnsupportedMediaType));
    }
}
