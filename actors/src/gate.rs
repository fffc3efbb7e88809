//! The gate of an owned partition: requests for its tenants pass it, and wait at it during a
//! transfer.
//!
//! ```text
//! open ──park──▶ parked ──close──▶ gone (another node owns the partition)
//!   ◀────open──────┘
//! ```
//! Invariants: `GATE-1` no request passes a gate that is parked or gone; `GATE-2` a request is
//! counted from its pass until it is answered, so nothing is in flight behind a gate that is parked
//! and empty; `GATE-3` a gate that is gone stays gone.

use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use triggers_protocol::lock::lock;

/// The gate of a partition.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    counted: Mutex<Counted>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Counted {
    state: GateState,
    passes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum GateState {
    #[default]
    Open,
    Parked,
    Gone,
}

/// One request behind the gate; dropping it ends the pass.
#[derive(Debug)]
pub(crate) struct GatePass(Arc<Gate>);

impl Gate {
    /// Passes the gate, after a wait if it is parked. None if it is gone or the deadline passes.
    pub(crate) async fn enter(self: &Arc<Self>, deadline: Instant) -> Option<GatePass> {
        loop {
            // Registered before the check, so that no change in between is missed.
            let changed = self.changed.notified();
            {
                let mut counted = lock(&self.counted);
                match counted.state {
                    GateState::Open => {
                        counted.passes += 1;
                        return Some(GatePass(self.clone()));
                    }
                    GateState::Gone => return None,
                    GateState::Parked => {}
                }
            }
            timeout_at(deadline, changed).await.ok()?;
        }
    }

    /// Makes new requests wait.
    pub(crate) fn park(&self) {
        self.set(GateState::Parked);
    }

    /// Lets requests pass again.
    pub(crate) fn open(&self) {
        self.set(GateState::Open);
    }

    /// Rejects waiting and new requests for good.
    pub(crate) fn close(&self) {
        self.set(GateState::Gone);
    }

    /// Waits until no request is behind the gate; false if that is not so before `until`.
    pub(crate) async fn emptied(&self, until: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            if lock(&self.counted).passes == 0 {
                return true;
            }
            if timeout_at(until, changed).await.is_err() {
                return false;
            }
        }
    }

    fn set(&self, state: GateState) {
        let mut counted = lock(&self.counted);
        if counted.state != GateState::Gone {
            counted.state = state;
        }
        drop(counted);
        self.changed.notify_waiters();
    }
}

impl GatePass {
    /// Another pass for a part of the same request. It ignores a parked gate, because the transfer
    /// waits for the full request.
    pub(crate) fn again(&self) -> Self {
        lock(&self.0.counted).passes += 1;
        Self(self.0.clone())
    }
}

impl Drop for GatePass {
    fn drop(&mut self) {
        let mut counted = lock(&self.0.counted);
        counted.passes -= 1;
        let is_awaited = counted.passes == 0 && counted.state != GateState::Open;
        drop(counted);
        if is_awaited {
            self.0.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_at_a_parked_gate_and_pass_or_are_rejected() {
        let gate = Arc::new(Gate::default());
        let pass = gate.enter(soon()).await.unwrap();
        gate.park();
        assert!(!gate.emptied(soon()).await, "GATE-2");
        let part = pass.again();
        drop(pass);
        assert!(!gate.emptied(soon()).await, "GATE-2");
        drop(part);
        assert!(gate.emptied(soon()).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(soon()).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "GATE-1");
        gate.open();
        assert!(waiting.await.unwrap());
        gate.park();
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(soon()).await.is_some() }
        });
        tokio::task::yield_now().await;
        gate.close();
        assert!(!waiting.await.unwrap());
        gate.open();
        assert!(gate.enter(soon()).await.is_none(), "GATE-3");
    }
}
