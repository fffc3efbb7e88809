//! The end of the request that is being handled, for whoever asks within its task.
//!
//! Invariants: `DEADLINE-1` it is fixed when the request begins: a handler that asks late does not get more time;
//! `DEADLINE-2` it lies before the time at which the middleware gives up, so that a handler whose write has an unknown
//! outcome can still say so. Outside of a request (a stream's body, a task of its own) it is counted from now.

use std::time::Duration;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

/// What is left to a handler for its answer after its deadline, at most.
const MARGIN_MAX: Duration = Duration::from_millis(100);

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Runs the handler of a request that must be answered by `end` and may take `timeout`.
pub(crate) fn within<F: Future>(
    end: Instant,
    timeout: Duration,
    handler: F,
) -> TaskLocalFuture<Instant, F> {
    DEADLINE.scope(end - MARGIN_MAX.min(timeout / 10), handler)
}

/// The deadline of the request that is being handled, or of one that begins now.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    DEADLINE.try_with(|deadline| *deadline).unwrap_or_else(|_| Instant::now() + timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_does_not_move_while_a_request_is_handled() {
        let timeout = Duration::from_secs(1_000);
        let end = Instant::now() + timeout;
        within(end, timeout, async {
            let first = deadline(timeout);
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(deadline(timeout), first, "DEADLINE-1");
            assert!(first < end, "DEADLINE-2");
        })
        .await;
        assert!(deadline(timeout) >= end, "outside of a request it is counted from now");
        within(end, Duration::from_millis(100), async {
            assert_eq!(
                deadline(timeout),
                end - Duration::from_millis(10),
                "most of a short time is the handler's"
            );
        })
        .await;
    }
}
