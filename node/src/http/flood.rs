//! Requests that do not authenticate, counted by address, so that guessing keys ends before it costs look-ups.
//!
//! A window begins with an address's first bad request and lasts a fixed time. Addresses of IPv6 are counted by /64,
//! which is what one sender usually has.
//! Invariants: `FLOOD-1` at most `requests_max` bad requests of one address are let through in a window; `FLOOD-2` the
//! time told is the time until its window ends; `FLOOD-3` at most `addresses_max` addresses are remembered: one that
//! is forgotten starts anew. It does no I/O; time is handed in.

use super::client_address::sender;
use quick_cache::sync::Cache;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One address's window.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Duration,
    count: u32,
}

/// The counts of all addresses.
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

    /// Whether a request that may turn out bad is let through.
    ///
    /// # Errors
    /// Whole seconds until it would be.
    pub fn check(&self, address: IpAddr, now: Duration) -> Result<(), u64> {
        let Some(window) = self.windows.get(&sender(address)) else { return Ok(()) };
        let window = *window.lock().unwrap_or_else(PoisonError::into_inner);
        self.judge(window, now)
    }

    /// Counts a bad request.
    ///
    /// # Errors
    /// As [`Flood::check`]; it is not counted then.
    pub fn record(&self, address: IpAddr, now: Duration) -> Result<(), u64> {
        let fresh = || Ok::<_, Infallible>(Arc::new(Mutex::new(Window { began: now, count: 0 })));
        let Ok(entry) = self.windows.get_or_insert_with(&sender(address), fresh);
        let mut window = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= window.began + self.window {
            *window = Window { began: now, count: 0 };
        }
        self.judge(*window, now)?;
        window.count += 1;
        Ok(())
    }

    fn judge(&self, window: Window, now: Duration) -> Result<(), u64> {
        let left = (window.began + self.window).saturating_sub(now);
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
    fn the_request_over_the_limit_is_refused_until_the_window_ends() {
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
        fn a_window_lets_no_more_through_than_it_may(gaps in prop::collection::vec(0u64..4_000, 1..200), max in 1u32..20) {
            let flood = Flood::new(max, Duration::from_secs(10), 4);
            let bad = address("192.0.2.1");
            let (mut now, mut passed) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                match flood.record(bad, now) {
                    Ok(()) => passed.push(now),
                    Err(wait_s) => {
                        prop_assert!((1..=10).contains(&wait_s));
                        prop_assert_eq!(flood.check(bad, now + Duration::from_secs(wait_s)), Ok(()), "FLOOD-2");
                    }
                }
            }
            // Fixed windows: two of them may touch, so twice the limit is the bound for any span of one length.
            for (index, start) in passed.iter().enumerate() {
                let span = passed[index..].iter().take_while(|at| **at < *start + Duration::from_secs(10)).count();
                prop_assert!(span <= 2 * max as usize, "FLOOD-1");
            }
        }
    }
}
