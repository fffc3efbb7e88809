//! The permits for webhooks in flight from a node, in fair shares for its tenants.
//!
//! A webhook takes one place, or several if its payload is larger than the bytes of one place.
//! Invariants: `DELIVERY-A-1` no attempt begins without a [`DeliveryPermit`], which is held until
//! the outcome is stored or abandoned; `DELIVERY-A-2` a tenant that waits and has nothing in flight
//! gets the next free place; `DELIVERY-A-3` no permit is given after a drain began.

use super::fair_shares::FairShares;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, oneshot};
use triggers_protocol::TenantId;
use triggers_protocol::lock::lock;

/// The permits for webhooks in flight from this node; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryPermits(Arc<Places>);

#[derive(Debug)]
struct Places {
    taken: Mutex<TakenPlaces>,
    /// Payload bytes that a webhook may have for each of its places.
    bytes_per_place: usize,
    released: Notify,
}

#[derive(Debug)]
struct TakenPlaces {
    shares: FairShares<TenantId>,
    /// Those that wait, by their tickets.
    waiting: HashMap<u64, oneshot::Sender<DeliveryPermit>>,
    is_closed: bool,
}

impl TakenPlaces {
    fn publish(&self) {
        metrics::gauge!("triggers_webhooks_in_flight").set(self.shares.used() as f64);
    }
}

/// The permits of one tenant, for a holder that checks [`Self::is_quiescing`] before it acquires
/// one.
#[derive(Debug)]
pub(crate) struct TenantPermits {
    permits: DeliveryPermits,
    tenant: TenantId,
    /// True while the holder must acquire no permits.
    is_quiescing: Arc<AtomicBool>,
}

/// The right to have one webhook in flight.
#[derive(Debug)]
pub(crate) struct DeliveryPermit {
    permits: DeliveryPermits,
    tenant: TenantId,
    places: usize,
}

impl DeliveryPermit {
    /// Takes the places that a webhook of this size needs besides the first.
    pub(crate) fn hold(&mut self, bytes: usize) {
        let more = bytes.div_ceil(self.permits.0.bytes_per_place).saturating_sub(self.places);
        if more > 0 {
            self.places += more;
            lock(&self.permits.0.taken).shares.add(&self.tenant, more);
        }
    }
}

impl Drop for DeliveryPermit {
    fn drop(&mut self) {
        lock(&self.permits.0.taken).shares.give_back(&self.tenant, self.places);
        self.permits.grant();
        self.permits.0.released.notify_waiters();
    }
}

impl TenantPermits {
    /// True while the holder must acquire no permits.
    pub(crate) fn is_quiescing(&self) -> bool {
        self.is_quiescing.load(Ordering::Relaxed)
    }

    /// Number of permits that the tenant may acquire now.
    pub(crate) fn allowance(&self) -> usize {
        let taken = lock(&self.permits.0.taken);
        if taken.is_closed { 0 } else { taken.shares.allowance(&self.tenant) }
    }

    /// Acquires up to `wanted` permits that are free now.
    pub(crate) fn try_acquire(&self, wanted: usize) -> Vec<DeliveryPermit> {
        let mut taken = lock(&self.permits.0.taken);
        let wanted = if taken.is_closed { 0 } else { wanted };
        let count = taken.shares.take(&self.tenant, wanted);
        taken.publish();
        drop(taken);
        (0..count).map(|_| self.permits.permit(&self.tenant)).collect()
    }
}

impl DeliveryPermits {
    /// At most `count` permits, for about `bytes_max` payload bytes.
    pub(crate) fn new(count: usize, bytes_max: usize) -> Self {
        let count = count.max(1);
        let (shares, waiting) = (FairShares::new(count), HashMap::new());
        Self(Arc::new(Places {
            taken: Mutex::new(TakenPlaces { shares, waiting, is_closed: false }),
            bytes_per_place: (bytes_max / count).max(1),
            released: Notify::new(),
        }))
    }

    /// The permits of one tenant.
    pub(crate) fn of(&self, tenant: TenantId, is_quiescing: Arc<AtomicBool>) -> TenantPermits {
        TenantPermits { permits: self.clone(), tenant, is_quiescing }
    }

    fn permit(&self, tenant: &TenantId) -> DeliveryPermit {
        DeliveryPermit { permits: self.clone(), tenant: tenant.clone(), places: 1 }
    }

