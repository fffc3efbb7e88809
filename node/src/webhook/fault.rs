//! Classifies failed attempts from the error chains of the HTTP and TLS libraries.
//!
//! - `FAULT-1`: a reason is short and written for partners. It describes their endpoint, never this
//!   node or addresses in its network.
//! - `FAULT-2`: an error that no rule matches is a protocol fault, so every failure has a kind.
//!
//! The full chain is logged at debug level only, because endpoints control it.

use super::connector::ConnectTimeout;
use super::os_error::node_fault;
use super::resolver::LookupError;
use rustls::CertificateError;
use rustls::pki_types::InvalidDnsNameError;
use std::error::Error;
use std::io;
use std::iter::successors;
use tower::BoxError;
use triggers_actors::{SendFailure, SendOutcome};

/// Longest TLS reason in characters: the library's text may contain many certificate names.
const REASON_CHARACTERS_MAX: usize = 200;

/// Reason of an attempt that this node could not make. Nobody sees it, because such attempts are
/// withdrawn.
pub const UNSENT: &str = "the request could not be sent";

/// A failed attempt: the kind of failure and a reason for the partner.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SendFault {
    failure: SendFailure,
    reason: String,
}

impl SendFault {
    pub(super) fn new(failure: SendFailure, reason: impl Into<String>) -> Self {
        Self { failure, reason: reason.into() }
    }

    /// Classifies a connection that could not be opened.
    pub(super) fn of_connection(error: &BoxError) -> Self {
        tracing::debug!(?error, "webhook got no connection");
        let error: &(dyn Error + 'static) = &**error;
        if let Some(lookup) = find::<LookupError>(error) {
            let failure = match lookup {
                LookupError::NoAddress | LookupError::Silent => SendFailure::Dns,
                LookupError::Forbidden => SendFailure::Forbidden,
                LookupError::Node(fault) => SendFailure::Node(*fault),
            };
            return Self::new(failure, lookup.to_string());
        }
        if let Some(fault) = causes(error).find_map(|cause| node_fault(cause.downcast_ref()?)) {
            return Self::new(SendFailure::Node(fault), UNSENT);
        }
        if let Some(timeout) = find::<ConnectTimeout>(error) {
            return Self::new(SendFailure::Timeout, timeout.to_string());
        }
        if let Some(reason) = tls_reason(error) {
            return Self::new(SendFailure::Tls, reason);
        }
        // Only handshake faults are plain I/O errors; those of TCP are wrapped.
        if error.is::<io::Error>() {
            return Self::new(SendFailure::Tls, "the connection ended during the TLS handshake");
        }
        let reason = match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => {
                return Self::new(SendFailure::Timeout, "no connection in time");
            }
            Some(io::ErrorKind::ConnectionRefused) => "connection refused",
            Some(io::ErrorKind::ConnectionReset) => "connection reset",
            Some(io::ErrorKind::HostUnreachable) => "the host cannot be reached",
            // There is no route: nobody knows whose fault that is.
            Some(
                io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::PermissionDenied,
            ) => return Self::new(SendFailure::Unclear, "the network cannot be reached"),
            _ => "no connection",
        };
        Self::new(SendFailure::Connect, reason)
    }

    /// The outcome of the attempt. `status` is that of the response head, if one arrived.
    pub(super) fn outcome(self, status: Option<u16>) -> SendOutcome {
        SendOutcome::Failed { status, failure: self.failure, reason: self.reason }
    }
}

/// The first error of type `E` in the chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and its causes, outermost first. `io::Error::source` skips the error that it wraps, so
/// that one is inserted here.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn tls_reason(error: &(dyn Error + 'static)) -> Option<String> {
    if find::<InvalidDnsNameError>(error).is_some() {
        return Some("no certificate can be issued for this host name".to_owned());
    }
    let reason = match find::<rustls::Error>(error)? {
        rustls::Error::InvalidCertificate(fault) => certificate_reason(fault),
        other => format!("no secure connection: {other}"),
    };
    Some(reason.chars().take(REASON_CHARACTERS_MAX).collect())
}

fn certificate_reason(fault: &CertificateError) -> String {
    match fault {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate is not valid for this host: {fault}")
        }
        CertificateError::UnknownIssuer => {
            "the certificate was issued by an unknown authority".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".into()
        }
        other => format!("the certificate is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_error_is_found() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls.clone()));
        assert_eq!(find::<rustls::Error>(&wrapped), Some(&tls));
        assert_eq!(
            tls_reason(&wrapped).as_deref(),
            Some("the certificate was issued by an unknown authority")
        );
        assert_eq!(tls_reason(&io::Error::other("something else")), None);
    }

    #[test]
    fn a_reason_has_a_maximum_length() {
        let long = rustls::Error::General("x".repeat(1_000));
        let reason = tls_reason(&io::Error::other(long)).unwrap();
        assert_eq!(reason.chars().count(), REASON_CHARACTERS_MAX, "FAULT-1");
    }
}
