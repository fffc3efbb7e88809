//! Faults of this node that keep it from sending webhooks: counted, logged, and remembered for a
//! moment, so that the node accepts no events that it cannot send on.
//!
//! Invariants: `NODE-FAULT-1` each kind is logged at most once a minute; `NODE-FAULT-2` the node
//! counts as exhausted for [`EXHAUSTED_FOR`] after it lacked descriptors or memory, no longer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use triggers_protocol::lock::lock;

/// Time for which the node counts as exhausted after it lacked something.
const EXHAUSTED_FOR: Duration = Duration::from_secs(2);
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What this node lacked to send a webhook. Nothing has reached the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeFault {
    /// The process or the system has no file descriptor left.
    Descriptors,
    /// No local port or address is left.
    Ports,
    /// The system has no memory left for the connection.
    Memory,
    /// No place for a look-up of the host name became free in time.
    Lookups,
    /// The resolver of this node does not answer.
    Resolver,
    /// The stored event cannot be written as a request.
    Request,
}

impl NodeFault {
    /// Every fault, for tests.
    pub const ALL: [Self; 6] = [
        Self::Descriptors,
        Self::Ports,
        Self::Memory,
        Self::Lookups,
        Self::Resolver,
        Self::Request,
    ];

    /// The label of the fault in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::Ports => "ports",
            Self::Memory => "memory",
            Self::Lookups => "lookups",
            Self::Resolver => "resolver",
            Self::Request => "request",
        }
    }

    /// Whether the node lacks what it needs for every connection.
    const fn is_exhaustion(self) -> bool {
        match self {
            Self::Descriptors | Self::Memory => true,
            Self::Ports | Self::Lookups | Self::Resolver | Self::Request => false,
        }
    }
}

/// The faults of one node. Times are monotonic.
#[derive(Debug, Default)]
pub(crate) struct NodeFaults {
    /// Time in milliseconds until which the node counts as exhausted; an atomic, because every
    /// request with events reads it.
    exhausted_until_ms: AtomicU64,
    logged: Mutex<LoggedFaults>,
}

/// Time at which each fault was last logged.
#[derive(Debug, Default)]
struct LoggedFaults(BTreeMap<NodeFault, Duration>);

impl NodeFaults {
    /// Notes a webhook that could not be sent.
    pub(crate) fn note(&self, fault: NodeFault, now: Duration) {
        metrics::counter!("triggers_webhooks_unsent_total", "fault" => fault.as_str()).increment(1);
        if fault.is_exhaustion() {
            let until = milliseconds(now + EXHAUSTED_FOR);
            self.exhausted_until_ms.fetch_max(until, Ordering::Relaxed);
        }
        let is_log_due = lock(&self.logged).is_log_due(fault, now);
        if is_log_due {
            let fault = fault.as_str();
            tracing::warn!(
                fault,
                "this node cannot send webhooks; they are sent later and lose no attempt"
            );
        }
    }

    /// Whether the node lacked descriptors or memory a moment ago.
    pub(crate) fn is_exhausted(&self, now: Duration) -> bool {
        milliseconds(now) < self.exhausted_until_ms.load(Ordering::Relaxed)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl LoggedFaults {
    /// Whether to log the fault at `now`; if so, that counts as done.
    fn is_log_due(&mut self, fault: NodeFault, now: Duration) -> bool {
        let is_due = self.0.get(&fault).is_none_or(|at| now >= *at + LOG_INTERVAL);
        if is_due {
            self.0.insert(fault, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_fault_is_logged_once_a_minute() {
        let mut logged_faults = LoggedFaults::default();
        for fault in NodeFault::ALL {
            let logged: Vec<u64> =
                (0..130).filter(|second| logged_faults.is_log_due(fault, at(*second))).collect();
            assert_eq!(logged, [0, 60, 120], "NODE-FAULT-1: {fault:?}");
        }
    }

    #[test]
    fn exhaustion_ends_by_itself() {
        for fault in NodeFault::ALL {
            let faults = NodeFaults::default();
            assert!(!faults.is_exhausted(at(10)));
            faults.note(fault, at(10));
            let is_exhaustion = matches!(fault, NodeFault::Descriptors | NodeFault::Memory);
            assert_eq!(faults.is_exhausted(at(11)), is_exhaustion, "NODE-FAULT-2: {fault:?}");
            assert!(!faults.is_exhausted(at(12)), "NODE-FAULT-2: {fault:?}");
        }
    }
}
