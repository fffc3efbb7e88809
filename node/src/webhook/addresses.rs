//! Decides which IP addresses a webhook may be sent to.
//!
//! - `ADDRESS-1`: an address that is not public by the registries of special-purpose addresses
//!   (RFC 6890: private, loopback, link-local, multicast, documentation, …) is rejected unless the
//!   operator allows a network that contains it.
//! - `ADDRESS-2`: an IPv6 address with an embedded IPv4 address is judged by the IPv4 address,
//!   because packets go there.
//!
//! Host names are looked up in `resolver`.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public.
const FORBIDDEN_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),        // "this network"
    v4([10, 0, 0, 0], 8),       // private
    v4([100, 64, 0, 0], 10),    // carrier-grade NAT
    v4([127, 0, 0, 0], 8),      // loopback
    v4([168, 63, 129, 16], 32), // platform services of Azure
    v4([169, 254, 0, 0], 16),   // link-local, cloud metadata
    v4([172, 16, 0, 0], 12),    // private
    v4([192, 0, 0, 0], 24),     // protocol assignments
    v4([192, 0, 2, 0], 24),     // documentation
    v4([192, 88, 99, 0], 24),   // 6to4 relays
    v4([192, 168, 0, 0], 16),   // private
    v4([198, 18, 0, 0], 15),    // benchmarks
    v4([198, 51, 100, 0], 24),  // documentation
    v4([203, 0, 113, 0], 24),   // documentation
    v4([224, 0, 0, 0], 4),      // multicast
    v4([240, 0, 0, 0], 4),      // reserved, broadcast
];

/// The part of IPv6 that is allocated for global use. Everything else is rejected.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// Networks inside [`GLOBAL_V6`] that are not public.
const FORBIDDEN_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments, Teredo
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

const fn v4(address: [u8; 4], prefix_length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_bits(u32::from_be_bytes(address)), prefix_length)
}

/// The IPv6 network whose address begins with these two segments.
const fn v6(first: u16, second: u16, prefix_length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), prefix_length)
}

/// IPv6 networks whose last 32 bits are an IPv4 address: mapped, compatible and NAT64.
const CARRIERS: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
];

/// Whether webhooks may be sent to the address. `allowed` lists non-public networks that the
/// operator permits.
pub(super) fn may_be_called(address: IpAddr, allowed: &[IpNet]) -> bool {
    let is_permitted = |address: IpAddr| {
        is_public(address) || allowed.iter().any(|network| network.contains(&address))
    };
    is_permitted(address)
        || embedded_v4(address).is_some_and(|embedded| is_permitted(IpAddr::V4(embedded)))
}

/// The IPv4 address embedded in an IPv6 address.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    // The cast keeps the last 32 bits.
    let last = Ipv4Addr::from_bits(address.to_bits() as u32);
    CARRIERS.iter().any(|carrier| carrier.contains(&address)).then_some(last)
}

/// Whether the address is in no special-purpose network. Addresses of [`CARRIERS`] never are
/// public themselves, because they lie outside [`GLOBAL_V6`].
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !FORBIDDEN_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address)
                && !FORBIDDEN_V6.iter().any(|network| network.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// First and last address of every rejected network.
    const REJECTED: &[&str] = &[
        "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0",
        "127.255.255.255 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255",
        "192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0",
        "192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0",
        "203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255 :: ::1",
        "::ffff:0.0.0.0 ::ffff:10.0.0.1 ::127.0.0.1 ::ffff:169.254.169.254 64:ff9b::192.168.0.1",
        "64:ff9b::1:808:808 64:ff9b:1::808:808 100::1 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:: 2001::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8:ffff::1",
        "2002:: 2002:808:808::1 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 4000:: 5f00::1 fc00::1 fd00:ec2::254 fe80::1",
        "fec0::1 ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    /// Neighbours of the rejected networks, and public IPv4 addresses embedded in IPv6.
    const ACCEPTED: &[&str] = &[
        "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0",
        "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0",
        "192.0.1.255 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0",
        "198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0",
        "223.255.255.255 8.8.8.8 ::ffff:8.8.8.8 ::8.8.8.8 64:ff9b::8.8.8.8 2000:: 2001:200::",
        "2001:db7:ffff::1 2001:db9:: 2001:ffff::1 2003:: 3ffe:ffff::1 3fff:1000::",
        "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2606:4700:4700::1111",
    ];

    fn addresses(lines: &[&str]) -> Vec<IpAddr> {
        lines.iter().flat_map(|line| line.split(' ')).map(|text| text.parse().unwrap()).collect()
    }

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn carriers(address: Ipv4Addr) -> [IpAddr; 3] {
        CARRIERS.map(|carrier| {
            Ipv6Addr::from_bits(carrier.addr().to_bits() | u128::from(address.to_bits())).into()
        })
    }

    #[test]
    fn only_public_addresses_are_accepted() {
        for address in addresses(REJECTED) {
            assert!(!may_be_called(address, &[]), "ADDRESS-1: {address}");
        }
        for address in addresses(ACCEPTED) {
            assert!(may_be_called(address, &[]), "ADDRESS-1: {address}");
        }
    }

    #[test]
    fn an_allowed_network_is_accepted_in_every_form() {
        let allowed = networks(&["10.1.0.0/16", "::1/128", "fd00::/8"]);
        for address in addresses(&[
            "10.1.0.0 10.1.255.255 ::ffff:10.1.2.3 ::10.1.2.3 64:ff9b::10.1.2.3 ::1 fd12::1",
        ]) {
            assert!(may_be_called(address, &allowed), "ADDRESS-1, ADDRESS-2: {address}");
        }
        for address in
            addresses(&["10.0.255.255 10.2.0.0 ::ffff:10.2.0.0 127.0.0.1 :: ::2 fc00::1 fe80::1"])
        {
            assert!(!may_be_called(address, &allowed), "ADDRESS-1: {address}");
        }
    }

    proptest! {
        #[test]
        fn an_embedded_address_decides(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            for carrier in carriers(address) {
                let is_called = may_be_called(carrier, &[]);
                let expected = may_be_called(address.into(), &[]);
                prop_assert_eq!(is_called, expected, "ADDRESS-2: {}", carrier);
            }
        }

        #[test]
        fn an_allowed_network_changes_nothing_outside_it(
            bits: u32,
            other: u32,
            prefix in 0u8..=32,
        ) {
            let (address, other) = (Ipv4Addr::from_bits(bits), Ipv4Addr::from_bits(other));
            let allowed = networks(&[format!("{address}/{prefix}").as_str()]);
            prop_assert!(may_be_called(address.into(), &allowed), "ADDRESS-1");
            for carrier in carriers(address) {
                prop_assert!(may_be_called(carrier, &allowed), "ADDRESS-2: {}", carrier);
            }
            let is_inside = Ipv4Net::new_assert(address, prefix).contains(&other);
            let expected = is_inside || is_public(other.into());
            prop_assert_eq!(may_be_called(other.into(), &allowed), expected, "ADDRESS-1");
        }

        #[test]
        fn nothing_outside_the_global_range_is_accepted(bits: u128) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let is_global = bits >> 125 == 1;
            let is_embedded = embedded_v4(address).is_some();
            let is_called = may_be_called(address, &[]);
            prop_assert!(is_global || is_embedded || !is_called, "ADDRESS-1");
        }
    }
}
