//! The URL that a webhook goes to.
//!
//! Invariants: `TARGET-1` what is parsed is `https` (or `http`, if that is allowed) with a host, and has neither a user nor a
//! fragment, so that a receiver's log shows no password and nothing is silently left out; `TARGET-2` an address in place
//! of a host name is checked here, because the connector asks no resolver about one.
//! A host name is not looked up here: what it stands for may differ at each attempt, so each connection checks it.

use super::{SenderError, addresses};
use hyper::Uri;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use triggers_cluster_config::DeliveryOptions;
use triggers_protocol::Malformed;

/// Characters of a target URL.
const CHARACTERS_MAX: usize = 2_048;
/// Characters of a host name (RFC 1035).
const HOST_CHARACTERS_MAX: usize = 253;

/// Which targets may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Refuse `http`.
    pub is_https_required: bool,
    /// Networks that may be called though they are not public.
    pub allowed: Vec<IpNet>,
}

impl TargetPolicy {
    /// The policy that the options describe.
    ///
    /// # Errors
    /// [`SenderError::Network`].
    pub fn from_options(options: &DeliveryOptions) -> Result<Self, SenderError> {
        let network = |text: &String| {
            text.parse::<IpNet>().map_err(|_| SenderError::Network { network: text.clone() })
        };
        let allowed = options.allowed_targets.iter().map(network).collect::<Result<_, _>>()?;
        Ok(Self { is_https_required: options.is_https_required, allowed })
    }

    /// Whether a connection to the address may be made.
    pub(super) fn may_be_called(&self, address: IpAddr) -> bool {
        addresses::may_be_called(address, &self.allowed)
    }
}

/// A URL that a webhook may be sent to, as far as the URL tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Uri);

impl Target {
    /// Parses and checks a URL.
    ///
    /// # Errors
    /// [`Malformed`]; the message follows the name of the field: "must be an https:// URL …".
    pub fn parse(text: &str, policy: &TargetPolicy) -> Result<Self, Malformed> {
        let kind =
            if policy.is_https_required { "an https:// URL" } else { "an http:// or https:// URL" };
        check(text, policy).map(Self).map_err(|rule| Malformed(format!("must be {kind} {rule}")))
    }

    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

/// The URL, or the rule that it breaks, in words that follow "must be an https:// URL".
fn check(text: &str, policy: &TargetPolicy) -> Result<Uri, &'static str> {
    const SHAPE: &str = "with a host, such as https://example.com/webhooks";
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("without spaces, control characters and characters outside ASCII");
    }
    if text.len() > CHARACTERS_MAX {
        return Err("of at most 2048 characters");
    }
    if text.contains('#') {
        return Err("without a fragment");
    }
    let uri: Uri = text.parse().map_err(|_| SHAPE)?;
    if !matches!(
        (uri.scheme_str(), policy.is_https_required),
        (Some("https"), _) | (Some("http"), false)
    ) {
        return Err(SHAPE);
    }
    let authority = uri.authority().map(|authority| authority.as_str()).ok_or(SHAPE)?;
    if authority.contains('@') {
        return Err("without a user");
    }
    let host = uri.host().ok_or(SHAPE)?;
    if let Some(address) = literal(host)?
        && !policy.may_be_called(address)
    {
        return Err("with a public address: this one may not be called");
    }
    // Without a user the authority begins with the host.
    port_fits(authority.strip_prefix(host).unwrap_or_default())?;
    Ok(uri)
}

/// The address that stands in place of a host name, if one does.
fn literal(host: &str) -> Result<Option<IpAddr>, &'static str> {
    const RULE: &str = "with a host name or an IP address";
    if let Some(rest) = host.strip_prefix('[') {
        let address =
            rest.strip_suffix(']').and_then(|text| text.parse::<Ipv6Addr>().ok()).ok_or(RULE)?;
        return Ok(Some(address.into()));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Some(address.into()));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let fits = (1..=HOST_CHARACTERS_MAX).contains(&host.len()) && host.bytes().all(allowed);
    if fits { Ok(None) } else { Err(RULE) }
}

