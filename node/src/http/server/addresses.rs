//! Open connections by address, so that one sender cannot take all places.
//!
//! Addresses of IPv6 count by /64, which is what one sender usually has.
//! Invariants: `ADDRESSES-1` at most `max` places of one sender are taken; `ADDRESSES-2` only senders with a place are
//! remembered, so that there are never more entries than connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The places of all senders.
#[derive(Debug)]
pub(super) struct Addresses {
    max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    sender: IpAddr,
}

impl Addresses {
    /// `max` places for each sender.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for a connection from this address, if its sender has one left.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let sender = sender(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&sender).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        taken.insert(sender, count + 1);
        Some(Place { addresses: self.clone(), sender })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.addresses.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.sender) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.sender);
            }
        }
    }
}

fn sender(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_its_places_and_no_more() {
        let addresses = Addresses::new(2);
        let enter = |address: &str| addresses.enter(address.parse().unwrap());
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_none(), "ADDRESSES-1");
        let other = enter("2001:db8:0:1::1").unwrap();
        drop(first);
        assert!(enter("2001:db8::3").is_some());
        drop(other);
        assert_eq!(addresses.taken.lock().unwrap().len(), 1, "ADDRESSES-2");
        let _v4 = [enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap()];
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some());
    }
}
