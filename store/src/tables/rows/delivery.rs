//! The row of an event's delivery: its state, its lease, its webhooks, its attempts.
//!
//! - `DELIVERY-1`: an event whose delivery has no state has the state of its own row.

use super::{LeaseToken, Row};
use bincode::{Decode, Encode};
use triggers_protocol::api::AttemptOutcome;
use triggers_protocol::event::EventState;
use triggers_protocol::{EventId, SubscriptionId, Timestamp};

/// Ended attempts of each consumer that are kept at least; older ones are removed.
pub const ATTEMPTS_KEPT_MAX: usize = 50;

/// What an event that is not pushed waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Claim {
    /// The event is neither leased nor waiting for a retry.
    None,
    /// A consumer holds it.
    Leased {
        /// End of the lease.
        until: Timestamp,
    },
    /// It waits for its next attempt.
    Waiting {
        /// Time from which a consumer may lease it.
        due: Timestamp,
    },
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attempt {
    /// Number of the attempt, from 1 on.
    pub number: u32,
    /// Time at which it began.
    pub started_at: Timestamp,
    /// Time at which it ended.
    pub finished_at: Option<Timestamp>,
    /// Outcome of the attempt.
    pub outcome: AttemptOutcome,
    /// Error of a failed attempt.
    pub error: Option<String>,
    /// HTTP status of the endpoint's answer, if there was one.
    pub http_status: Option<u16>,
    /// Subscription that it was made for; none for the lease of a consumer.
    pub subscription: Option<SubscriptionId>,
}

/// State of the delivery of an event to one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PushState {
    /// It waits for its next attempt.
    Waiting {
        /// Time from which the attempt may begin.
        due: Timestamp,
    },
    /// An attempt is in flight.
    Running {
        /// Time from which the attempt counts as interrupted if no result is stored.
        until: Timestamp,
        /// Identity of the attempt.
        token: u64,
    },
    /// The endpoint has accepted the event.
    Delivered,
    /// The event was not accepted, and no further attempt follows.
    Dropped,
    /// When its next attempt was due, the subscription did not select the event any more.
    Skipped,
}

impl PushState {
    /// Time in the subscription's index by due time; none if the delivery is finished.
    pub fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due } => Some(due),
            Self::Running { until, .. } => Some(until),
            Self::Delivered | Self::Dropped | Self::Skipped => None,
        }
    }
}

/// The delivery of an event to one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Push {
    /// Target of the delivery.
    pub subscription: SubscriptionId,
    /// State of the delivery.
    pub state: PushState,
    /// Time at which its first attempt was due, or began.
    pub since: Timestamp,
    /// Number of attempts that have failed.
    pub failures: u32,
    /// Number of attempts that ended without a result, because their node stopped.
    pub interruptions: u32,
    /// Number of retries that the endpoint asked for earlier than the policy allows.
    pub deferrals: u32,
    /// Number of attempts in a row that the node could not make.
    pub postponements: u32,
    /// Token of the last attempt whose result was stored.
    pub completed: u64,
}

impl Push {
    /// A delivery that waits for its first attempt, due at `due`.
    pub fn new(subscription: SubscriptionId, due: Timestamp) -> Self {
        Self {
            subscription,
            state: PushState::Waiting { due },
            since: due,
            failures: 0,
            interruptions: 0,
            deferrals: 0,
            postponements: 0,
            completed: 0,
        }
    }
}

/// Delivery of an event to consumers or subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Delivery {
    /// Lease or wait of an event that is not pushed.
    pub claim: Claim,
    /// Token of the last lease.
    pub token: Option<LeaseToken>,
    /// Number of attempts before the last replay; the retry policy does not count them.
    pub attempts_before: u32,
    /// Nonce of the command that changed it last.
    pub changed_by: u64,
    /// The last attempts, oldest first; every one that runs is among them.
    pub attempts: Vec<Attempt>,
    /// Older attempts of some consumers are in rows of their own.
    pub has_older_attempts: bool,
    /// Deliveries to subscriptions; empty if the event waits to be pulled.
    pub pushes: Vec<Push>,
    /// State of the event; none if the event's own row has it (`DELIVERY-1`).
    pub state: Option<EventState>,
}

impl Row for Delivery {}

impl Delivery {
    /// Time at which the next webhook that waits is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.pushes.iter().filter_map(|push| match push.state {
            PushState::Waiting { due } => Some(due),
            PushState::Running { .. }
            | PushState::Delivered
            | PushState::Dropped
            | PushState::Skipped => None,
        });
        waiting.min()
    }

    /// Delivery of an event that was never attempted.
    pub const NEW: Delivery = Delivery {
        claim: Claim::None,
        token: None,
        attempts_before: 0,
        changed_by: 0,
        attempts: Vec::new(),
        has_older_attempts: false,
        pushes: Vec::new(),
        state: None,
    };
}

/// Ended attempts of one event by one consumer that are not in the delivery's row, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct OlderAttempts(pub Vec<Attempt>);
impl Row for OlderAttempts {}

/// Events that the commands of the last batch leased or claimed, by the nonce of each command.
/// A repeated batch finds its own leases here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecentLeases(pub Vec<(u64, Vec<EventId>)>);
impl Row for RecentLeases {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use triggers_protocol::EventStatus;
    use triggers_protocol::codec::CodecError;

    proptest! {
        #[test]
        fn deliveries_round_trip(
            until: u32, token: Option<[u8; 16]>, changed_by: u64, attempts in 0u32..4,
            error: Option<String>,
        ) {
            let until = Timestamp::from_millis(until.into());
            let attempt = Attempt {
                number: attempts,
                started_at: until,
                finished_at: None,
                outcome: AttemptOutcome::InProgress,
                error: error.clone(),
                http_status: None,
                subscription: None,
            };
            let attempts = vec![attempt; attempts as usize];
            let status = EventStatus::Failed;
            let state = Some(EventState { status, last_error: error, ..EventState::ACCEPTED });
            let claim = Claim::Leased { until };
            let delivery = Delivery { claim, token, changed_by, attempts, state, ..Delivery::NEW };
            prop_assert_eq!(&Delivery::from_bytes(&delivery.to_bytes()).unwrap(), &delivery);
        }
    }

    #[test]
    fn a_row_of_another_version_is_rejected() {
        let mut bytes = Delivery::NEW.to_bytes();
        bytes[0] = 2;
        let error = CodecError::Version { found: 2, expected: 1 };
        assert_eq!(Delivery::from_bytes(&bytes), Err(error));
    }
}