/// Checks what follows the host: nothing, or a colon and a port.
fn port_fits(text: &str) -> Result<(), &'static str> {
    let is_port = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let fits = text.is_empty() || text.strip_prefix(':').is_some_and(is_port);
    if fits { Ok(()) } else { Err("with a port from 1 to 65535, or none") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STRICT: TargetPolicy = TargetPolicy { is_https_required: true, allowed: Vec::new() };
    const LAX: TargetPolicy = TargetPolicy { is_https_required: false, allowed: Vec::new() };

    #[test]
    fn targets_that_may_be_called_are_taken_as_they_are() {
        for text in [
            "https://example.com/",
            "https://example.com/webhooks?key=a%20b&x={y}",
            "https://a-b.example_1.com:8443/",
            "https://xn--bcher-kva.example/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]:443/",
            "https://localhost/",
        ] {
            let target =
                Target::parse(text, &STRICT).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(target.uri().to_string(), text);
            assert!(Target::parse(&text.replacen("https", "http", 1), &LAX).is_ok(), "{text}");
        }
        assert_eq!(Target::parse("https://example.com", &STRICT).unwrap().uri().path(), "/");
    }

    #[test]
    fn every_rule_is_named() {
        let long = format!("https://example.com/{}", "a".repeat(2_029));
        for (text, rule) in [
            ("", "with a host,"),
            ("example.com", "with a host,"),
            ("/path", "with a host,"),
            ("*", "with a host,"),
            ("http://example.com/", "with a host,"),
            ("ftp://example.com/", "with a host,"),
            ("https://", "with a host,"),
            ("https:///path", "with a host"),
            ("https://:443/", "with a host name"),
            ("https://exa mple.com/", "without spaces"),
            ("https://example.com/a\r\nb", "without spaces"),
            ("https://example.com/é", "without spaces"),
            ("https://example.com/#part", "without a fragment"),
            ("https://user@example.com/", "without a user"),
            ("https://user:secret@example.com/", "without a user"),
            ("https://example.com:0/", "with a port"),
            ("https://example.com:/", "with a port"),
            ("https://example.com:+443/", "with a port"),
            ("https://example.com:65536/", "with a port"),
            ("https://[::1/", "with a host"),
            ("https://[fe80::1%25eth0]/", "with a host"),
            ("https://[127.0.0.1]/", "with a host name"),
            ("https://[2606:4700:4700::1111]x/", "with a port"),
            ("https://exa$mple.com/", "with a host name"),
            ("https://127.0.0.1/", "with a public address"),
            ("https://169.254.169.254/latest/meta-data/", "with a public address"),
            ("https://[::1]/", "with a public address"),
            ("https://[::ffff:127.0.0.1]/", "with a public address"),
            (long.as_str(), "of at most 2048 characters"),
        ] {
            let message = Target::parse(text, &STRICT).unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("must be an https:// URL {rule}")),
                "TARGET-1: {text}: {message}"
            );
            assert!(!message.contains("secret"), "{message}");
        }
        assert!(Target::parse(&long[..long.len() - 1], &STRICT).is_ok());
    }

    #[test]
    fn an_allowed_network_may_be_called_by_its_address() {
        let networks = vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
        let options = DeliveryOptions {
            allowed_targets: networks,
            is_https_required: false,
            ..DeliveryOptions::default()
        };
        let policy = TargetPolicy::from_options(&options).unwrap();
        for text in ["http://127.0.0.1:8080/", "https://[::1]/", "http://[::ffff:127.0.0.1]/"] {
            assert!(Target::parse(text, &policy).is_ok(), "TARGET-2: {text}");
        }
        let message = Target::parse("http://10.0.0.1/", &policy).unwrap_err().to_string();
        assert!(
            message.starts_with("must be an http:// or https:// URL with a public address"),
            "TARGET-2: {message}"
        );
    }

    #[test]
    fn a_network_that_is_none_is_named() {
        let options = DeliveryOptions {
            allowed_targets: vec!["10.1".to_owned()],
            ..DeliveryOptions::default()
        };
        let message = TargetPolicy::from_options(&options).unwrap_err().to_string();
        assert_eq!(
            message,
            "delivery.allowed_targets: \"10.1\" must be a network, such as 10.1.0.0/16"
        );
    }

    proptest! {
        #[test]
        fn addresses_are_judged_like_those_behind_a_name(v4: u32, v6: u128) {
            for (text, address) in [
                (format!("https://{}/", Ipv4Addr::from_bits(v4)), IpAddr::V4(Ipv4Addr::from_bits(v4))),
                (format!("https://[{}]:8443/", Ipv6Addr::from_bits(v6)), IpAddr::V6(Ipv6Addr::from_bits(v6))),
            ] {
                let taken = Target::parse(&text, &STRICT).is_ok();
                prop_assert_eq!(taken, STRICT.may_be_called(address), "TARGET-2: {}", text);
            }
        }

        #[test]
        fn no_text_panics_and_what_is_taken_keeps_the_rules(text in "(https?://)?[a-z0-9.:@#?%/\\[\\]_ -]{0,60}") {
            if let Ok(target) = Target::parse(&text, &STRICT) {
                let uri = target.uri();
                let authority = uri.authority().unwrap().as_str();
                prop_assert_eq!(uri.scheme_str(), Some("https"), "TARGET-1");
                prop_assert!(!authority.contains('@') && !text.contains('#'), "TARGET-1");
                prop_assert!(!uri.host().unwrap().is_empty() && uri.port_u16() != Some(0), "TARGET-1");
            }
        }
    }
}
