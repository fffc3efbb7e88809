//! Finds the client's address: the peer of the connection, or the one that a proxy reports.
//!
//! - `CLIENT-ADDRESS-1`: `X-Forwarded-For` is used only if the options say that there is a proxy,
//!   and then only its last hop, which the proxy wrote. The client may have forged the others.
//! - `CLIENT-ADDRESS-2`: an IPv4 address has one form, also when it arrives mapped into IPv6.
//!
//! The address serves limits, audit and metadata, never authorization.

use crate::http::response_limits::ResponseDeadlines;
use axum::http::{HeaderMap, HeaderName};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of a request's connection. It is an extension of the request, which the outermost
/// middleware removes.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address of the peer.
    pub address: SocketAddr,
    /// Deadlines of the connection's responses; `None` if another node forwarded the request.
    pub(crate) response_deadlines: Option<Arc<ResponseDeadlines>>,
}

/// The client's address. Without a peer (a request made inside the process) it is `0.0.0.0`.
pub fn client_address(peer: Option<&Peer>, headers: &HeaderMap, is_behind_proxy: bool) -> IpAddr {
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
    let forwarded = if is_behind_proxy { last_hop(headers) } else { None };
    forwarded.unwrap_or(peer).to_canonical()
}

/// The unit that limits count as one sender: an IPv4 address, or a /64 network of IPv6.
pub(crate) fn sender(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// The last address of the last `X-Forwarded-For` header, with or without a port.
fn last_hop(headers: &HeaderMap) -> Option<IpAddr> {
    let value = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
    let hop = value.rsplit(',').next()?.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn address(values: &[&str], is_behind_proxy: bool) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let peer = Peer { address: "192.0.2.9:1234".parse().unwrap(), response_deadlines: None };
        client_address(Some(&peer), &headers, is_behind_proxy).to_string()
    }

    #[test]
    fn the_header_is_ignored_without_a_proxy() {
        assert_eq!(address(&["203.0.113.1"], false), "192.0.2.9", "CLIENT-ADDRESS-1");
    }

    #[test]
    fn the_last_hop_is_used_behind_a_proxy() {
        assert_eq!(address(&["203.0.113.1, 198.51.100.7"], true), "198.51.100.7");
        assert_eq!(address(&["203.0.113.1", "198.51.100.7:80"], true), "198.51.100.7");
        assert_eq!(address(&["[2001:db8::1]:80"], true), "2001:db8::1");
        assert_eq!(address(&["[2001:db8::1]"], true), "2001:db8::1");
        assert_eq!(address(&["2001:db8::1"], true), "2001:db8::1");
        assert_eq!(address(&["::ffff:198.51.100.7"], true), "198.51.100.7");
    }

    #[test]
    fn ipv6_senders_are_networks_and_mapped_ipv4_is_ipv4() {
        let sender = |text: &str| super::sender(text.parse().unwrap()).to_string();
        assert_eq!(sender("2001:db8:0:1:ffff::2"), "2001:db8:0:1::");
        assert_eq!(sender("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(sender("192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_value_without_an_address_is_ignored() {
        for value in ["", "unknown", "203.0.113.1,", "_hidden", "1.2.3"] {
            assert_eq!(address(&[value], true), "192.0.2.9", "{value}");
        }
        assert_eq!(client_address(None, &HeaderMap::new(), true).to_string(), "0.0.0.0");
    }
}
