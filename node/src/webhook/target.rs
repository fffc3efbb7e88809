//! The URL that a webhook is sent to.
//!
//! - `TARGET-1`: a target is `https` (or `http`, if that is allowed) with a host. It has neither a
//!   user, so that a receiver's log shows no password, nor a fragment, which would not be sent.
//! - `TARGET-2`: an address in place of a host name is checked here, in every spelling that the
//!   WHATWG URL standard reads as an address. The connector does not check it again.
//! - `TARGET-3`: a target is normalised as that standard says; parsing it again changes nothing.
//!
//! Host names are not looked up here: each connection does it, because the answer may change.

use super::{SenderError, addresses};
use hyper::Uri;
use ipnet::IpNet;
use std::net::IpAddr;
use triggers_cluster_config::DeliveryOptions;
use triggers_protocol::Malformed;
use url::{Host, ParseError, Url};

/// Characters of a target URL.
const CHARACTERS_MAX: usize = 2_048;
/// Characters of a host name (RFC 1035).
const HOST_CHARACTERS_MAX: usize = 253;

/// Decides which targets may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Reject targets without TLS.
    pub is_https_required: bool,
    /// Networks that may be called although they are not public.
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

/// A normalised URL that a webhook may be sent to. Its host name may still resolve to an address
/// that may not be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Uri);

impl Target {
    /// Parses, normalises and checks a URL.
    ///
    /// # Errors
    /// [`Malformed`]; the message follows the name of the field: "must be an https:// URL …".
    pub fn parse(text: &str, policy: &TargetPolicy) -> Result<Self, Malformed> {
        let kind =
            if policy.is_https_required { "an https:// URL" } else { "an http:// or https:// URL" };
        check(text, policy).map(Self).map_err(|rule| Malformed(format!("must be {kind} {rule}")))
    }

    /// The normalised URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// The part of the URL that targets on one connection share: scheme, host and port.
    pub(super) fn endpoint(&self) -> String {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}", self.0.scheme_str().unwrap_or_default())
    }
}

const SHAPE_RULE: &str = "with a host, such as https://example.com/webhooks";
const LENGTH_RULE: &str = "of at most 2048 characters";
const HOST_RULE: &str = "with a host name or an IP address";
const PORT_RULE: &str = "with a port from 1 to 65535, or none";

/// The normalised URL, or the rule that it breaks, in words that follow "must be an https:// URL".
fn check(text: &str, policy: &TargetPolicy) -> Result<Uri, &'static str> {
    // The standard drops white space and additional slashes; they are mistakes here.
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return Err("without spaces and control characters");
    }
    if text.len() > CHARACTERS_MAX {
        return Err(LENGTH_RULE);
    }
    let is_complete =
        text.split_once("://").is_some_and(|(_, rest)| !rest.starts_with(['/', '\\']));
    if !is_complete {
        return Err(SHAPE_RULE);
    }
    let url = Url::parse(text).map_err(rule_of)?;
    if !matches!((url.scheme(), policy.is_https_required), ("https", _) | ("http", false)) {
        return Err(SHAPE_RULE);
    }
    if url.fragment().is_some() {
        return Err("without a fragment");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("without a user");
    }
    if url.port() == Some(0) {
        return Err(PORT_RULE);
    }
    let address = match url.host().ok_or(SHAPE_RULE)? {
        Host::Domain(name) if is_host_name(name) => None,
        Host::Domain(_) => return Err(HOST_RULE),
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
    };
    if address.is_some_and(|address| !policy.may_be_called(address)) {
        return Err("with a public address: this one may not be called");
    }
    // Percent-encoding may have made it longer.
    if url.as_str().len() > CHARACTERS_MAX {
        return Err(LENGTH_RULE);
    }
    url.as_str().parse().map_err(|_| SHAPE_RULE)
}

