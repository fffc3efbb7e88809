//! Looks up host names and returns only addresses that may be called.
//!
//! The connector connects to exactly the addresses returned here, so a name that resolves to
//! another address a moment later (DNS rebinding) gains nothing.
//!
//! - `RESOLVER-1`: at every use, cached or not, every address of a name is checked; one forbidden
//!   address rejects the name.
//! - `RESOLVER-2`: all attempts that need a name share one look-up and, for `name_cache_ms`, its
//!   answer. Faults are not cached. At most [`NAMES_MAX`] names are remembered.
//! - `RESOLVER-3`: at most [`LOOKUPS_MAX`] look-ups run at once, abandoned ones included, and at
//!   most [`SLOW_LOOKUPS_MAX`] of names whose last look-up failed; the next one waits. So silent
//!   name servers delay only their own names.
//! - `RESOLVER-4`: a missing answer is the name's fault only if the resolver answers for another
//!   name; otherwise it is this node's.
//!
//! The resolver of the operating system tells no times to live. IP addresses in place of names do
//! not get here; `target` checks them.

use super::os_error::node_fault;
use super::target::TargetPolicy;
use hyper_util::client::legacy::connect::dns::Name;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tower::Service;
use triggers_actors::NodeFault;
use triggers_cluster_config::DeliveryOptions;
use triggers_protocol::lock::lock;
use triggers_store::kv::BoxFuture;

/// Concurrent look-ups. Each occupies a thread of the blocking pool.
const LOOKUPS_MAX: usize = 256;
/// Concurrent look-ups of names whose last look-up failed.
const SLOW_LOOKUPS_MAX: usize = 32;
/// Names that are remembered.
const NAMES_MAX: usize = 10_000;
/// No name below this one has an address (RFC 6761).
const NEVER: &str = ".invalid";

/// The resolved addresses of a host name.
pub type Addresses = std::vec::IntoIter<SocketAddr>;

/// Resolves a name; it blocks, for as long as the resolver likes.
pub(super) type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

type Answer = Result<Arc<[SocketAddr]>, LookupError>;

/// Why a host name has no usable address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The name has no address.
    #[error("the host name has no address")]
    NoAddress,
    /// The servers of the name do not answer.
    #[error("the host name's servers do not answer")]
    Silent,
    /// At least one of the addresses may not be called.
    #[error("the host name stands for an address that may not be called")]
    Forbidden,
    /// This node cannot look up names.
    #[error("the host name was not looked up")]
    Node(NodeFault),
}

/// Looks up host names with the resolver of the operating system.
#[derive(Clone)]
pub struct CheckedResolver(Arc<Shared>);

struct Shared {
    lookup: Lookup,
    policy: Arc<TargetPolicy>,
    cache_time: Duration,
    /// Longest time that an attempt waits for a look-up.
    wait_max: Duration,
    places: Arc<Semaphore>,
    slow_places: Arc<Semaphore>,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    by_name: BTreeMap<String, Entry>,
    /// Look-ups that the resolver has answered with addresses.
    answered: u64,
    /// The name that was answered last, apart from names of this machine.
    answered_last: Option<String>,
}

enum Entry {
    /// A look-up waits or runs; the receiver gets its answer.
    Pending(watch::Receiver<Progress>),
    Known {
        addresses: Arc<[SocketAddr]>,
        until: Instant,
    },
    /// The last look-up failed.
    Failed(LookupError),
}

#[derive(Clone)]
enum Progress {
    /// It waits for a place; `last` is the error of the look-up before.
    Waiting,
    Running {
        last: Option<LookupError>,
    },
    Done(Answer),
}

/// Asks the operating system.
fn of_system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

impl CheckedResolver {
    pub(super) fn new(options: &DeliveryOptions, policy: Arc<TargetPolicy>) -> Self {
        Self::with(Arc::new(of_system), options, policy)
    }

    /// A resolver that asks `lookup`.
    pub(super) fn with(
        lookup: Lookup,
        options: &DeliveryOptions,
        policy: Arc<TargetPolicy>,
    ) -> Self {
        Self(Arc::new(Shared {
            lookup,
            policy,
            cache_time: Duration::from_millis(options.name_cache_ms),
            // The rest of the time is for the connection.
            wait_max: Duration::from_millis(options.connect_timeout_ms) * 4 / 5,
            places: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            slow_places: Arc::new(Semaphore::new(SLOW_LOOKUPS_MAX)),
            names: Mutex::default(),
        }))
    }

    async fn look_up(self, name: Name) -> Result<Addresses, LookupError> {
        let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
        if name.ends_with(NEVER) {
            return Err(LookupError::NoAddress);
        }
        let answered_before = lock(&self.0.names).answered;
        let mut progress = match self.join(&name) {
            Ok(addresses) => return checked(&addresses, &self.0.policy),
            Err(progress) => progress,
        };
        let is_done = |progress: &Progress| matches!(progress, Progress::Done(_));
        let in_time = timeout(self.0.wait_max, progress.wait_for(is_done)).await.is_ok();
        let last = progress.borrow().clone();
        match last {
            Progress::Done(Ok(addresses)) => checked(&addresses, &self.0.policy),
            Progress::Done(Err(error)) => Err(error),
            // The task of the look-up is lost, or waits for a place.
            Progress::Waiting => Err(LookupError::Node(NodeFault::Lookups)),
            Progress::Running { .. } if in_time => Err(LookupError::Node(NodeFault::Lookups)),
            Progress::Running { last } => Err(self.late(last, answered_before)),
        }
    }

