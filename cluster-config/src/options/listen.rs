//! Options of section `listen`: the public listener, where partners post and consumers pull.
//!
//! Every wait on a client has an end here (header, body, request, response), and so has everything a client can make the node
//! hold (connections, header bytes). TLS is on if both files are given; whether they exist and fit each other is
//! found when the listener starts.
//!
//! It is not the place of limits on what a request may contain: those are in section `limits`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::field::Bounds;
use crate::rule::Rule;

/// Origins that CORS may name; each response is compared with all of them.
const ORIGINS_MAX: usize = 64;

section! {
    /// The public listener: partners post events here, consumers pull them.
    "listen" => ListenOptions {
        /// Address and port to listen on; port 0 takes a free one.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            Bounds::Described("an IP address and port, such as 127.0.0.1:8080");
        /// Certificate chain, PEM. Together with tls_key_file it turns TLS on.
        tls_certificate_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// Private key of the certificate, PEM.
        tls_key_file: Option<PathBuf> = None, Bounds::Described("a path; empty: none");
        /// A proxy in front terminates TLS: send Strict-Transport-Security, trust its X-Forwarded-For.
        /// Never set it where clients can reach this listener directly: they could claim any address.
        is_behind_tls_proxy: bool = false, Bounds::Free;
        /// Open connections; more wait in the backlog of the operating system.
        connections_max: usize = 10_000, Bounds::Whole(1, 1_000_000);
        /// Open connections of one address (IPv6: of one /64); more are closed at once.
        /// It does not count behind a proxy, whose address all connections have.
        connections_per_address_max: usize = 1_000, Bounds::Whole(1, 1_000_000);
        /// Wait for the head of a request, from its first byte; on a new connection from its beginning.
        header_timeout_ms: u64 = 10_000, Bounds::Whole(100, 600_000);
        /// How long a connection is kept without a request. Proxies in front should keep theirs for less.
        idle_timeout_ms: u64 = 75_000, Bounds::Whole(100, 3_600_000);
        /// Size of the head of a request.
        header_bytes_max: usize = 16_384, Bounds::Whole(8_192, 1_048_576);
        /// Header fields of a request. With more than 72, each request takes memory for as many.
        headers_max: usize = 72, Bounds::Whole(16, 1_024);
        /// Wait for the whole body of a request.
        body_timeout_ms: u64 = 20_000, Bounds::Whole(100, 600_000);
        /// Time for a whole request, after which 503 is answered.
        request_timeout_ms: u64 = 30_000, Bounds::Whole(100, 600_000);
        /// Time in which a client has to take a whole answer, after which its connection is closed. Streams have no end.
        response_timeout_ms: u64 = 60_000, Bounds::Whole(100, 3_600_000);
        /// Time between readiness failing and the end of accepting, when the node stops. Behind a load balancer: at least
        /// as long as it takes to notice.
        drain_delay_ms: u64 = 0, Bounds::Whole(0, 600_000);
        /// Time that running requests get to finish when the node stops.
        drain_timeout_ms: u64 = 25_000, Bounds::Whole(100, 600_000);
        /// Origins that browsers may call from. Empty: none.
        cors_origins: Vec<String> = Vec::new(),
            Bounds::Described("a list of at most 64 exact origins, such as https://app.example.com");
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

/// What the declarations above cannot say.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        fields: &["listen.tls_certificate_file", "listen.tls_key_file"],
        broken: |options| {
            let listen = &options.listen;
            (listen.tls_certificate_file.is_some() != listen.tls_key_file.is_some()).then(|| {
                "must be set together with listen.tls_key_file, or neither of them".to_owned()
            })
        },
    },
    Rule {
        fields: &["listen.cors_origins"],
        broken: |options| {
            let origins = &options.listen.cors_origins;
            if origins.len() > ORIGINS_MAX {
                return Some(format!(
                    "must be at most {ORIGINS_MAX} origins, but are {}",
                    origins.len()
                ));
            }
            let faults: Vec<String> = origins
                .iter()
                .filter_map(|origin| Some(format!("{origin:?} {}", origin_fault(origin)?)))
                .collect();
            (!faults.is_empty()).then(|| faults.join("; "))
        },
    },
];

/// What keeps a text from being an origin as browsers send it, or nothing.
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

/// Whether a text is a lowercase host name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host_fits(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label_fits = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    host.len() <= 253 && host.split('.').all(label_fits)
}

#[cfg(test)]
mod tests {
    use super::origin_fault;

    #[test]
    fn origins_as_browsers_send_them_are_taken() {
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
    fn everything_else_is_refused() {
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