fn rule_of(error: ParseError) -> &'static str {
    match error {
        ParseError::InvalidPort => PORT_RULE,
        ParseError::Overflow => LENGTH_RULE,
        ParseError::IdnaError
        | ParseError::InvalidIpv4Address
        | ParseError::InvalidIpv6Address
        | ParseError::InvalidDomainCharacter => HOST_RULE,
        _ => SHAPE_RULE,
    }
}

/// Whether DNS can have the name, as far as its characters tell; one dot may end it.
fn is_host_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    name.len() <= HOST_CHARACTERS_MAX
        && labels.into_iter().all(|label| !label.is_empty() && label.bytes().all(is_allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const STRICT: TargetPolicy = TargetPolicy { is_https_required: true, allowed: Vec::new() };
    const LAX: TargetPolicy = TargetPolicy { is_https_required: false, allowed: Vec::new() };

    fn normalised(text: &str) -> String {
        let target = Target::parse(text, &STRICT).unwrap_or_else(|error| panic!("{text}: {error}"));
        target.uri().to_string()
    }

    #[test]
    fn normal_targets_stay_as_they_are() {
        for text in [
            "https://example.com/",
            "https://example.com/webhooks?key=a%20b&x={y}",
            "https://a-b.example_1.com:8443/",
            "https://xn--bcher-kva.example/",
            "https://8.8.8.8/",
            "https://[2606:4700:4700::1111]/",
            "https://localhost/",
            "https://example.com./",
        ] {
            assert_eq!(normalised(text), text, "TARGET-3");
            assert!(Target::parse(&text.replacen("https", "http", 1), &LAX).is_ok(), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_normalised() {
        for (text, expected) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://EXAMPLE.com:443/A", "https://example.com/A"),
            ("https://example.com:/a/../b", "https://example.com/b"),
            ("https://example.com\\a", "https://example.com/a"),
            ("https://bücher.example/é?ü", "https://xn--bcher-kva.example/%C3%A9?%C3%BC"),
            ("https://BU\u{308}CHER.example/", "https://xn--bcher-kva.example/"),
            ("https://ｅｘａｍｐｌｅ。com/", "https://example.com/"),
            ("https://%65xample.com/", "https://example.com/"),
            ("https://@example.com/", "https://example.com/"),
            ("https://0x8.8.2056/", "https://8.8.8.8/"),
            ("https://[2606:4700:4700:0:0::1111]:8443", "https://[2606:4700:4700::1111]:8443/"),
        ] {
            assert_eq!(normalised(text), expected, "TARGET-3: {text}");
        }
    }

    #[test]
    fn every_rule_is_named() {
        let long = format!("https://example.com/{}", "a".repeat(2_029));
        let longer_when_encoded = format!("https://example.com/{}", "é".repeat(400));
        for (text, rule) in [
            ("", "with a host,"),
            ("example.com", "with a host,"),
            ("/path", "with a host,"),
            ("*", "with a host,"),
            ("http://example.com/", "with a host,"),
            ("ftp://example.com/", "with a host,"),
            ("https://", "with a host,"),
            ("https:///path", "with a host"),
            ("https://:443/", "with a host,"),
            ("https:example.com/", "with a host,"),
            ("https://\\example.com/", "with a host,"),
            ("https://exa mple.com/", "without spaces"),
            (" https://example.com/", "without spaces"),
            ("https://example.com/a\r\nb", "without spaces"),
            ("https://exa\tmple.com/", "without spaces"),
            ("https://exa\u{3000}mple.com/", "without spaces"),
            ("https://example.com/#part", "without a fragment"),
            ("https://user@example.com/", "without a user"),
            ("https://user:secret@example.com/", "without a user"),
            ("https://example.com:0/", "with a port"),
            ("https://example.com:+443/", "with a port"),
            ("https://example.com:65536/", "with a port"),
            ("https://[::1/", "with a host"),
            ("https://[fe80::1%25eth0]/", "with a host"),
            ("https://[127.0.0.1]/", "with a host name"),
            ("https://[2606:4700:4700::1111]x/", "with a"),
            ("https://exa$mple.com/", "with a host name"),
            ("https://exa%20mple.com/", "with a host name"),
            ("https://example..com/", "with a host name"),
            ("https://127.0.0.1../", "with a host name"),
            ("https://1.2.3.256/", "with a host name"),
            ("https://1.2.3.4.5/", "with a host name"),
            ("https://xn--a/", "with a host name"),
            ("https://127.0.0.1/", "with a public address"),
            ("https://169.254.169.254/latest/meta-data/", "with a public address"),
            ("https://[::1]/", "with a public address"),
            ("https://[::ffff:127.0.0.1]/", "with a public address"),
            (long.as_str(), "of at most 2048 characters"),
            (longer_when_encoded.as_str(), "of at most 2048 characters"),
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

    /// Spellings that the WHATWG URL standard reads as this address.
    fn spellings(address: Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = address.octets();
        let bits = address.to_bits();
        let (last_three, last_two) = (bits & 0xff_ffff, bits & 0xffff);
        let plain = address.to_string();
        let full_width = |text: &str| {
            let wide = |digit: u32| char::from_u32(0xff10 + digit).unwrap_or_default();
            text.chars().map(|c| c.to_digit(10).map_or('。', wide)).collect::<String>()
        };
        let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        vec![
            plain.clone(),
            format!("{plain}."),
            format!("{bits}"),
            format!("{bits:#x}"),
            format!("0X{bits:08X}."),
            format!("0{bits:o}"),
            format!("{a}.{last_three}"),
            format!("{a:#x}.{last_three}"),
            format!("{a}.{b}.{last_two}"),
            format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a:#x}.0{b:o}.{last_two}"),
            full_width(&plain),
            full_width(&bits.to_string()),
            percent(&plain),
            percent(&format!("{bits:#x}")),
            format!("{a}\u{ad}.{b}.{c}.{d}"),
        ]
    }

    proptest! {
        #[test]
        fn every_spelling_of_an_address_is_judged_like_the_address(
            v4 in prop_oneof![any::<u32>(), Just(0x7f00_0001), Just(0x0a00_0001), Just(0), Just(1)],
            v6: u128,
        ) {
            let (v4, v6) = (Ipv4Addr::from_bits(v4), Ipv6Addr::from_bits(v6));
            let [s0, s1, s2, s3, s4, s5, s6, s7] = v6.segments();
            let full = format!("[{s0:04X}:{s1:x}:{s2:x}:{s3:x}:{s4:x}:{s5:x}:{s6:x}:{s7:04x}]");
            let all = spellings(v4).into_iter().map(|host| (host, IpAddr::V4(v4)));
            let all = all.chain([format!("[{v6}]"), full].map(|host| (host, IpAddr::V6(v6))));
            for (host, address) in all {
                let parsed = Target::parse(&format!("https://{host}:8443/"), &STRICT);
                prop_assert_eq!(
                    parsed.is_ok(), STRICT.may_be_called(address), "TARGET-2: {}", host
                );
                if let Ok(target) = parsed {
                    let host = target.uri().host().unwrap().trim_matches(['[', ']']);
                    prop_assert_eq!(host.parse(), Ok(address), "TARGET-3: {}", host);
                }
            }
        }

        #[test]
        fn no_text_panics_and_what_is_accepted_keeps_the_rules(
            text in "(https?://)?([a-z0-9.:@#?%/\\[\\]_ -]{0,60}|\\PC{0,20})",
        ) {
            if let Ok(target) = Target::parse(&text, &STRICT) {
                let uri = target.uri();
                let authority = uri.authority().unwrap().as_str();
                prop_assert_eq!(uri.scheme_str(), Some("https"), "TARGET-1");
                prop_assert!(!authority.contains('@'), "TARGET-1");
                prop_assert!(!uri.to_string().contains('#'), "TARGET-1");
                prop_assert!(!uri.host().unwrap().is_empty(), "TARGET-1");
                prop_assert!(uri.port_u16() != Some(0), "TARGET-1");
                prop_assert_eq!(Target::parse(&uri.to_string(), &STRICT), Ok(target), "TARGET-3");
            }
        }
    }
}