    /// Gives free places to those that wait.
    fn grant(&self) {
        let mut granted = Vec::new();
        let mut taken = lock(&self.0.taken);
        while !taken.is_closed {
            let Some((tenant, ticket)) = taken.shares.grant() else { break };
            granted.push((taken.waiting.remove(&ticket), self.permit(&tenant)));
        }
        taken.publish();
        drop(taken);
        for (waiting, permit) in granted {
            // A permit that nobody waits for any more goes back when it is dropped.
            drop(waiting.map(|waiting| waiting.send(permit)));
        }
    }

    /// Waits for one permit; none after [`Self::drain`] was called.
    pub(crate) async fn acquire(&self, tenant: &TenantId) -> Option<DeliveryPermit> {
        let (sender, receiver) = oneshot::channel();
        let ticket = {
            let mut taken = lock(&self.0.taken);
            if taken.is_closed {
                return None;
            }
            let ticket = taken.shares.ask(tenant);
            taken.waiting.insert(ticket, sender);
            ticket
        };
        let _ticket = Ticket { permits: self, tenant, ticket };
        self.grant();
        receiver.await.ok()
    }

    /// Gives no more permits and waits until no webhook is in flight.
    pub(crate) async fn drain(&self) {
        {
            let mut taken = lock(&self.0.taken);
            taken.is_closed = true;
            taken.waiting.clear();
        }
        loop {
            // Registered before the check, so that no release in between is missed.
            let released = self.0.released.notified();
            if lock(&self.0.taken).shares.used() == 0 {
                return;
            }
            released.await;
        }
    }
}

/// Withdraws the ticket of a wait that was given up.
struct Ticket<'a> {
    permits: &'a DeliveryPermits,
    tenant: &'a TenantId,
    ticket: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.permits.0.taken);
        if taken.waiting.remove(&self.ticket).is_some() {
            taken.shares.withdraw(self.tenant, self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn permits_are_bounded_and_a_drain_waits_for_all() {
        let permits = DeliveryPermits::new(3, usize::MAX);
        let of = |name| permits.of(tenant(name), Arc::default());
        let mut held = of("a").try_acquire(5);
        assert_eq!(held.len(), 2, "the last place is not for a tenant that has others");
        held.extend(of("b").try_acquire(5));
        assert_eq!(held.len(), 3);
        assert!(of("c").try_acquire(1).is_empty());
        let drained = tokio::time::timeout(Duration::from_secs(1), permits.drain()).await;
        assert!(drained.is_err(), "three are in flight");
        let is_closed = async || {
            of("c").try_acquire(1).is_empty() && permits.acquire(&tenant("c")).await.is_none()
        };
        assert!(is_closed().await, "DELIVERY-A-3: even if the drain was abandoned");
        drop(held);
        permits.drain().await;
        assert!(is_closed().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_webhook_takes_the_places_of_several() {
        let permits = DeliveryPermits::new(3, 100);
        let of = |name| permits.of(tenant(name), Arc::default());
        let mut large = of("a").try_acquire(1).remove(0);
        large.hold(100);
        assert!(of("b").try_acquire(1).is_empty());
        let waiting = permits.clone();
        let waiting = tokio::spawn(async move { waiting.acquire(&tenant("b")).await.is_some() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        drop(large);
        assert!(waiting.await.unwrap() && of("a").try_acquire(3).len() == 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_free_place_is_for_a_tenant_with_nothing_in_flight() {
        let permits = DeliveryPermits::new(2, usize::MAX);
        let mut held = permits.of(tenant("a"), Arc::default()).try_acquire(2);
        held.extend(permits.of(tenant("b"), Arc::default()).try_acquire(1));
        assert_eq!(held.len(), 2);
        let wait = |name| {
            let permits = permits.clone();
            tokio::spawn(async move { permits.acquire(&tenant(name)).await })
        };
        let again = wait("b");
        tokio::task::yield_now().await;
        let abandoned = wait("c");
        tokio::task::yield_now().await;
        abandoned.abort();
        assert!(abandoned.await.is_err());
        let first = wait("d");
        tokio::task::yield_now().await;
        held.remove(0);
        assert!(first.await.unwrap().is_some(), "DELIVERY-A-2");
        assert!(!again.is_finished(), "it has a place");
        drop(held);
        assert!(again.await.unwrap().is_some());
        assert!(lock(&permits.0.taken).waiting.is_empty());
    }
}