    /// The fault of a look-up that takes too long (`RESOLVER-4`).
    fn late(&self, last: Option<LookupError>, answered_before: u64) -> LookupError {
        let has_answered_others = lock(&self.0.names).answered > answered_before;
        if has_answered_others || last == Some(LookupError::Silent) {
            LookupError::Silent
        } else {
            LookupError::Node(NodeFault::Resolver)
        }
    }

    /// The known addresses of a name, or the progress of its look-up, which begins if need be.
    fn join(&self, name: &str) -> Result<Arc<[SocketAddr]>, watch::Receiver<Progress>> {
        let mut names = lock(&self.0.names);
        let last = match names.by_name.get(name) {
            Some(Entry::Pending(progress)) => return Err(progress.clone()),
            Some(Entry::Known { addresses, until }) if Instant::now() < *until => {
                return Ok(addresses.clone());
            }
            Some(Entry::Failed(error)) => Some(*error),
            Some(Entry::Known { .. }) | None => None,
        };
        let (sender, progress) = watch::channel(Progress::Waiting);
        names.make_room();
        if names.by_name.len() >= NAMES_MAX {
            // Too many look-ups wait already; without its sender this one counts as lost.
            return Err(progress);
        }
        names.by_name.insert(name.to_owned(), Entry::Pending(progress.clone()));
        drop(names);
        drop(tokio::spawn(self.clone().run(name.to_owned(), last, sender)));
        Err(progress)
    }

    /// Looks up a name once there is a place, and passes on the answer.
    async fn run(self, name: String, last: Option<LookupError>, progress: watch::Sender<Progress>) {
        let slow = match last {
            Some(LookupError::Silent | LookupError::Node(NodeFault::Resolver)) => {
                Some(place(&self.0.slow_places).await)
            }
            Some(_) | None => None,
        };
        let places = (slow, place(&self.0.places).await);
        progress.send_replace(Progress::Running { last });
        let (shared, asked) = (self.0.clone(), name.clone());
        // A look-up cannot be cancelled: its places are held until its thread ends.
        let resolve = move || {
            let answer = shared.resolve(&asked);
            drop(places);
            answer
        };
        let lost = |_| Err(LookupError::Node(NodeFault::Lookups));
        let answer = tokio::task::spawn_blocking(resolve).await.unwrap_or_else(lost);
        lock(&self.0.names).note(name, &answer, self.0.cache_time);
        progress.send_replace(Progress::Done(answer));
    }
}

async fn place(places: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    places.clone().acquire_owned().await.expect("the semaphore is never closed")
}

impl Shared {
    fn resolve(&self, name: &str) -> Answer {
        match (self.lookup)(name) {
            Ok(addresses) if addresses.is_empty() => Err(LookupError::NoAddress),
            Ok(addresses) => Ok(addresses.into()),
            Err(error) => {
                tracing::debug!(%error, "webhook host name lookup failed");
                Err(self.fault(name, &error))
            }
        }
    }

    fn fault(&self, name: &str, error: &io::Error) -> LookupError {
        // The resolver hides that it got no descriptor, so try to get one.
        let probe = std::fs::File::open("/dev/null").err();
        if let Some(fault) = node_fault(error).or_else(|| probe.as_ref().and_then(node_fault)) {
            return LookupError::Node(fault);
        }
        if !is_of_resolver(error) {
            return LookupError::NoAddress;
        }
        let other = lock(&self.names).answered_last.clone().filter(|other| other != name);
        let is_answered = other.is_some_and(|other| (self.lookup)(&other).is_ok());
        if is_answered { LookupError::Silent } else { LookupError::Node(NodeFault::Resolver) }
    }
}

/// Whether the resolver failed, rather than told that there is no address. The standard library
/// passes on only the text of the code: `EAI_AGAIN`, `EAI_FAIL` or `EAI_SYSTEM`, in glibc's words
/// or in musl's.
fn is_of_resolver(error: &io::Error) -> bool {
    let text = error.to_string();
    let texts =
        ["Temporary failure", "Try again", "Non-recoverable", "Unrecoverable", "System err"];
    error.raw_os_error().is_some() || texts.iter().any(|known| text.contains(known))
}

impl Names {
    fn note(&mut self, name: String, answer: &Answer, cache_time: Duration) {
        match answer {
            Ok(addresses) => {
                if !addresses.iter().all(|address| address.ip().is_loopback()) {
                    self.answered += 1;
                    self.answered_last = Some(name.clone());
                }
                let (addresses, until) = (addresses.clone(), Instant::now() + cache_time);
                self.by_name.insert(name, Entry::Known { addresses, until });
            }
            Err(error) => drop(self.by_name.insert(name, Entry::Failed(*error))),
        }
    }

    /// Forgets names that need no memory any more if there are too many, then any that can be
    /// looked up again.
    fn make_room(&mut self) {
        if self.by_name.len() < NAMES_MAX {
            return;
        }
        let now = Instant::now();
        self.by_name.retain(|_, entry| match entry {
            Entry::Pending(_) => true,
            Entry::Known { until, .. } => now < *until,
            Entry::Failed(_) => false,
        });
        if self.by_name.len() >= NAMES_MAX {
            self.by_name.retain(|_, entry| matches!(entry, Entry::Pending(_)));
        }
    }
}

/// The addresses, if every one of them may be called.
fn checked(addresses: &[SocketAddr], policy: &TargetPolicy) -> Result<Addresses, LookupError> {
    let are_all_callable = addresses.iter().all(|address| policy.may_be_called(address.ip()));
    if are_all_callable {
        Ok(Vec::from(addresses).into_iter())
    } else {
        Err(LookupError::Forbidden)
    }
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
mod tests;
