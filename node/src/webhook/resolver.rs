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
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tower::Service;
use triggers_actors::keyed_limit::KeyedLimit;
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
    zones: KeyedLimit<String>,
}

/// The last two labels of a name, in lower case.
fn zone_of(name: &str) -> String {
    let name = name.trim_end_matches('.');
    let start = name.rmatch_indices('.').nth(1).map_or(0, |(dot, _)| dot + 1);
    name[start..].to_ascii_lowercase()
}

impl CheckedResolver {
    pub(super) fn new(policy: Arc<TargetPolicy>) -> Self {
        let permits = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { policy, permits, zones: KeyedLimit::default() }
    }

    async fn look_up(self, name: Name) -> Result<Addresses, LookupError> {
        let zone = self.zones.acquire(zone_of(name.as_str()), 1, ZONE_LOOKUPS_MAX);
        let zone = zone.ok_or(LookupError::TooMany)?;
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
    fn a_zone_is_the_last_two_labels() {
        for name in ["slow.example", "a.Slow.example", "b.a.slow.EXAMPLE."] {
            assert_eq!(zone_of(name), "slow.example", "RESOLVER-2");
        }
        assert_eq!(zone_of("localhost"), "localhost");
    }

    #[tokio::test]
    async fn a_silent_zone_delays_only_itself() {
        let resolver = CheckedResolver::new(policy(&["127.0.0.0/8", "::1/128"]));
        let zone = || resolver.zones.acquire("slow.example".to_owned(), 1, ZONE_LOOKUPS_MAX);
        let _held: Vec<_> = (0..ZONE_LOOKUPS_MAX).map(|_| zone().unwrap()).collect();
        let lookup = resolver.clone().look_up("host.slow.example".parse().unwrap()).await;
        assert_eq!(lookup.err(), Some(LookupError::TooMany), "RESOLVER-2");
        assert!(resolver.look_up("localhost".parse().unwrap()).await.is_ok(), "RESOLVER-2");
    }

    #[tokio::test]
    async fn an_allowed_name_is_looked_up() {
        let addresses = look_up("localhost", &["127.0.0.0/8", "::1/128"]).await.unwrap();
        assert!(addresses.as_slice().iter().all(|address| address.ip().is_loopback()));
        assert_ne!(addresses.len(), 0);
    }
}
