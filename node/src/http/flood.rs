//! Counts unauthenticated requests by address, so that guessing keys costs few look-ups.
//!
//! An address's window begins with its first bad request and lasts a fixed time. IPv6 addresses
//! count by /64, which one sender usually owns.
//!
//! - `FLOOD-1`: an address has at most `requests_max` bad requests in a window.
//! - `FLOOD-2`: the reported waiting time ends with the window.
//! - `FLOOD-3`: at most `addresses_max` addresses are kept; an evicted one starts a new window.
//!
//! There is no I/O; the caller passes the time.

use super::client_address::sender;
use quick_cache::sync::Cache;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_protocol::lock::lock;

/// The window of one sender.
#[derive(Debug, Clone, Copy)]
struct Window {
    started_at: Duration,
    count: u32,
}

/// The windows of all senders.
pub struct Flood {
    requests_max: u32,
    window: Duration,
    windows: Cache<IpAddr, Arc<Mutex<Window>>>,
}

impl Flood {
    /// Counts up to `requests_max` bad requests in `window`, of up to `addresses_max` addresses.
    pub fn new(requests_max: u32, window: Duration, addresses_max: usize) -> Self {
        Self { requests_max, window, windows: Cache::new(addresses_max) }
    }

    /// Checks whether the address may send another request that could turn out bad.
    ///
    /// # Errors
    /// The waiting time in seconds, if it may not.
    pub fn check(&self, address: IpAddr, now: Duration) -> Result<(), u64> {
        let Some(window) = self.windows.get(&sender(address)) else { return Ok(()) };
        let window = *lock(&window);
        self.check_window(window, now)
    }

    /// Counts a bad request.
    ///
    /// # Errors
    /// As [`Flood::check`]; the request is not counted then.
    pub fn record(&self, address: IpAddr, now: Duration) -> Result<(), u64> {
        let fresh =
            || Ok::<_, Infallible>(Arc::new(Mutex::new(Window { started_at: now, count: 0 })));
        let Ok(entry) = self.windows.get_or_insert_with(&sender(address), fresh);
        let mut window = lock(&entry);
        if now >= window.started_at + self.window {
            *window = Window { started_at: now, count: 0 };
        }
        self.check_window(*window, now)?;
        window.count += 1;
        Ok(())
    }

    fn check_window(&self, window: Window, now: Duration) -> Result<(), u64> {
        let left = (window.started_at + self.window).saturating_sub(now);
        if left.is_zero() || window.count < self.requests_max {
            return Ok(());
        }
        Err(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_over_the_limit_is_rejected_until_the_window_ends() {
        let flood = Flood::new(3, Duration::from_secs(10), 100);
        let bad = address("192.0.2.1");
        for second in 0..3 {
            assert_eq!(flood.record(bad, Duration::from_secs(second)), Ok(()));
        }
        assert_eq!(flood.record(bad, Duration::from_millis(3_500)), Err(7));
        assert_eq!(flood.check(bad, Duration::from_millis(9_999)), Err(1));
        assert_eq!(flood.check(address("192.0.2.2"), Duration::from_secs(4)), Ok(()));
        assert_eq!(flood.check(bad, Duration::from_secs(10)), Ok(()));
        assert_eq!(flood.record(bad, Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn ipv6_is_counted_by_prefix_and_mapped_ipv4_as_ipv4() {
        let flood = Flood::new(1, Duration::from_secs(10), 100);
        let now = Duration::from_secs(1);
        assert_eq!(flood.record(address("2001:db8:0:1::1"), now), Ok(()));
        assert!(flood.record(address("2001:db8:0:1:ffff::2"), now).is_err());
        assert_eq!(flood.record(address("2001:db8:0:2::1"), now), Ok(()));
        assert_eq!(flood.record(address("::ffff:192.0.2.1"), now), Ok(()));
        assert!(flood.record(address("192.0.2.1"), now).is_err());
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let flood = Flood::new(1, Duration::from_secs(10), 16);
        for bits in 0..10_000u32 {
            let _ = flood.record(IpAddr::V4(bits.into()), Duration::ZERO);
        }
        assert!(flood.windows.len() <= 16, "FLOOD-3");
    }

    proptest! {
        #[test]
        fn a_window_has_at_most_its_limit(
            gaps in prop::collection::vec(0u64..4_000, 1..200),
            max in 1u32..20,
        ) {
            let flood = Flood::new(max, Duration::from_secs(10), 4);
            let bad = address("192.0.2.1");
            let (mut now, mut passed) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                match flood.record(bad, now) {
                    Ok(()) => passed.push(now),
                    Err(wait_seconds) => {
                        prop_assert!((1..=10).contains(&wait_seconds));
                        let later = now + Duration::from_secs(wait_seconds);
                        prop_assert_eq!(flood.check(bad, later), Ok(()), "FLOOD-2");
                    }
                }
            }
            // A span as long as a window overlaps two windows, so twice the limit is its bound.
            for (index, start) in passed.iter().enumerate() {
                let end = *start + Duration::from_secs(10);
                let count = passed[index..].iter().take_while(|at| **at < end).count();
                prop_assert!(count <= 2 * max as usize, "FLOOD-1");
            }
        }
    }
}
