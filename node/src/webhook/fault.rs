//! What went wrong with an attempt, from the libraries' chains of errors.
//!
//! Invariants: `FAULT-1` a reason is short and for partners: it tells of their endpoint, never of this node or of addresses
//! in its network; `FAULT-2` what no rule knows is a fault of the protocol, so that nothing is left without a name.
//! The whole chain goes to the log, for debugging only: it is the endpoint's doing.

use super::connector::ConnectTimeout;
use super::resolver::LookupError;
use hyper_util::client::legacy;
use rustls::CertificateError;
use rustls::pki_types::InvalidDnsNameError;
use std::error::Error;
use std::io;
use std::iter::successors;
use triggers_actors::{SendFailure, SendOutcome};

/// How much of a library's words on TLS a reason repeats: a certificate's names are in them.
const REASON_CHARACTERS_MAX: usize = 200;

/// A failure and its reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SendFault {
    failure: SendFailure,
    reason: String,
}

impl SendFault {
    pub(super) fn new(failure: SendFailure, reason: impl Into<String>) -> Self {
        Self { failure, reason: reason.into() }
    }

    /// There was no head of an answer.
    pub(super) fn of_request(error: &legacy::Error) -> Self {
        tracing::debug!(?error, "webhook not answered");
        if let Some(lookup) = find::<LookupError>(error) {
            return Self::of_lookup(*lookup);
        }
        if let Some(late) = find::<ConnectTimeout>(error) {
            return Self::new(SendFailure::Timeout, late.to_string());
        }
        if let Some(reason) = tls_reason(error) {
            return Self::new(SendFailure::Tls, reason);
        }
        if error.is_connect() { Self::of_connection(error) } else { Self::of_exchange(error) }
    }

    fn of_lookup(error: LookupError) -> Self {
        let failure = match error {
            LookupError::NoAddress | LookupError::TooMany => SendFailure::Dns,
            LookupError::Forbidden => SendFailure::Forbidden,
        };
        Self::new(failure, error.to_string())
    }

    fn of_connection(error: &legacy::Error) -> Self {
        // The connector puts faults of the handshake, and no others, into an I/O error of its own.
        if error.source().is_some_and(|cause| cause.is::<io::Error>()) {
            return Self::new(SendFailure::Tls, "the connection ended during the TLS handshake");
        }
        let reason = match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => {
                return Self::new(SendFailure::Timeout, "no connection in time");
            }
            Some(io::ErrorKind::ConnectionRefused) => "connection refused",
            Some(io::ErrorKind::ConnectionReset) => "connection reset",
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
                "the host cannot be reached"
            }
            _ => "no connection",
        };
        Self::new(SendFailure::Connect, reason)
    }

    fn of_exchange(error: &legacy::Error) -> Self {
        let reason = match find::<hyper::Error>(error) {
            Some(error) if error.is_parse_too_large() => "the head of the answer is too large",
            Some(error) if error.is_parse() => "the answer is no HTTP",
            _ => "the connection ended before the answer",
        };
        Self::new(SendFailure::Protocol, reason)
    }

    /// The outcome of the attempt; the status, if the head of an answer came.
    pub(super) fn outcome(self, status: Option<u16>) -> SendOutcome {
        SendOutcome::Failed { status, failure: self.failure, reason: self.reason }
    }
}

/// The first error of a kind in the chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and what caused it, outermost first. An I/O error leaves what it wraps out of its own chain.
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
        return Some("the host name is none that a certificate can be for".to_owned());
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
        CertificateError::UnknownIssuer => "the certificate is of no known authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        other => format!("the certificate is not valid: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_however_it_is_wrapped() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls.clone()));
        assert_eq!(find::<rustls::Error>(&wrapped), Some(&tls));
        assert_eq!(
            tls_reason(&wrapped).as_deref(),
            Some("the certificate is of no known authority")
        );
        assert_eq!(tls_reason(&io::Error::other("something else")), None);
    }

    #[test]
    fn a_reason_is_short() {
        let long = rustls::Error::General("x".repeat(1_000));
        let reason = tls_reason(&io::Error::other(long)).unwrap();
        assert_eq!(reason.chars().count(), REASON_CHARACTERS_MAX, "FAULT-1");
    }
}
