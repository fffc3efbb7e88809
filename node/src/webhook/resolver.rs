//! Looks host names up, and hands on only addresses that may be called.
//!
//! The connector connects to what it is given here and asks nobody else, so a name that stands for another address a
//! moment later (DNS rebinding) leads nowhere else.
//! Invariants: `RESOLVER-1` every address of the answer is checked, and one that may not be called refuses all of them;
//! `RESOLVER-2` at most [`LOOKUPS_MAX`] lookups run at once, those included that nobody waits for any more, and of them at
//! most [`ZONE_LOOKUPS_MAX`] for names with the same last two labels: a zone whose servers are silent delays itself.
//! It remembers no address, and bounds no wait: the connector does. Addresses in place of names do not come here, see `target`.

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

/// Lookups that run at once: each takes a thread of those for blocking work.
const LOOKUPS_MAX: usize = 256;
/// Lookups of one zone that run at once. More are refused: where lookups take milliseconds there never are.
const ZONE_LOOKUPS_MAX: usize = 16;

/// The addresses of a host name.
pub type Addresses = std::vec::IntoIter<SocketAddr>;

/// Why a host name leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It has no address, or nobody could be asked.
    #[error("the host name has no address")]
    NoAddress,
    /// Too many names of its zone are being looked up already.
    #[error("the host name's servers do not answer in time")]
    TooMany,
    /// One of its addresses may not be called.
    #[error("the host name stands for an address that may not be called")]
    Forbidden,
}

/// Looks host names up with the operating system's resolver.
#[derive(Debug, Clone)]
pub struct CheckedResolver {
    policy: Arc<TargetPolicy>,
    places: Arc<Semaphore>,
    zones: Arc<Zones>,
}

/// How many lookups run in each zone.
type Zones = Mutex<HashMap<String, usize>>;

/// A lookup's place in its zone.
struct ZonePlace {
    zones: Arc<Zones>,
    zone: String,
}

impl ZonePlace {
    fn enter(zones: &Arc<Zones>, name: &str) -> Result<Self, LookupError> {
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

impl Drop for ZonePlace {
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
        Self { policy, places: Arc::new(Semaphore::new(LOOKUPS_MAX)), zones: Arc::default() }
    }

    async fn look_up(self, name: Name) -> Result<Addresses, LookupError> {
        let zone = ZonePlace::enter(&self.zones, name.as_str())?;
        let place = self.places.acquire_owned().await.expect("the semaphore is never closed");
        let ask = move || -> io::Result<Vec<SocketAddr>> {
            // A lookup cannot be stopped: its place is free when its thread is.
            let _places = (place, zone);
            Ok((name.as_str(), 0).to_socket_addrs()?.collect())
        };
        let answer =
            tokio::task::spawn_blocking(ask).await.unwrap_or_else(|error| Err(error.into()));
        let addresses = answer.map_err(|error| {
            tracing::debug!(%error, "host name of a webhook not found");
            LookupError::NoAddress
        })?;
        checked(addresses, &self.policy)
    }
}

/// All of the addresses, if all of them may be called.
fn checked(addresses: Vec<SocketAddr>, policy: &TargetPolicy) -> Result<Addresses, LookupError> {
    if addresses.is_empty() {
        return Err(LookupError::NoAddress);
    }
    let all_fit = addresses.iter().all(|address| policy.may_be_called(address.ip()));
    if all_fit { Ok(addresses.into_iter()) } else { Err(LookupError::Forbidden) }
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
    fn one_address_that_may_not_be_called_refuses_all() {
        let addresses = |texts: &[&str]| {
            texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>()
        };
        let public = addresses(&["8.8.8.8:0", "[2606:4700:4700::1111]:0"]);
        let taken = checked(public.clone(), &policy(&[])).unwrap();
        assert_eq!(taken.collect::<Vec<_>>(), public);
        for mixed in
            [["8.8.8.8:0", "10.0.0.1:0"], ["127.0.0.1:0", "8.8.8.8:0"], ["8.8.8.8:0", "[::1]:0"]]
        {
            let refused = checked(addresses(&mixed), &policy(&[]));
            assert_eq!(refused.unwrap_err(), LookupError::Forbidden, "RESOLVER-1: {mixed:?}");
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
    fn a_zone_that_does_not_answer_delays_itself_alone() {
        let zones = Arc::default();
        let enter = |name: &str| ZonePlace::enter(&zones, name);
        let mut held: Vec<_> = (0..ZONE_LOOKUPS_MAX)
            .map(|n| enter(&format!("host-{n}.Slow.example")).unwrap())
            .collect();
        assert_eq!(enter("another.slow.example.").err(), Some(LookupError::TooMany), "RESOLVER-2");
        assert!(enter("host.quick.example").is_ok(), "RESOLVER-2");
        held.pop();
        assert!(enter("another.slow.example").is_ok());
        held.clear();
        assert!(zones.lock().unwrap().is_empty(), "nothing is remembered of what has ended");
    }

    #[tokio::test]
    async fn an_allowed_name_is_looked_up() {
        let addresses = look_up("localhost", &["127.0.0.0/8", "::1/128"]).await.unwrap();
        assert!(addresses.as_slice().iter().all(|address| address.ip().is_loopback()));
        assert_ne!(addresses.len(), 0);
    }
}
