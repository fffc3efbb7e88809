//! Looks up host names and returns only addresses that may be called.
//!
//! The connector connects to exactly the addresses returned here, so a name that resolves to
//! another address a moment later (DNS rebinding) gains nothing.
//!
//! - `RESOLVER-1`: every address of a name is checked; one forbidden address rejects the name.
//! - `RESOLVER-2`: at most [`LOOKUPS_MAX`] lookups run at once, abandoned ones included, and at
//!   most [`ZONE_LOOKUPS_MAX`] for names with the same last two labels: silent name servers delay
//!   only their own zone.
//!
//! Nothing is cached. The connector bounds the waiting time. IP addresses in place of names do not
//! reach the resolver; `target` checks them.

use super::target::TargetPolicy;
use hyper_util::client::legacy::connect::dns::Name;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tower::Service;
use triggers_store::kv::BoxFuture;

/// Concurrent lookups. Each occupies a thread of the blocking pool.
const LOOKUPS_MAX: usize = 256;
/// Concurrent lookups in one zone; more are rejected.
const ZONE_LOOKUPS_MAX: usize = 16;

/// The resolved addresses of a host name.
pub type Addresses = std::vec::IntoIter<SocketAddr>;

/// Why a host name has no usable address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name has no address, or the resolver failed.
    #[error("the host name has no address")]
    NoAddress,
    /// Too many lookups are running in the zone of the name.
    #[error("the host name's servers do not answer in time")]
    TooMany,
    /// At least one of the addresses may not be called.
    #[error("the host name stands for an address that may not be called")]
    Forbidden,
}

/// Looks up host names with the resolver of the operating system.
#[derive(Debug, Clone)]
pub struct CheckedResolver {
    policy: Arc<TargetPolicy>,
    permits: Arc<Semaphore>,
    zones: Arc<Zones>,
}

/// Running lookups by zone.
type Zones = Mutex<HashMap<String, usize>>;

/// Permit for one lookup in a zone; dropping it frees the permit.
struct ZonePermit {
    zones: Arc<Zones>,
    zone: String,
}

impl ZonePermit {
    fn acquire(zones: &Arc<Zones>, name: &str) -> Result<Self, LookupError> {
        let labels = name.trim_end_matches('.').rsplit('.').take(2);
        let zone = labels.collect::<Vec<_>>().join(".").to_ascii_lowercase();
        let mut running = zones.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(zone.clone()).or_default();
        if *count >= ZONE_LOOKUPS_MAX {
            return Err(LookupError::TooMany);
        }
        *count += 1;
        Ok(Self { zones: zones.clone(), zone })
    }
}

impl Drop for ZonePermit {
    fn drop(&mut self) {
        let mut running = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.zone) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.zone);
            }
        }
    }
}

impl CheckedResolver {
    pub(super) fn new(policy: Arc<TargetPolicy>) -> Self {
        Self { policy, permits: Arc::new(Semaphore::new(LOOKUPS_MAX)), zones: Arc::default() }
    }

    async fn look_up(self, name: Name) -> Result<Addresses, LookupError> {
        let zone = ZonePermit::acquire(&self.zones, name.as_str())?;
        let permit = self.permits.acquire_owned().await.expect("the semaphore is never closed");
        let resolve = move || -> io::Result<Vec<SocketAddr>> {
            // A lookup cannot be cancelled: its permits are held until its thread ends.
            let _permits = (permit, zone);
            Ok((name.as_str(), 0).to_socket_addrs()?.collect())
        };
        let answer =
            tokio::task::spawn_blocking(resolve).await.unwrap_or_else(|error| Err(error.into()));
        let addresses = answer.map_err(|error| {
            tracing::debug!(%error, "webhook host name lookup failed");
            LookupError::NoAddress
        })?;
        checked(addresses, &self.policy)
    }
}

/// The addresses, if every one of them may be called.
fn checked(addresses: Vec<SocketAddr>, policy: &TargetPolicy) -> Result<Addresses, LookupError> {
    if addresses.is_empty() {
        return Err(LookupError::NoAddress);
    }
    let are_all_callable = addresses.iter().all(|address| policy.may_be_called(address.ip()));
    if are_all_callable { Ok(addresses.into_iter()) } else { Err(LookupError::Forbidden) }
}

impl Service<Name> for CheckedResolver {
    type Response = Addresses;
    type Error = LookupError;
    type Future = BoxFuture<'static, Result<Addresses, LookupError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().look_up(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str]) -> Arc<TargetPolicy> {
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Arc::new(TargetPolicy { is_https_required: true, allowed })
    }

    async fn look_up(name: &str, allowed: &[&str]) -> Result<Addresses, LookupError> {
        CheckedResolver::new(policy(allowed)).call(name.parse().unwrap()).await
    }

    #[test]
    fn one_forbidden_address_rejects_all() {
        let addresses = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>()
        };
        let public = addresses(&["8.8.8.8:0", "[2606:4700:4700::1111]:0"]);
        let accepted = checked(public.clone(), &policy(&[])).unwrap();
        assert_eq!(accepted.collect::<Vec<_>>(), public);
        for mixed in
            [["8.8.8.8:0", "10.0.0.1:0"], ["127.0.0.1:0", "8.8.8.8:0"], ["8.8.8.8:0", "[::1]:0"]]
        {
            let rejected = checked(addresses(&mixed), &policy(&[]));
            assert_eq!(rejected.unwrap_err(), LookupError::Forbidden, "RESOLVER-1: {mixed:?}");
        }
        assert_eq!(checked(Vec::new(), &policy(&[])).unwrap_err(), LookupError::NoAddress);
    }

    #[tokio::test]
    async fn other_spellings_of_an_address_are_checked() {
        for name in ["localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0x7f000001", "0"]
        {
            assert_eq!(
                look_up(name, &[]).await.unwrap_err(),
                LookupError::Forbidden,
                "RESOLVER-1: {name}"
            );
        }
    }

    #[test]
    fn a_silent_zone_delays_only_itself() {
        let zones = Arc::default();
        let acquire = |name: &str| ZonePermit::acquire(&zones, name);
        let mut held: Vec<_> = (0..ZONE_LOOKUPS_MAX)
            .map(|n| acquire(&format!("host-{n}.Slow.example")).unwrap())
            .collect();
        assert_eq!(
            acquire("another.slow.example.").err(),
            Some(LookupError::TooMany),
            "RESOLVER-2"
        );
        assert!(acquire("host.quick.example").is_ok(), "RESOLVER-2");
        held.pop();
        assert!(acquire("another.slow.example").is_ok());
        held.clear();
        assert!(zones.lock().unwrap().is_empty(), "zones without lookups are forgotten");
    }

    #[tokio::test]
    async fn an_allowed_name_is_looked_up() {
        let addresses = look_up("localhost", &["127.0.0.0/8", "::1/128"]).await.unwrap();
        assert!(addresses.as_slice().iter().all(|address| address.ip().is_loopback()));
        assert_ne!(addresses.len(), 0);
    }
}
