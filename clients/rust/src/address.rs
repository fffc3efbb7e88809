//! The base address of a node, to which calls add their paths.
//!
//! - `ADDRESS-BASE-1`: the scheme is `http` or `https`, and the path prefix has no trailing slash.
//! - `ADDRESS-BASE-2`: user, query and fragment are errors, so that a key pasted into an address is
//!   not logged.

use super::error::ClientError;
use http::Uri;

/// Scheme, host, port and path prefix in front of `/v1/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseAddress {
    text: String,
    authority: String,
    prefix: String,
}

impl BaseAddress {
    /// Reads an address such as `http://127.0.0.1:8080` or `https://example.com/triggers/`.
    ///
    /// # Errors
    /// `ClientError::Address` with the reason.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        // The text before an `@` may be a secret, so errors do not repeat it.
        let shown =
            text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"));
        let fault =
            |reason: &str| ClientError::Address { url: shown.clone(), reason: reason.to_owned() };
        let trimmed = text.trim().trim_end_matches('/');
        let uri: Uri = trimmed.parse().map_err(|_| fault("it is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(fault("it must begin with http:// or https://"));
        }
        let authority = uri.authority().ok_or_else(|| fault("the host is missing"))?;
        if authority.host().is_empty() {
            return Err(fault("the host is missing"));
        }
        if authority.as_str().contains('@') {
            return Err(fault("an address has no user and password; give the API key separately"));
        }
        if trimmed.contains(['?', '#']) {
            return Err(fault("it must have no query and no fragment"));
        }
        Ok(Self {
            text: trimmed.to_owned(),
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The address as given, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port, the value of the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path and query of the request line: the prefix, then `path_and_query`.
    pub fn target(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.prefix)
    }

    /// The absolute URI of a path behind this address.
    ///
    /// # Errors
    /// `ClientError::Address` if path and address together are no URI, such as one above 64 kB.
    pub fn uri(&self, path_and_query: &str) -> Result<Uri, ClientError> {
        let uri: Result<Uri, _> = format!("{}{path_and_query}", self.text).parse();
        uri.map_err(|error| ClientError::Address {
            url: self.text.clone(),
            reason: error.to_string(),
        })
    }
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
    fn unusable_addresses_are_rejected_with_a_reason() {
        for (text, word) in [
            ("127.0.0.1:8080", "begin with"),
            ("ftp://host", "begin with"),
            ("http://", "begin with"),
            ("http://host/?a=b", "query"),
            ("http://us er:secret@host", "URL"),
            ("http://user:secret@host", "separately"),
        ] {
            let message = BaseAddress::parse(text).unwrap_err().to_string();
            assert!(message.contains(word), "{text}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
