//! The gate of an owned partition: what is asked of its tenants passes it, and waits in front of it while it moves.
//!
//! ```text
//! open ──park──▶ parked ──▶ gone (the partition is another's now)
//!   ◀──open────────┘
//! ```
//! Invariants: `GATE-1` nobody enters a gate that is parked or gone; `GATE-2` who has entered is counted until it is answered,
//! so that a gate that is parked and empty has nothing under way behind it; `GATE-3` a gate that is gone stays so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// The gate.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    inside: Mutex<Inside>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    state: State,
    entered: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Parked,
    Gone,
}

/// The right to be behind a gate.
#[derive(Debug)]
pub(crate) struct GatePass(Arc<Gate>);

impl Gate {
    /// Enters, after a wait if the partition moves; none if it is gone or time is up.
    pub(crate) async fn enter(self: &Arc<Self>, deadline: Instant) -> Option<GatePass> {
        loop {
            // Registered before it is looked, so that nothing is missed in between.
            let changed = self.changed.notified();
            {
                let mut inside = self.lock();
                match inside.state {
                    State::Open => {
                        inside.entered += 1;
                        return Some(GatePass(self.clone()));
                    }
                    State::Gone => return None,
                    State::Parked => {}
                }
            }
            timeout_at(deadline, changed).await.ok()?;
        }
    }

    /// Lets nobody in for the time being.
    pub(crate) fn park(&self) {
        self.set(State::Parked);
    }

    /// Lets everybody in again.
    pub(crate) fn open(&self) {
        self.set(State::Open);
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.set(State::Gone);
    }

    /// Waits until nobody is behind it; whether that was so before `until`.
    pub(crate) async fn emptied(&self, until: Instant) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.lock().entered == 0 {
                return true;
            }
            if timeout_at(until, changed).await.is_err() {
                return false;
            }
        }
    }

    fn set(&self, state: State) {
        let mut inside = self.lock();
        if inside.state != State::Gone {
            inside.state = state;
        }
        drop(inside);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while holding it.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GatePass {
    /// Another one for a part of the same request: it passes a gate that is parked, which waits for the whole request.
    pub(crate) fn again(&self) -> Self {
        self.0.lock().entered += 1;
        Self(self.0.clone())
    }
}

impl Drop for GatePass {
    fn drop(&mut self) {
        let mut inside = self.0.lock();
        inside.entered -= 1;
        let is_awaited = inside.entered == 0 && inside.state != State::Open;
        drop(inside);
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
    async fn who_comes_while_it_moves_waits_and_is_let_in_or_sent_away() {
        let gate = Arc::new(Gate::default());
        let inside = gate.enter(soon()).await.unwrap();
        gate.park();
        assert!(!gate.emptied(soon()).await, "GATE-2");
        let part = inside.again();
        drop(inside);
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
