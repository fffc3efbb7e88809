//! Which addresses a webhook may be sent to.
//!
//! Invariants: `ADDRESS-1` an address that is not public (private, loopback, link-local, multicast, for documentation, …,
//! by the registries of special-purpose addresses, RFC 6890) is refused unless a network that the operator allows contains
//! it; `ADDRESS-2` an IPv6 address that carries an IPv4 address is judged by that one, since that is where it leads.
//! It knows no names: what a name stands for is found in `resolver`.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of IPv4 that are not public: an address of each, and the length of its prefix.
const FORBIDDEN_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // behind a provider's translation
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // the platform's own services, on Azure
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, metadata of clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // relays of 6to4
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, broadcast
];

/// The part of IPv6 that is given out; everything outside it is refused.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Networks inside [`GLOBAL_V6`] that are not public.
const FORBIDDEN_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Networks of IPv6 whose last 32 bits are an address of IPv4: mapped, compatible, and translated (NAT64).
const CARRIERS: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
];

/// Whether a webhook may be sent to the address, given the networks that are allowed though they are not public.
pub(super) fn may_be_called(address: IpAddr, allowed: &[IpNet]) -> bool {
    let is_fine = |address: IpAddr| {
        is_public(address) || allowed.iter().any(|network| network.contains(&address))
    };
    is_fine(address) || carried(address).is_some_and(|carried| is_fine(IpAddr::V4(carried)))
}

/// The address of IPv4 that one of IPv6 carries.
fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    // The cut keeps the last 32 bits.
    let last = Ipv4Addr::from_bits(address.to_bits() as u32);
    CARRIERS.iter().any(|carrier| is_within_v6(address, carrier)).then_some(last)
}

/// Whether everybody may be expected at the address. An address that carries another is not in [`GLOBAL_V6`].
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !FORBIDDEN_V4.iter().any(|network| is_within_v4(address, network)),
        IpAddr::V6(address) => {
            is_within_v6(address, &GLOBAL_V6)
                && !FORBIDDEN_V6.iter().any(|network| is_within_v6(address, network))
        }
    }
}

fn is_within_v4(address: Ipv4Addr, (network, prefix): &(Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= *prefix
}

fn is_within_v6(address: Ipv6Addr, (network, prefix): &(Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= *prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// First and last of every refused network.
    const REFUSED: &[&str] = &[
        "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.0 127.255.255.255",
        "169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.255",
        "192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255",
        "198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255",
        ":: ::1 ::ffff:0.0.0.0 ::ffff:10.0.0.1 ::127.0.0.1 ::ffff:169.254.169.254 64:ff9b::192.168.0.1",
        "64:ff9b::1:808:808 64:ff9b:1::808:808 100::1 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:: 2001::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8:ffff::1 2002:: 2002:808:808::1",
        "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 4000:: 5f00::1",
        "fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    /// The neighbours of the refused networks, and what carries a public address.
    const TAKEN: &[&str] = &[
        "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255",
        "169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0 192.88.98.255",
        "192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0",
        "203.0.112.255 203.0.114.0 223.255.255.255 8.8.8.8",
        "::ffff:8.8.8.8 ::8.8.8.8 64:ff9b::8.8.8.8 2000:: 2001:200:: 2001:db7:ffff::1 2001:db9:: 2001:ffff::1 2003::",
        "3ffe:ffff::1 3fff:1000:: 3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2606:4700:4700::1111",
    ];

    fn addresses(lines: &[&str]) -> Vec<IpAddr> {
        lines.iter().flat_map(|line| line.split(' ')).map(|text| text.parse().unwrap()).collect()
    }

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn carriers(address: Ipv4Addr) -> [IpAddr; 3] {
        CARRIERS.map(|(carrier, _)| {
            Ipv6Addr::from_bits(carrier.to_bits() | u128::from(address.to_bits())).into()
        })
    }

    #[test]
    fn only_public_addresses_are_taken() {
        for address in addresses(REFUSED) {
            assert!(!may_be_called(address, &[]), "ADDRESS-1: {address}");
        }
        for address in addresses(TAKEN) {
            assert!(may_be_called(address, &[]), "ADDRESS-1: {address}");
        }
    }

    #[test]
    fn an_allowed_network_is_taken_in_every_form_and_no_other() {
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
        fn a_carrier_is_judged_by_what_it_carries(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            for carrier in carriers(address) {
                let judged = may_be_called(carrier, &[]);
                prop_assert_eq!(judged, may_be_called(address.into(), &[]), "ADDRESS-2: {}", carrier);
            }
        }

        #[test]
        fn a_network_allows_what_it_contains_and_changes_nothing_else(bits: u32, other: u32, prefix in 0u8..=32) {
            let (address, other) = (Ipv4Addr::from_bits(bits), Ipv4Addr::from_bits(other));
            let allowed = networks(&[format!("{address}/{prefix}").as_str()]);
            prop_assert!(may_be_called(address.into(), &allowed), "ADDRESS-1");
            prop_assert!(carriers(address).into_iter().all(|carrier| may_be_called(carrier, &allowed)), "ADDRESS-2");
            let expected = is_within_v4(other, &(address, prefix.into())) || is_public(other.into());
            prop_assert_eq!(may_be_called(other.into(), &allowed), expected, "ADDRESS-1");
        }

        #[test]
        fn nothing_outside_the_global_part_is_taken(bits: u128) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let is_global = bits >> 125 == 1;
            prop_assert!(is_global || carried(address).is_some() || !may_be_called(address, &[]), "ADDRESS-1");
        }
    }
}
