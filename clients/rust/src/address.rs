//! The base address of a node, and how paths are put behind it.
//!
//! `BaseAddress` is parsed once and then only extended: scheme, authority, and an optional path prefix of a gateway
//! (`https://example.com/triggers`). Invariants: the scheme is `http` or `https`; there is no user, query or fragment, so
//! a key pasted into an address is refused instead of logged; the prefix has no trailing slash.
//!
//! It is not a general URL type.

use hyper::Uri;

use super::ClientError;

/// Scheme, host, port and path prefix in front of `/v1/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseAddress {
    text: String,
    authority: String,
    prefix: String,
    secure: bool,
}

impl BaseAddress {
    /// Reads an address such as `http://127.0.0.1:8080` or `https://example.com/triggers/`.
    ///
    /// # Errors
    /// `ClientError::Address` with the reason.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        // Whatever stands before an `@` may be a secret and is not repeated.
        let shown =
            text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"));
        let refuse =
            |reason: &str| ClientError::Address { url: shown.clone(), reason: reason.to_owned() };
        let trimmed = text.trim().trim_end_matches('/');
        let uri: Uri = trimmed.parse().map_err(|_| refuse("it is not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("the host is missing"))?;
        if authority.host().is_empty() {
            return Err(refuse("the host is missing"));
        }
        if authority.as_str().contains('@') {
            return Err(refuse("user and password in an address are not taken; use --key"));
        }
        if trimmed.contains(['?', '#']) {
            return Err(refuse("a query or fragment has no place in it"));
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            text: trimmed.to_owned(),
            authority: authority.as_str().to_owned(),
            prefix,
            secure,
        })
    }

    /// The address as given, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port, as they go into the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path and query as they go onto the request line, behind the prefix.
    pub fn target(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.prefix)
    }

    /// The absolute form of a path behind this address.
    ///
    /// # Errors
    /// `ClientError::Address` when path and address together are not a URI (longer than 64 kB).
    pub fn uri(&self, path_and_query: &str) -> Result<Uri, ClientError> {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.target(path_and_query)).parse().map_err(
            |error: hyper::http::uri::InvalidUri| ClientError::Address {
                url: self.text.clone(),
                reason: error.to_string(),
            },
        )
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, so that the text is one path segment or one
/// query value whatever it contains.
pub fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalized() {
        let address = BaseAddress::parse("http://127.0.0.1:8080/").unwrap();
        assert_eq!(address.as_str(), "http://127.0.0.1:8080");
        assert_eq!(address.target("/v1/inbox?limit=5"), "/v1/inbox?limit=5");
        let behind = BaseAddress::parse("https://example.com/triggers/").unwrap();
        assert_eq!(
            behind.uri("/v1/health").unwrap().to_string(),
            "https://example.com/triggers/v1/health"
        );
        assert_eq!(behind.authority(), "example.com");
    }

    #[test]
    fn unusable_addresses_are_refused_with_a_reason() {
        for (text, word) in [
            ("127.0.0.1:8080", "begin with"),
            ("ftp://host", "begin with"),
            ("http://", "begin with"),
            ("http://host/?a=b", "query"),
            ("http://us er:secret@host", "URL"),
            ("http://user:secret@host", "--key"),
        ] {
            let message = BaseAddress::parse(text).unwrap_err().to_string();
            assert!(message.contains(word), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn encoding_leaves_only_unreserved_characters() {
        assert_eq!(percent_encoded("order.*"), "order.%2A");
        assert_eq!(percent_encoded("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}
