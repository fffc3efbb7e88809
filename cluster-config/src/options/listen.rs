//! Options of section `listen`: the public listener for producers and consumers.
//!
//! The section bounds every wait for a client (header, body, request, response) and everything a
//! client makes the node hold (connections, header bytes). TLS is on if both files are given; the
//! listener reads them when it starts.
//!
//! Limits on the contents of a request are in section `limits`.

use crate::field::Bounds;
use crate::rule::list_fault;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

section! {
    /// The public listener: producers post events here, consumers read them.
    "listen" => ListenOptions {
        /// Address and port to listen on; port 0 selects a free port.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            Bounds::Described("an IP address and port, such as 127.0.0.1:8080");
        /// Certificate chain in PEM. Together with tls_key_file it turns TLS on.
        tls_certificate_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// Private key of the certificate in PEM.
        tls_key_file: Option<PathBuf> = None, Bounds::OPTIONAL_PATH;
        /// A proxy in front of the node terminates TLS. The node then sends
        /// Strict-Transport-Security and trusts the header X-Forwarded-For. Never set it where
        /// clients can reach this listener directly: they could forge their address.
        is_behind_tls_proxy: bool = false, Bounds::Free;
        /// Open connections; further ones wait in the backlog of the operating system.
        connections_max: usize = 10_000, Bounds::Range(1, 1_000_000);
        /// Open connections per client address (IPv6: per /64); further ones are closed at once.
        /// Without effect behind a proxy, from whose address all connections come.
        connections_per_address_max: usize = 1_000, Bounds::Range(1, 1_000_000);
        /// Time to receive the header of a request, from its first byte; for the first request of a
        /// connection from the start of the connection.
        header_timeout_ms: u64 = 10_000, Bounds::Range(100, 600_000);
        /// A connection without a request is closed after this time. A proxy in front should use a
        /// shorter one.
        idle_timeout_ms: u64 = 75_000, Bounds::Range(100, 3_600_000);
        /// Size of the header of a request.
        header_bytes_max: usize = 16_384, Bounds::Range(8_192, 1_048_576);
        /// Header fields of a request. Above 72, each request allocates memory for all of them.
        headers_max: usize = 72, Bounds::Range(16, 1_024);
        /// Time to receive the body of a request.
        body_timeout_ms: u64 = 20_000, Bounds::Range(100, 600_000);
        /// Time to handle a request; after it the node answers 503.
        request_timeout_ms: u64 = 30_000, Bounds::Range(100, 600_000);
        /// Time for a client to receive a response; after it the connection is closed. Without
        /// effect on event streams.
        response_timeout_ms: u64 = 60_000, Bounds::Range(100, 3_600_000);
        /// When the node stops, readiness fails for this time before the node stops accepting
        /// connections. Set it to the time in which a load balancer notices.
        drain_delay_ms: u64 = 0, Bounds::Range(0, 600_000);
        /// When the node stops, time for requests in progress to finish.
        drain_timeout_ms: u64 = 25_000, Bounds::Range(100, 600_000);
        /// Origins of web pages that may call the API from a browser.
        cors_origins: Vec<String> = Vec::new(),
            Bounds::Described("a list of at most 64 origins, such as https://app.example.com");
    }
}

impl ListenOptions {
    /// Few connections and short waits.
    pub(crate) fn simulation() -> Self {
        Self {
            connections_max: 64,
            connections_per_address_max: 32,
            header_timeout_ms: 1_000,
            header_bytes_max: 8_192,
            headers_max: 32,
            body_timeout_ms: 2_000,
            request_timeout_ms: 5_000,
            response_timeout_ms: 5_000,
            drain_timeout_ms: 5_000,
            ..Self::default()
        }
    }
}

rules! {
    ["listen.tls_certificate_file", "listen.tls_key_file"]
        |options| options.listen.tls_certificate_file.is_some()
            != options.listen.tls_key_file.is_some()
        => "must be set together with listen.tls_key_file, or neither of them";
    ["listen.cors_origins"]
        |options| list_fault(&options.listen.cors_origins, "origins", origin_fault);
}

/// Describes why a text is not an origin in the form that browsers send.
fn origin_fault(origin: &str) -> Option<&'static str> {
    let (authority, port_omitted) = match origin.split_once("://") {
        Some(("http", authority)) => (authority, ":80"),
        Some(("https", authority)) => (authority, ":443"),
        _ => return Some("must begin with http:// or https:// (no wildcard, no null)"),
    };
    if authority.contains(['/', '?', '#', '@']) {
        return Some("must end after the host and port: no user, no path, no trailing slash");
    }
    if authority.ends_with(port_omitted) {
        return Some("must leave the default port out, as browsers do");
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if let Some(port) = port
        && (port.starts_with('0')
            || !port.bytes().all(|byte| byte.is_ascii_digit())
            || port.parse::<u16>().is_err())
    {
        return Some("must have a port from 1 to 65535, or none");
    }
    (!host_fits(host)).then_some("must have a lowercase host name or an IP address")
}

/// Tests for a lowercase host name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host_fits(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.len() <= 253 && host.split('.').all(label_fits)
}

/// Tests for 1 to 63 characters of `a-z`, `0-9` and `-`.
pub(super) fn label_fits(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::origin_fault;

    #[test]
    fn origins_in_the_form_of_browsers_are_accepted() {
        let origins = [
            "https://app.example.com",
            "http://localhost:3000",
            "http://127.0.0.1:65535",
            "https://[::1]:8443",
            "https://[::1]",
            "https://xn--bcher-kva.example",
        ];
        for origin in origins {
            assert_eq!(origin_fault(origin), None, "{origin}");
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        let origins = [
            "",
            "*",
            "null",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://example.com/",
            "https://example.com/a",
            "https://user@example.com",
            "https://Example.com",
            "https://*.example.com",
            "https://example.com:443",
            "http://example.com:80",
            "https://example.com:0",
            "https://example.com:+1",
            "https://example.com:65536",
            "https://example.com:",
            "https://a..b",
            "https://[::g]",
            "https://a b",
        ];
        for origin in origins {
            assert!(origin_fault(origin).is_some(), "{origin}");
        }
    }
}
