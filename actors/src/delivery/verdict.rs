//! Interprets the outcome of a webhook: what it means for the event and for the endpoint's health.
//!
//! The fault of an outcome is *theirs* (the endpoint's), *ours* (this node's; nothing was sent) or
//! *unknown*.
//!
//! | outcome | the event | the endpoint |
//! |---|---|---|
//! | 2xx | delivered | good |
//! | 410 | given up; the subscription is disabled | |
//! | 429, 503 with `Retry-After` | next attempt at that time | alive; the subscription pauses |
//! | 5xx | next attempt by the retry policy | bad |
//! | every other status | next attempt by the retry policy | alive |
//! | no complete answer: theirs | next attempt by the retry policy | bad |
//! | no complete answer: unknown | next attempt by the retry policy | |
//! | not sent: ours | the attempt is withdrawn, the next one is soon | |
//!
//! A forbidden target is tried again because its name may get another address; it says nothing
//! about the endpoint, so the fault is unknown.
//! Invariants: `VERDICT-1` only a 2xx delivers; `VERDICT-2` a fault of ours costs no retry and
//! changes no breaker. [`triggers_protocol::RetryPolicy`] has the times.

use super::outcome::{SendFailure, SendOutcome};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_store::tables::batch::EndpointHealth;
use triggers_store::tables::operations::AttemptResult;

/// Whose fault it is that there was no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Theirs,
    Ours,
    Unknown,
}

fn blame(failure: SendFailure) -> Blame {
    match failure {
        SendFailure::Node(_) if is_planted(Bug::OwnFaultCharged) => Blame::Theirs,
        SendFailure::Node(_) => Blame::Ours,
        SendFailure::Forbidden | SendFailure::Unclear => Blame::Unknown,
        SendFailure::Dns
        | SendFailure::Connect
        | SendFailure::Tls
        | SendFailure::Timeout
        | SendFailure::Protocol => Blame::Theirs,
    }
}

/// The result for the event and the health of the endpoint.
pub(crate) fn verdict(outcome: SendOutcome) -> (AttemptResult, EndpointHealth) {
    match outcome {
        SendOutcome::Answered { status: http_status @ 200..=299, .. } => {
            (AttemptResult::Delivered { http_status }, EndpointHealth::Good)
        }
        SendOutcome::Answered { status: http_status @ 410, .. } => {
            (AttemptResult::Gone { http_status }, EndpointHealth::Unknown)
        }
        SendOutcome::Answered { status, retry_after } => {
            let health = if status >= 500 && retry_after.is_none() {
                EndpointHealth::Bad
            } else {
                EndpointHealth::Alive
            };
            let error = format!("the endpoint answered {status}");
            (AttemptResult::Failed { http_status: Some(status), error, retry_after }, health)
        }
        SendOutcome::Failed { status, failure, reason } => {
            let health = match blame(failure) {
                Blame::Theirs => EndpointHealth::Bad,
                Blame::Unknown => EndpointHealth::Unknown,
                Blame::Ours => return (AttemptResult::Unsent, EndpointHealth::Unknown),
            };
            let error = reason;
            (AttemptResult::Failed { http_status: status, error, retry_after: None }, health)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_faults::NodeFault;
    use std::time::Duration;

    fn answered(status: u16, retry_after_seconds: Option<u64>) -> (AttemptResult, EndpointHealth) {
        verdict(SendOutcome::Answered {
            status,
            retry_after: retry_after_seconds.map(Duration::from_secs),
        })
    }

    #[test]
    fn nothing_but_a_2xx_delivers() {
        for status in 100..=599 {
            let is_delivered = matches!(answered(status, None).0, AttemptResult::Delivered { .. });
            assert_eq!(is_delivered, (200..300).contains(&status), "VERDICT-1: {status}");
        }
    }

    #[test]
    fn every_outcome_has_the_verdict_of_the_table() {
        assert_eq!(
            answered(410, None),
            (AttemptResult::Gone { http_status: 410 }, EndpointHealth::Unknown)
        );
        for (status, health) in [
            (302, EndpointHealth::Alive),
            (404, EndpointHealth::Alive),
            (429, EndpointHealth::Alive),
            (500, EndpointHealth::Bad),
        ] {
            let (result, found) = answered(status, None);
            assert_eq!(found, health, "{status}");
            let error = format!("the endpoint answered {status}");
            assert_eq!(
                result,
                AttemptResult::Failed { http_status: Some(status), error, retry_after: None }
            );
        }
        let (result, health) = answered(503, Some(7));
        let seven = Some(Duration::from_secs(7));
        assert!(
            matches!(result, AttemptResult::Failed { retry_after, .. } if retry_after == seven)
        );
        assert_eq!(health, EndpointHealth::Alive);
        for (failure, health) in [
            (SendFailure::Forbidden, EndpointHealth::Unknown),
            (SendFailure::Unclear, EndpointHealth::Unknown),
            (SendFailure::Dns, EndpointHealth::Bad),
            (SendFailure::Connect, EndpointHealth::Bad),
            (SendFailure::Tls, EndpointHealth::Bad),
            (SendFailure::Timeout, EndpointHealth::Bad),
            (SendFailure::Protocol, EndpointHealth::Bad),
        ] {
            let failed = SendOutcome::Failed { status: None, failure, reason: "why".into() };
            let failing =
                AttemptResult::Failed { http_status: None, error: "why".into(), retry_after: None };
            assert_eq!(verdict(failed), (failing, health), "{failure:?}");
        }
    }

    #[test]
    fn a_fault_of_the_node_costs_the_endpoint_nothing() {
        for fault in NodeFault::ALL {
            let failure = SendFailure::Node(fault);
            let failed = SendOutcome::Failed { status: None, failure, reason: "why".into() };
            let unsent = (AttemptResult::Unsent, EndpointHealth::Unknown);
            assert_eq!(verdict(failed), unsent, "VERDICT-2: {fault:?}");
        }
    }
}
