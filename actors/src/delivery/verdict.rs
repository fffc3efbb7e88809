//! Interprets the outcome of a webhook: what it means for the event and for the endpoint's health.
//!
//! | outcome | the event | the endpoint |
//! |---|---|---|
//! | 2xx | delivered | good |
//! | 410 | given up; the subscription is disabled | |
//! | 429, 503 with `Retry-After` | next attempt at that time | alive; the subscription pauses |
//! | 5xx | next attempt by the retry policy | bad |
//! | every other status | next attempt by the retry policy | alive |
//! | no complete answer | next attempt by the retry policy | bad |
//! | a target that may not be called | next attempt by the retry policy | |
//!
//! A forbidden target is tried again because its name may get another address.
//! Invariant: `VERDICT-1` only a 2xx delivers. [`triggers_protocol::RetryPolicy`] has the times.

use super::{SendFailure, SendOutcome};
use triggers_store::tables::batch::EndpointHealth;
use triggers_store::tables::operations::AttemptResult;

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
            let health = match failure {
                SendFailure::Forbidden => EndpointHealth::Unknown,
                SendFailure::Dns
                | SendFailure::Connect
                | SendFailure::Tls
                | SendFailure::Timeout
                | SendFailure::Protocol => EndpointHealth::Bad,
            };
            let error = reason;
            (AttemptResult::Failed { http_status: status, error, retry_after: None }, health)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
}
